//! A way between two servers that can be cut, or that is slow.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

/// Forwards TCP connections on a port of its own to another one, until it is cut.
#[derive(Debug)]
pub struct Link {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<Traffic>,
}

#[derive(Debug, Default)]
struct Traffic {
    is_cut: bool,
    is_over: bool,
    sockets: Vec<TcpStream>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Traffic> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// A link to a port of this machine.
    ///
    /// # Errors
    /// No port is free.
    pub fn to(target: u16) -> Result<Self> {
        Self::slow(target, Duration::ZERO)
    }

    /// A link on which every byte takes so long, in both directions.
    ///
    /// # Errors
    /// No port is free.
    pub fn slow(target: u16, delay: Duration) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        thread::Builder::new()
            .name("link".to_owned())
            .spawn(move || {
                for client in listener.incoming() {
                    if accepting.lock().is_over {
                        return;
                    }
                    // A connection that fails is the servers' business: they try again.
                    let _ = client.and_then(|client| forward(&accepting, client, target, delay));
                }
            })?;
        Ok(Self { port, shared })
    }

    /// The port to connect to.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// How many connections have been made over it, unless it is cut.
    pub fn connections(&self) -> usize {
        // Two ends each.
        self.shared.lock().sockets.len() / 2
    }

    /// Ends all connections, and refuses new ones.
    pub fn cut(&self) {
        let mut state = self.shared.lock();
        state.is_cut = true;
        for socket in state.sockets.drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

fn forward(shared: &Shared, client: TcpStream, target: u16, delay: Duration) -> io::Result<()> {
    let server = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, target)))?;
    let mut state = shared.lock();
    if state.is_cut {
        return Ok(());
    }
    for (from, to) in [
        (client.try_clone()?, server.try_clone()?),
        (server.try_clone()?, client.try_clone()?),
    ] {
        thread::spawn(move || {
            let _ = copy(from, &to, delay);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
    state.sockets.extend([client, server]);
    Ok(())
}

/// Copies to the end; what is under way does not keep what comes behind it from being taken.
fn copy(mut from: TcpStream, mut to: &TcpStream, delay: Duration) -> io::Result<()> {
    if delay.is_zero() {
        return io::copy(&mut from, &mut to).map(drop);
    }
    to.set_nodelay(true)?;
    let (sender, under_way) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let due = Instant::now() + delay;
            if sender.send((due, buffer[..read].to_vec())).is_err() {
                return;
            }
        }
    });
    for (due, bytes) in under_way {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        to.write_all(&bytes)?;
    }
    Ok(())
}

impl Drop for Link {
    fn drop(&mut self) {
        self.cut();
        self.shared.lock().is_over = true;
        // Wakes the thread that accepts.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_arrives_until_the_cut() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let link = Link::to(listener.local_addr().unwrap().port()).unwrap();
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, link.port())).unwrap();
        client.write_all(b"there").unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let mut five = [0; 5];
        server.read_exact(&mut five).unwrap();
        assert_eq!(&five, b"there");
        assert_eq!(link.connections(), 1);
        link.cut();
        assert_eq!(server.read(&mut five).unwrap(), 0);
        let mut refused = TcpStream::connect((Ipv4Addr::LOCALHOST, link.port())).unwrap();
        assert_eq!(refused.read(&mut five).unwrap_or_default(), 0);
    }

    #[test]
    fn a_slow_link_delays_both_ways() {
        let delay = Duration::from_millis(30);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let link = Link::slow(listener.local_addr().unwrap().port(), delay).unwrap();
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, link.port())).unwrap();
        let sent = Instant::now();
        client.write_all(b"there").unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let mut five = [0; 5];
        server.read_exact(&mut five).unwrap();
        server.write_all(&five).unwrap();
        client.read_exact(&mut five).unwrap();
        assert_eq!(&five, b"there");
        assert!(sent.elapsed() >= 2 * delay);
    }
}
