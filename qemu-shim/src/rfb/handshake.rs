//! From the first byte of a connection to the desktop: versions, security, `ClientInit`.
//!
//! ```text
//! client            3.3: the server decides      3.7, 3.8: the client chooses
//! version ────────► None ──────────────────────► ClientInit ─► ready
//!                   VNC: challenge ─► response ─► SecurityResult ─┘
//!                   VeNCrypt: version, subtype, TLS, then one of the two above
//! ```
//!
//! The owner of the connection calls [`Handshake::feed`] until it says [`Step::NeedMore`], and does what each [`Step`] says, in
//! order. At most [`MAX_UNREAD`] bytes are left unread while it waits for more of them.

use thiserror::Error;

use super::bytes::take;
use super::security::{CHALLENGE_SIZE, NONE, Password, VENCRYPT, VNC, X509_NONE, X509_VNC};
use super::server_message::counted;
use super::version::{Announced, SERVER_VERSION, VERSION_SIZE, Version, parse};

/// Bytes that [`Handshake::feed`] may leave for the next call: all but one of a response.
pub const MAX_UNREAD: usize = CHALLENGE_SIZE - 1;

/// The version of VeNCrypt that is spoken, 0.2: the only one that is described.
const VENCRYPT_VERSION: [u8; 2] = [0, 2];

/// How `SecurityResult` begins (RFC 6143 §7.1.3).
const RESULT_OK: [u8; 4] = [0, 0, 0, 0];
const RESULT_FAILED: [u8; 4] = [0, 0, 0, 1];

/// Whether a connection may or must become a TLS one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// There is no certificate, or what carries the connection is encrypted already. Browsers want this one on WebSockets:
    /// they choose VeNCrypt whenever they see it, and cannot do it.
    #[default]
    Off,
    /// Clients may.
    Offered,
    /// Clients that do not are refused.
    Required,
}

/// What is asked of a client.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The password, if one is needed.
    pub password: Option<Password>,
    /// Encryption.
    pub tls: Tls,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until there are more bytes.
    NeedMore,
    /// Send these bytes.
    Send(Vec<u8>),
    /// Send these bytes as they are, then start TLS as its server; from then on what is fed is what came out of it.
    StartTls(Vec<u8>),
    /// The password was right. Feed on when the answer may be sent: see [`Throttle`](super::throttle::Throttle).
    Authenticated,
    /// It is over: send these bytes, if there are any, and close. A [wrong password](HandshakeError::is_wrong_password) is
    /// answered no earlier than a right one would be.
    Failed {
        /// What the protocol lets the client be told.
        reply: Vec<u8>,
        /// Why.
        error: HandshakeError,
    },
    /// Send [`server_init`](super::server_message::server_init); all that follows are
    /// [messages](super::parser::MessageParser).
    Ready {
        /// Whether other clients may stay.
        shared: bool,
    },
}

/// Why a client is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HandshakeError {
    /// It speaks something else.
    #[error("expected the version of an RFB client, \"RFB 003.008\" or an older one, found something else")]
    NotRfb,
    /// It speaks an unknown RFB.
    #[error("expected RFB 3.3, 3.7 or 3.8, found {major}.{minor}")]
    Version {
        /// Before the dot.
        major: u16,
        /// After the dot.
        minor: u16,
    },
    /// It is too old for TLS.
    #[error("expected a client that speaks RFB 3.7 or 3.8, as encryption is required, found 3.3")]
    TlsRequired,
    /// It chose what was not offered.
    #[error("expected a security type that was offered, found {0}")]
    SecurityType(u8),
    /// It speaks another VeNCrypt.
    #[error("expected VeNCrypt 0.2, found {major}.{minor}")]
    VeNCryptVersion {
        /// Before the dot.
        major: u8,
        /// After the dot.
        minor: u8,
    },
    /// It chose what was not offered.
    #[error("expected the VeNCrypt subtype that was offered, {expected}, found {found}")]
    VeNCryptSubtype {
        /// The one on offer.
        expected: u32,
        /// The chosen one.
        found: u32,
    },
    /// It sent bytes that would have been taken for something said inside TLS.
    #[error("expected nothing before TLS is agreed upon, found {0} bytes")]
    EarlyData(usize),
    /// The password is wrong.
    #[error("wrong password")]
    WrongPassword,
    /// It was fed after it had failed.
    #[error("expected no bytes after the handshake failed")]
    Over,
}

