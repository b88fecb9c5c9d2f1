//! The bytes' way to the server: TCP so far; TLS and Unix sockets belong here.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connected socket.
#[derive(Debug)]
pub(super) struct Transport {
    socket: TcpStream,
}

impl Transport {
    pub(super) async fn connect(host: &str, port: u16) -> io::Result<Self> {
        let socket = TcpStream::connect((host, port)).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket })
    }

    /// Reads what is there, at least one byte; zero is the end. Cancel safe.
    pub(super) async fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.socket.read(room).await
    }

    /// Writes all of `outgoing` and empties it. Cancel safe: what was not written stays in it.
    pub(super) async fn write_all(&mut self, outgoing: &mut BytesMut) -> io::Result<()> {
        self.socket.write_all_buf(outgoing).await
    }
}
