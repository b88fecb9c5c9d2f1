//! A way between two servers that can be cut.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::Result;

/// Forwards TCP connections on a port of its own to another one, until it is cut.
#[derive(Debug)]
pub struct Link {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_cut: bool,
    is_over: bool,
    sockets: Vec<TcpStream>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// A link to a port of this machine.
    ///
    /// # Errors
    /// No port is free.
    pub fn to(target: u16) -> Result<Self> {
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
                    let _ = client.and_then(|client| forward(&accepting, client, target));
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

fn forward(shared: &Shared, client: TcpStream, target: u16) -> io::Result<()> {
    let server = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, target)))?;
    let mut state = shared.lock();
    if state.is_cut {
        return Ok(());
    }
    for (mut from, mut to) in [
        (client.try_clone()?, server.try_clone()?),
        (server.try_clone()?, client.try_clone()?),
    ] {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
    state.sockets.extend([client, server]);
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
    use std::io::{Read, Write};

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
}