impl HandshakeError {
    /// Whether it is one for a [`Throttle`](super::throttle::Throttle).
    #[must_use]
    pub fn is_wrong_password(&self) -> bool {
        matches!(self, Self::WrongPassword)
    }
}

/// Where the conversation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    Version,
    SecurityType,
    VeNCryptVersion,
    VeNCryptSubtype,
    TlsStarted,
    Response,
    Proven,
    ClientInit,
    Ready,
    Failed,
}

/// The server's side of a handshake.
#[derive(Debug)]
pub struct Handshake {
    policy: Policy,
    challenge: [u8; CHALLENGE_SIZE],
    state: State,
    /// [`Version::V3_8`] until the client said otherwise.
    version: Version,
}

impl Handshake {
    /// A handshake on a new connection. The challenge is to be random and used only once.
    #[must_use]
    pub fn new(policy: Policy, challenge: [u8; CHALLENGE_SIZE]) -> Self {
        Self { policy, challenge, state: State::Start, version: Version::V3_8 }
    }

    /// Goes one step on, reading from the front of `input`. What it leaves there comes again, with more behind it.
    pub fn feed(&mut self, input: &mut &[u8]) -> Step {
        match self.state {
            State::Start => self.send(State::Version, SERVER_VERSION.to_vec()),
            State::Version => self.read_version(input),
            State::SecurityType => self.read_security_type(input),
            State::VeNCryptVersion => self.read_vencrypt_version(input),
            State::VeNCryptSubtype => self.read_vencrypt_subtype(input),
            State::TlsStarted if self.policy.password.is_some() => self.challenge(&[]),
            State::TlsStarted | State::Proven => self.send(State::ClientInit, RESULT_OK.to_vec()),
            State::Response => self.read_response(input),
            State::ClientInit => self.read_client_init(input),
            State::Ready => Step::NeedMore,
            State::Failed => Step::Failed { reply: Vec::new(), error: HandshakeError::Over },
        }
    }

    fn read_version(&mut self, input: &mut &[u8]) -> Step {
        let magic = SERVER_VERSION.iter().take(4);
        if magic.zip(input.iter()).any(|(expected, found)| expected != found) {
            // Not worth waiting for its end.
            return self.fail(Vec::new(), HandshakeError::NotRfb);
        }
        let Some(message) = take::<VERSION_SIZE>(input) else { return Step::NeedMore };
        match parse(message) {
            Announced::Garbage => self.fail(Vec::new(), HandshakeError::NotRfb),
            Announced::Foreign { major, minor } => {
                self.version = if major > 3 { Version::V3_8 } else { Version::V3_3 };
                self.refuse(HandshakeError::Version { major, minor })
            }
            Announced::Spoken(version) => {
                self.version = version;
                if version == Version::V3_3 { self.decide() } else { self.offer() }
            }
        }
    }

    /// 3.3: the server decides.
    fn decide(&mut self) -> Step {
        if self.policy.tls == Tls::Required {
            self.refuse(HandshakeError::TlsRequired)
        } else if self.policy.password.is_some() {
            self.challenge(&[0, 0, 0, VNC])
        } else {
            self.send(State::ClientInit, vec![0, 0, 0, NONE])
        }
    }

    /// Since 3.7: the client chooses.
    fn offer(&mut self) -> Step {
        let types = self.security_types();
        let count = u8::try_from(types.len()).unwrap_or(u8::MAX);
        self.send(State::SecurityType, [count].into_iter().chain(types).collect())
    }

