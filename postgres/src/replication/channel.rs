//! A transport with its two buffers: whole messages in, whole messages out.

use std::io;

use bytes::BytesMut;
use postgres_protocol::message::backend::Message;

use super::buffer::{Envelope, ReceiveBuffer};
use super::error::{Failure, ServerError};
use super::transport::Transport;

/// A connection to a server that speaks in messages.
#[derive(Debug)]
pub(super) struct Channel {
    transport: Transport,
    pub(super) received: ReceiveBuffer,
    /// Whole messages, but for the front of the first, which may be on its way already.
    pub(super) outgoing: BytesMut,
}

impl Channel {
    pub(super) fn new(transport: Transport) -> Self {
        Self {
            transport,
            received: ReceiveBuffer::new(),
            outgoing: BytesMut::new(),
        }
    }

    /// Sends what is in `outgoing`. Cancel safe: the rest is sent by the next call.
    pub(super) async fn flush(&mut self) -> Result<(), Failure> {
        self.transport
            .write_all(&mut self.outgoing)
            .await
            .map_err(Failure::Lost)
    }

    /// Lets arriving bytes gather, waking nobody, until the next read or write.
    pub(super) fn unwatch(&mut self) -> Result<(), Failure> {
        self.transport.unwatch().map_err(Failure::Lost)
    }

    /// Reads what is there, at least one byte, and says how much it was. Cancel safe.
    ///
    /// Returns at once, with zero, while a whole message fills the buffer.
    pub(super) async fn fill(&mut self) -> Result<usize, Failure> {
        let room = self.received.room()?;
        if room.is_empty() {
            return Ok(0);
        }
        match self.transport.read(room).await {
            Ok(0) => Err(Failure::Closed),
            Ok(bytes) => {
                self.received.filled(bytes);
                Ok(bytes)
            }
            Err(error) => Err(Failure::Lost(error)),
        }
    }

    /// Waits for the next message that is neither a notice nor a parameter's value. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Envelope, Failure> {
        loop {
            match self.received.next()? {
                Some(next) if matches!(next.tag, b'N' | b'S' | b'A') => {}
                Some(next) => return Ok(next),
                None => {
                    self.fill().await?;
                }
            }
        }
    }

    /// Waits for the next message of a log-in or query, parsed. An error of the server is an `Err`.
    pub(super) async fn receive(&mut self) -> Result<Message, Failure> {
        let next = self.next().await?;
        match self.parse(&next)? {
            Message::ErrorResponse(body) => Err(server_error(ServerError::read(body.fields()))),
            message => Ok(message),
        }
    }

    /// What an `ErrorResponse` says.
    pub(super) fn read_error(&self, response: &Envelope) -> Failure {
        match self.parse(response) {
            Ok(Message::ErrorResponse(body)) => server_error(ServerError::read(body.fields())),
            Ok(_) => unexpected("as an error", response.tag),
            Err(failure) => failure,
        }
    }

    fn parse(&self, next: &Envelope) -> Result<Message, Failure> {
        let body = self.received.body(next.body.clone());
        let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
        let mut bytes = BytesMut::with_capacity(body.len() + 5);
        bytes.extend_from_slice(&[next.tag]);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(body);
        match Message::parse(&mut bytes) {
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(Failure::Protocol("a message is cut short".to_owned())),
            Err(error) => Err(malformed(&error)),
        }
    }
}

/// A message that is not due.
pub(super) fn unexpected(when: &str, tag: u8) -> Failure {
    Failure::Protocol(format!("message 0x{tag:02X} came {when}"))
}

/// A message that cannot be parsed.
pub(super) fn malformed(error: &io::Error) -> Failure {
    Failure::Protocol(error.to_string())
}

fn server_error(error: io::Result<ServerError>) -> Failure {
    match error {
        Ok(error) => Failure::Server(Box::new(error)),
        Err(error) => malformed(&error),
    }
}
