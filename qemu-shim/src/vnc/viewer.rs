//! One viewer: the server's side of a connection, without I/O.
//!
//! Bytes that arrived go in through [`Viewer::receive`], what changed on the screen through [`Viewer::damage`]; bytes to send
//! come out of [`Viewer::output`]. A viewer is sent a new picture only when it has taken the last one, so that a slow one
//! costs no more memory than one picture and holds up nobody.

use std::time::{Duration, Instant};

use thiserror::Error;

use crate::damage::{Damage, Rect};
use crate::input::InputSink;
use crate::input::held::Held;
use crate::rfb::encode::pseudo::Status;
use crate::rfb::encodings::Encodings;
use crate::rfb::handshake::{Handshake, HandshakeError, Policy, Step};
use crate::rfb::message::MessageError;
use crate::rfb::parser::MessageParser;
use crate::rfb::pixel_format::{PixelFormat, PixelFormatError};
use crate::rfb::server_message::server_init;
use crate::rfb::throttle::{Peer, Throttle};

use super::output::Output;
use super::scroll::Move;

mod messages;
mod screen;
#[cfg(test)]
mod tests;

/// How long a handshake may take: a person types a password in the middle of it.
const HANDSHAKE: Duration = Duration::from_secs(120);
/// A viewer that does not take its answers is not asked for more questions: fences, mostly.
const MAX_ANSWERS: usize = 64 << 10;
/// Bytes of a message that is not all there yet.
const MAX_UNREAD: usize = 4096;

/// Why a connection ends.
#[derive(Debug, Error)]
pub enum Goodbye {
    /// It did not get in.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// It did not get in within two minutes.
    #[error("the handshake was not finished within {} seconds", HANDSHAKE.as_secs())]
    TooSlow,
    /// It said something that has no end we know.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// It wants pixels that cannot be made.
    #[error(transparent)]
    PixelFormat(#[from] PixelFormatError),
    /// A message of more bytes than any has.
    #[error("{0} bytes that make no message")]
    Unread(usize),
}

/// What a viewer needs to know of the world, and what it wants of it.
pub struct Room<'a> {
    /// The time.
    pub now: Instant,
    /// Who remembers wrong passwords.
    pub throttle: &'a mut Throttle,
    /// Where keys and pointers go; none = nobody may touch anything.
    pub sink: Option<&'a mut (dyn InputSink + 'static)>,
    /// The screen, for a viewer that comes in: width and height in pixels.
    pub screen: (u16, u16),
    /// The desktop's name.
    pub name: &'a str,
    /// Wanted: the screen shall have this size.
    pub resize: Option<(u16, u16)>,
    /// Found: the viewer did something that the guest may answer.
    pub is_active: bool,
}

impl std::fmt::Debug for Room<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Room").field("screen", &self.screen).finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum State {
    Handshake(Handshake),
    /// The password was looked at; the answer has to wait.
    Waiting {
        handshake: Handshake,
        until: Instant,
        failed: Option<(Vec<u8>, HandshakeError)>,
    },
    Ready,
    /// Nothing more is read; what is in the output is still sent.
    Leaving,
}

/// A viewer.
#[derive(Debug)]
pub struct Viewer {
    state: State,
    peer: Peer,
    since: Instant,
    parser: MessageParser,
    unread: Vec<u8>,
    starts_tls: bool,
    pub(super) output: Output,
    pub(super) encodings: Encodings,
    pub(super) format: PixelFormat,
    /// The screen as the viewer has it, in pixels, and what of it is not up to date.
    pub(super) size: (u16, u16),
    pub(super) dirty: Damage,
    /// Rows that it can copy from what it has; `dirty` is the rest.
    pub(super) moved: Option<Move>,
    /// What it asked for, and what it wants without asking.
    pub(super) request: Option<Rect>,
    pub(super) continuous: Option<Rect>,
    /// What it has not been told yet.
    pub(super) news: News,
    holds_input: bool,
    /// What it holds down.
    pub(super) held: Held,
}

/// What a viewer has not been told yet, beside pixels.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a pseudo-encoding of its own")]
pub(super) struct News {
    pub(super) size: bool,
    /// The answer to its wish for another size: rfbproto's reason and status.
    pub(super) size_answer: Option<Status>,
    pub(super) cursor: bool,
    pub(super) extended_key: bool,
    pub(super) extended_buttons: bool,
    /// The desktop's name.
    pub(super) name: bool,
}

impl News {
    pub(super) fn is_empty(self) -> bool {
        let Self { size, size_answer, cursor, extended_key, extended_buttons, name } = self;
        !(size || size_answer.is_some() || cursor || extended_key || extended_buttons || name)
    }
}

impl Viewer {
    /// A viewer that just connected. The challenge is random, and used once.
    #[must_use]
    pub fn new(peer: Peer, policy: Policy, challenge: [u8; 16], now: Instant) -> Self {
        Self {
            state: State::Handshake(Handshake::new(policy, challenge)),
            peer,
            since: now,
            parser: MessageParser::new(),
            unread: Vec::new(),
            starts_tls: false,
            output: Output::default(),
            encodings: Encodings::default(),
            format: PixelFormat::SERVER,
            size: (0, 0),
            dirty: Damage::default(),
            moved: None,
            request: None,
            continuous: None,
            news: News::default(),
            holds_input: false,
            held: Held::default(),
        }
    }

