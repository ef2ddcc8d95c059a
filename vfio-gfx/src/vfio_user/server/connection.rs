//! One peer's connection: what it sent is read, answered, and the answer sent before more is read.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::io::Errno;

use super::super::session::{Outbox, Session};
use super::super::{Ending, Inbox, MAX_MESSAGE, Role, socket};

/// What a connection waits for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wants {
    Read,
    Write,
}

/// Why a connection is over.
pub(super) enum Gone {
    Closed,
    Failed(Errno),
    Ended(Ending),
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: UnixStream,
    /// Whose it is: the token of the device's listener.
    pub(super) endpoint: u64,
    inbox: Inbox,
    session: Session,
    outbox: Outbox,
    /// How much of the outbox is sent.
    sent: usize,
}

impl Connection {
    pub(super) fn new(stream: UnixStream, endpoint: u64, session: Session) -> Self {
        Self { stream, endpoint, inbox: Inbox::new(MAX_MESSAGE), session, outbox: Outbox::default(), sent: 0 }
    }

    pub(super) fn role(&self) -> Option<Role> {
        self.session.role()
    }

    /// Who it is, for the log.
    pub(super) fn peer(&self) -> &str {
        &self.session.peer
    }

    /// See [`Session::sum_up`].
    pub(super) fn sum_up(&self) {
        self.session.sum_up();
    }

    /// Whether a reply is on its way out.
    pub(super) fn is_writing(&self) -> bool {
        !self.outbox.bytes.is_empty()
    }

    /// One read at most, then every whole message it brought, as long as the peer takes the replies.
    pub(super) fn advance(&mut self) -> Result<Wants, Gone> {
        if self.is_writing() {
            // Behind a reply that was stuck, messages may wait in the inbox already.
            return if self.flush()? { self.answer() } else { Ok(Wants::Write) };
        }
        let space = self.inbox.space().map_err(|error| Gone::Ended(error.into()))?;
        match socket::receive(self.stream.as_fd(), space) {
            Ok((0, _)) => return Err(Gone::Closed),
            Ok((len, fds)) => self.inbox.filled(len, fds),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Wants::Read),
            Err(errno) => return Err(Gone::Failed(errno)),
        }
        self.answer()
    }

    fn answer(&mut self) -> Result<Wants, Gone> {
        loop {
            if self.session.is_over() {
                return Err(Gone::Closed);
            }
            match self.inbox.next_message() {
                Ok(Some(message)) => self.session.handle(message, &mut self.outbox).map_err(Gone::Ended)?,
                Ok(None) => return Ok(Wants::Read),
                Err(error) => return Err(Gone::Ended(error.into())),
            }
            if !self.flush()? {
                return Ok(Wants::Write);
            }
        }
    }

    /// Sends what is left of the reply. Returns whether it is gone.
    fn flush(&mut self) -> Result<bool, Gone> {
        while self.sent < self.outbox.bytes.len() {
            let rest = self.outbox.bytes.get(self.sent..).unwrap_or(&[]);
            match socket::send(self.stream.as_fd(), rest, &self.outbox.fds) {
                Ok(len) => {
                    self.sent += len;
                    self.outbox.fds.clear();
                }
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Gone::Failed(errno)),
            }
        }
        self.outbox.clear();
        self.sent = 0;
        Ok(true)
    }
}