    /// What is offered, the better first: many clients take the first that they know.
    fn security_types(&self) -> Vec<u8> {
        let plain = if self.policy.password.is_some() { VNC } else { NONE };
        match self.policy.tls {
            Tls::Off => vec![plain],
            Tls::Offered => vec![VENCRYPT, plain],
            Tls::Required => vec![VENCRYPT],
        }
    }

    fn read_security_type(&mut self, input: &mut &[u8]) -> Step {
        let Some([chosen]) = take(input) else { return Step::NeedMore };
        if !self.security_types().contains(&chosen) {
            return self.fail_result(HandshakeError::SecurityType(chosen));
        }
        match (chosen, self.version) {
            (VENCRYPT, _) => self.send(State::VeNCryptVersion, VENCRYPT_VERSION.to_vec()),
            (VNC, _) => self.challenge(&[]),
            (_, Version::V3_8) => self.send(State::ClientInit, RESULT_OK.to_vec()),
            // Before 3.8 there is no result where there was no question.
            _ => {
                self.state = State::ClientInit;
                self.read_client_init(input)
            }
        }
    }

    fn read_vencrypt_version(&mut self, input: &mut &[u8]) -> Step {
        let Some(chosen @ [major, minor]) = take(input) else { return Step::NeedMore };
        if chosen != VENCRYPT_VERSION {
            return self.fail(vec![u8::MAX], HandshakeError::VeNCryptVersion { major, minor });
        }
        let accepted_and_one_subtype = [0, 1].into_iter();
        let subtype = self.subtype().to_be_bytes();
        self.send(State::VeNCryptSubtype, accepted_and_one_subtype.chain(subtype).collect())
    }

    fn subtype(&self) -> u32 {
        if self.policy.password.is_some() { X509_VNC } else { X509_NONE }
    }

    fn read_vencrypt_subtype(&mut self, input: &mut &[u8]) -> Step {
        let Some(chosen) = take(input) else { return Step::NeedMore };
        let (expected, found) = (self.subtype(), u32::from_be_bytes(chosen));
        if found != expected {
            return self.fail(vec![0], HandshakeError::VeNCryptSubtype { expected, found });
        }
        if !input.is_empty() {
            // Nobody may speak for the client before it is known who speaks.
            return self.fail(vec![0], HandshakeError::EarlyData(input.len()));
        }
        self.state = State::TlsStarted;
        Step::StartTls(vec![1])
    }

    fn challenge(&mut self, before: &[u8]) -> Step {
        self.send(State::Response, before.iter().chain(&self.challenge).copied().collect())
    }

    fn read_response(&mut self, input: &mut &[u8]) -> Step {
        let Some(response) = take(input) else { return Step::NeedMore };
        let password = self.policy.password.as_ref();
        if password.is_some_and(|password| password.proves(self.challenge, response)) {
            self.state = State::Proven;
            Step::Authenticated
        } else {
            self.fail_result(HandshakeError::WrongPassword)
        }
    }

    fn read_client_init(&mut self, input: &mut &[u8]) -> Step {
        let Some([shared]) = take(input) else { return Step::NeedMore };
        self.state = State::Ready;
        Step::Ready { shared: shared != 0 }
    }

    fn send(&mut self, next: State, bytes: Vec<u8>) -> Step {
        self.state = next;
        Step::Send(bytes)
    }

    fn fail(&mut self, reply: Vec<u8>, error: HandshakeError) -> Step {
        self.state = State::Failed;
        Step::Failed { reply, error }
    }

    /// Fails where the security types would stand: none is offered, for a reason.
    fn refuse(&mut self, error: HandshakeError) -> Step {
        let none: &[u8] = if self.version == Version::V3_3 { &[0; 4] } else { &[0] };
        self.fail([none, &counted(error.to_string().as_bytes())].concat(), error)
    }

    /// Fails where `SecurityResult` stands, which has had a reason since 3.8.
    fn fail_result(&mut self, error: HandshakeError) -> Step {
        let reason =
            if self.version == Version::V3_8 { counted(error.to_string().as_bytes()) } else { Vec::new() };
        self.fail([RESULT_FAILED.as_slice(), &reason].concat(), error)
    }
}

#[cfg(test)]
mod tests;
