//! A WebSocket as a byte stream: binary messages back to back (RFC 6455), where one ends means nothing.
//!
//! tungstenite does the framing. What this adds: messages are bounded both ways, at most one outgoing message waits for
//! a peer that does not read, pings cannot keep the loop busy, and every way of ending is an end or an error.

use std::io::{self, Read, Write};

use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Bytes, Error, Message};

/// Largest message and frame taken from a peer, in bytes. Viewers send what fits in a few hundred; noVNC collects up to
/// 10 KiB.
pub const MAX_MESSAGE: usize = 256 * 1024;

/// Largest message sent, in bytes; longer writes become several.
pub const CHUNK: usize = 128 * 1024;

/// Read at once.
const READ_BUFFER: usize = 16 * 1024;

/// Room beside one message for the answers to pings and the close frame.
const CONTROL_ROOM: usize = 1024;

/// Messages without content that one call of [`WebSocket::read`] passes over.
const MAX_IDLE_MESSAGES: usize = 16;

/// The state of a WebSocket after its opening handshake, without its transport.
#[derive(Debug)]
pub(super) struct WebSocket {
    context: WebSocketContext,
    /// What is left of the last message.
    message: Bytes,
    /// Whether bytes wait in the outgoing buffer.
    pending: bool,
    ended: bool,
}

impl WebSocket {
    /// Begins with what was read behind the request head.
    pub(super) fn new(early: Vec<u8>) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(CHUNK + CONTROL_ROOM)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let context = WebSocketContext::from_partially_read(early, Role::Server, Some(config));
        Self { context, message: Bytes::new(), pending: false, ended: false }
    }

    pub(super) fn wants_write(&self) -> bool {
        self.pending
    }

    /// Reads bytes of messages; `Ok(0)` when the peer has ended the stream, by a close frame or without.
    pub(super) fn read(
        &mut self,
        transport: &mut (impl Read + Write),
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        for _ in 0..MAX_IDLE_MESSAGES {
            if !self.message.is_empty() {
                let length = self.message.len().min(buffer.len());
                let part = self.message.split_to(length);
                for (to, from) in buffer.iter_mut().zip(&part) {
                    *to = *from;
                }
                return Ok(length);
            }
            if self.ended {
                return Ok(0);
            }
            match self.context.read(transport) {
                Ok(Message::Binary(bytes)) => self.message = bytes,
                Ok(Message::Text(_)) => {
                    self.fail(transport, CloseCode::Unsupported);
                    let text = "expected binary messages, found a text message";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
                Ok(Message::Close(_)) => {
                    self.ended = true;
                    let _ = self.context.flush(transport);
                }
                // The answer to a ping waits in the context.
                Ok(_) => self.settle_flush(transport)?,
                Err(error) => return self.read_failed(transport, error),
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn read_failed(&mut self, transport: &mut (impl Read + Write), error: Error) -> io::Result<usize> {
        use tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
        match error {
            Error::ConnectionClosed
            | Error::AlreadyClosed
            | Error::Protocol(ResetWithoutClosingHandshake) => {
                self.ended = true;
                Ok(0)
            }
            Error::Io(error) => Err(error),
            Error::Capacity(_) => {
                self.fail(transport, CloseCode::Size);
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
            error => {
                self.fail(transport, CloseCode::Protocol);
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }

    /// Takes bytes as one message, if the one before has left.
    pub(super) fn write(&mut self, transport: &mut (impl Read + Write), bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if self.pending {
            self.flush(transport)?;
        }
        let chunk = bytes.get(..CHUNK).unwrap_or(bytes);
        let message = Message::Binary(Bytes::copy_from_slice(chunk));
        match self.context.write(transport, message) {
            Ok(()) => Ok(chunk.len()),
            // The message is in the buffer; the transport did not take all of it.
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                self.pending = true;
                Ok(chunk.len())
            }
            // Answers to pings fill the buffer: the peer does not read.
            Err(Error::WriteBufferFull(_)) => {
                self.pending = true;
                Err(io::ErrorKind::WouldBlock.into())
            }
            Err(error) => Err(into_io(error)),
        }
    }

    /// Sends what waits; `WouldBlock` until all of it has left.
    pub(super) fn flush(&mut self, transport: &mut (impl Read + Write)) -> io::Result<()> {
        self.pending = true;
        self.context.flush(transport).map_err(into_io)?;
        self.pending = false;
        Ok(())
    }

    /// Says goodbye as far as the transport takes it now.
    pub(super) fn close(&mut self, transport: &mut (impl Read + Write)) {
        self.fail(transport, CloseCode::Normal);
    }

    fn fail(&mut self, transport: &mut (impl Read + Write), code: CloseCode) {
        self.ended = true;
        self.message.clear();
        // A peer that cannot be told notices by itself.
        let _ = self.context.close(transport, Some(CloseFrame { code, reason: "".into() }));
    }

    fn settle_flush(&mut self, transport: &mut (impl Read + Write)) -> io::Result<()> {
        match self.flush(transport) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        error => io::Error::new(io::ErrorKind::BrokenPipe, error),
    }
}