    /// Whether the handshake is over: the viewer looks, or could.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready)
    }

    /// Whether what arrives may be fed: not while an answer has to wait, nor while the viewer does not take answers.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        match self.state {
            State::Handshake(_) => !self.starts_tls,
            State::Ready => self.output.answers() < MAX_ANSWERS,
            State::Waiting { .. } | State::Leaving => false,
        }
    }

    /// When [`Viewer::receive`] is to be called again even though nothing arrived.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Handshake(_) => Some(self.since + HANDSHAKE),
            State::Waiting { until, .. } => Some(*until),
            State::Ready | State::Leaving => None,
        }
    }

    /// Whether it is over once the output is sent.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        matches!(self.state, State::Leaving)
    }

    /// What is on its way to the viewer.
    #[must_use]
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// The same, for whoever sends it.
    pub fn output_mut(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Whether TLS is to be started now that the output is sent. Asked once.
    pub fn starts_tls(&mut self) -> bool {
        self.output.is_empty() && std::mem::take(&mut self.starts_tls)
    }

    /// Whether it draws the pointer itself. One that only looks is shown the guest's where the guest has it.
    #[must_use]
    pub fn draws_cursor(&self) -> bool {
        self.holds_input && (self.encodings.cursor || self.encodings.cursor_with_alpha)
    }

    /// Whether it waits for pixels, or would take them.
    #[must_use]
    pub fn is_watching(&self) -> bool {
        self.is_ready() && self.output.is_empty() && (self.request.is_some() || self.continuous.is_some())
    }

    /// Takes bytes that arrived, or none when its deadline is over.
    ///
    /// # Errors
    /// [`Goodbye`] when the connection is to end, after the output is sent.
    pub fn receive(&mut self, bytes: &[u8], room: &mut Room<'_>) -> Result<(), Goodbye> {
        let mut unread = std::mem::take(&mut self.unread);
        unread.extend_from_slice(bytes);
        let mut input = unread.as_slice();
        let result = self.read(&mut input, room);
        let left = input.len();
        unread.drain(..unread.len() - left);
        self.unread = unread;
        let result = result.and(if left > MAX_UNREAD { Err(Goodbye::Unread(left)) } else { Ok(()) });
        if result.is_err() {
            self.state = State::Leaving;
        }
        result
    }

    fn read(&mut self, input: &mut &[u8], room: &mut Room<'_>) -> Result<(), Goodbye> {
        loop {
            match std::mem::replace(&mut self.state, State::Leaving) {
                State::Handshake(handshake) => {
                    if room.now >= self.since + HANDSHAKE {
                        return Err(Goodbye::TooSlow);
                    }
                    if !self.shake(handshake, input, room)? {
                        return Ok(());
                    }
                }
                State::Waiting { handshake, until, failed } if room.now >= until => match failed {
                    Some((reply, error)) => {
                        self.output.push(&reply);
                        return Err(error.into());
                    }
                    None => self.state = State::Handshake(handshake),
                },
                State::Ready => {
                    self.state = State::Ready;
                    while let Some(message) = self.parser.next(input)? {
                        self.obey(message, room)?;
                    }
                    return Ok(());
                }
                state @ (State::Waiting { .. } | State::Leaving) => {
                    self.state = state;
                    return Ok(());
                }
            }
        }
    }

    /// One step of the handshake. Returns whether there is more to do now.
    fn shake(
        &mut self,
        mut handshake: Handshake,
        input: &mut &[u8],
        room: &mut Room<'_>,
    ) -> Result<bool, Goodbye> {
        let step = handshake.feed(input);
        self.state = State::Handshake(handshake);
        match step {
            Step::NeedMore => return Ok(false),
            Step::Send(bytes) => self.output.push(&bytes),
            Step::StartTls(bytes) => {
                self.output.push(&bytes);
                self.starts_tls = true;
                return Ok(false);
            }
            Step::Authenticated => self.wait(room.throttle.right(self.peer, room.now), None),
            Step::Failed { reply, error } if error.is_wrong_password() => {
                let until = room.throttle.wrong(self.peer, room.now);
                let (count, total) = (room.throttle.failures(self.peer), room.throttle.total_failures());
                tracing::warn!(peer = ?self.peer, count, total, "wrong VNC password");
                self.wait(until, Some((reply, error)));
            }
            Step::Failed { reply, error } => {
                self.output.push(&reply);
                return Err(error.into());
            }
            // Everyone may look at the same time, whatever a viewer would like.
            Step::Ready { shared: _ } => self.come_in(room),
        }
        Ok(true)
    }

    fn wait(&mut self, until: Instant, failed: Option<(Vec<u8>, HandshakeError)>) {
        if let State::Handshake(handshake) = std::mem::replace(&mut self.state, State::Leaving) {
            self.state = State::Waiting { handshake, until, failed };
        }
    }

    fn come_in(&mut self, room: &mut Room<'_>) {
        let (width, height) = room.screen;
        self.output.push(&server_init(width, height, PixelFormat::SERVER.to_bytes(), room.name));
        self.size = room.screen;
        self.dirty = Damage::new(width.into(), height.into());
        self.dirty.add_all();
        self.holds_input = room.sink.is_some();
        self.state = State::Ready;
    }

    /// The answer to [`Room::resize`]: what became of the wish.
    pub fn answer_resize(&mut self, status: Status) {
        self.news.size_answer = Some(status);
    }
}

/// The size of a screen as the protocol can say it.
#[must_use]
pub fn wire_size(width: u32, height: u32) -> (u16, u16) {
    let side = |side| u16::try_from(side).unwrap_or(u16::MAX);
    (side(width), side(height))
}

/// The sink says each failure once; the viewer goes on.
pub(super) fn told(result: Result<(), crate::input::InputError>) {
    if let Err(error) = result {
        tracing::warn!("{error}");
    }
}
