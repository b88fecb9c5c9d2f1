//! The bytes' way to the server: TCP so far; TLS and Unix sockets belong here.

use std::io;

use bytes::BytesMut;
use rustix::net::sockopt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::keepalive::{KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_RETRIES, UNACKNOWLEDGED};

/// A connected socket.
#[derive(Debug)]
pub(super) struct Transport {
    socket: Socket,
}

/// The socket, with or without the runtime's attention.
#[derive(Debug)]
enum Socket {
    Watched(TcpStream),
    /// Arriving bytes wake nobody.
    Unwatched(std::net::TcpStream),
    /// Watching failed; the error was reported.
    Lost,
}

impl Transport {
    pub(super) async fn connect(host: &str, port: u16) -> io::Result<Self> {
        let socket = TcpStream::connect((host, port)).await?;
        socket.set_nodelay(true)?;
        sockopt::set_socket_keepalive(&socket, true)?;
        sockopt::set_tcp_keepidle(&socket, KEEPALIVE_IDLE)?;
        sockopt::set_tcp_keepintvl(&socket, KEEPALIVE_INTERVAL)?;
        sockopt::set_tcp_keepcnt(&socket, KEEPALIVE_RETRIES)?;
        let unacknowledged = u32::try_from(UNACKNOWLEDGED.as_millis()).unwrap_or(u32::MAX);
        sockopt::set_tcp_user_timeout(&socket, unacknowledged)?;
        Ok(Self {
            socket: Socket::Watched(socket),
        })
    }

    /// Reads what is there, at least one byte; zero is the end. Cancel safe.
    pub(super) async fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.watched()?.read(room).await
    }

    /// Writes all of `outgoing` and empties it. Cancel safe: what was not written stays in it.
    pub(super) async fn write_all(&mut self, outgoing: &mut BytesMut) -> io::Result<()> {
        self.watched()?.write_all_buf(outgoing).await
    }

    /// Takes the socket out of the runtime's poll until it is read or written again. While it is in,
    /// epoll wakes a thread for every packet, also when nobody waits for one.
    pub(super) fn unwatch(&mut self) -> io::Result<()> {
        self.socket = match std::mem::replace(&mut self.socket, Socket::Lost) {
            Socket::Watched(socket) => Socket::Unwatched(socket.into_std()?),
            other => other,
        };
        Ok(())
    }

    fn watched(&mut self) -> io::Result<&mut TcpStream> {
        self.socket = match std::mem::replace(&mut self.socket, Socket::Lost) {
            Socket::Unwatched(socket) => Socket::Watched(TcpStream::from_std(socket)?),
            other => other,
        };
        match &mut self.socket {
            Socket::Watched(socket) => Ok(socket),
            Socket::Unwatched(_) | Socket::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}
