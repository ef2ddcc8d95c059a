//! The time between accepting a connection on the web port and knowing what it is: read the request, send the answer.

use std::io::{self, Read, Write};

use super::http::{self, Answer, MAX_HEAD};
use super::origin::Site;
use super::tls::Transport;

/// How far a connection on the web port has come.
#[derive(Debug)]
pub(super) enum Visit {
    /// Reading the request.
    Head(Vec<u8>),
    /// Sending the answer.
    Answer {
        /// What is left to send.
        response: Vec<u8>,
        /// Frames already read, if this becomes a WebSocket.
        upgrade: Option<Vec<u8>>,
    },
    /// All is said; waiting for the peer to go, so that our close does not reset what it has not read yet.
    Leaving,
}

/// What became of a visit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is a WebSocket from here on; these bytes of it have been read.
    WebSocket(Vec<u8>),
    /// The peer has its answer and has gone.
    Over,
}

impl Visit {
    pub(super) fn new() -> Self {
        Self::Head(Vec::new())
    }

    pub(super) fn wants_write(&self) -> bool {
        matches!(self, Self::Answer { .. })
    }

    /// Goes on as far as the transport lets it, then says `WouldBlock`.
    pub(super) fn advance(&mut self, transport: &mut Transport, site: &Site) -> io::Result<Outcome> {
        loop {
            match self {
                Self::Head(head) => {
                    let mut buffer = [0; 2048];
                    let room = MAX_HEAD.saturating_sub(head.len()).min(buffer.len());
                    let buffer = buffer.get_mut(..room).unwrap_or_default();
                    let length = transport.read(buffer)?;
                    if length == 0 {
                        return Ok(Outcome::Over);
                    }
                    head.extend(buffer.iter().take(length));
                    match http::answer(head, site) {
                        None => {}
                        Some(Answer::Respond(response)) => *self = Self::Answer { response, upgrade: None },
                        Some(Answer::Upgrade { response, head: end }) => {
                            let early = head.get(end..).unwrap_or_default().to_vec();
                            *self = Self::Answer { response, upgrade: Some(early) };
                        }
                    }
                }
                Self::Answer { response, upgrade } => {
                    while !response.is_empty() {
                        let length = transport.write(response)?;
                        response.drain(..length.min(response.len()));
                    }
                    transport.flush()?;
                    if let Some(early) = upgrade.take() {
                        return Ok(Outcome::WebSocket(early));
                    }
                    transport.close();
                    *self = Self::Leaving;
                }
                Self::Leaving => {
                    // One look a call: a peer that goes on sending is left at the deadline.
                    return match transport.read(&mut [0; 2048])? {
                        0 => Ok(Outcome::Over),
                        _ => Err(io::ErrorKind::WouldBlock.into()),
                    };
                }
            }
        }
    }
}
