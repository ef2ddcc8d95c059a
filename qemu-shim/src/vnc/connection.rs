//! One connection: a viewer, and what carries its bytes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use thiserror::Error;

use super::viewer::{Goodbye, Room, Viewer};
use crate::net::Channel;

/// Bytes taken from a viewer at a time: the others have their turn in between.
const PIECE: usize = 2048;
/// Pieces taken in a row.
const PIECES: usize = 16;

pub(super) struct Connection {
    pub(super) channel: Channel,
    pub(super) viewer: Viewer,
    pub(super) name: String,
    /// The viewer was not greeted.
    pub(super) is_new: bool,
    /// The other side is not there any more.
    pub(super) hung_up: bool,
    /// The size that the viewer would have the screen be.
    pub(super) wish: Option<(u16, u16)>,
}

/// Why a connection is over.
#[derive(Debug, Error)]
pub(super) enum Gone {
    #[error("closed by the viewer")]
    Closed,
    #[error(transparent)]
    Goodbye(#[from] Goodbye),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("refused")]
    Refused,
}

impl Connection {
    pub(super) fn poll_fd(&self) -> PollFd<'_> {
        let mut interest = self.channel.interest(!self.viewer.output.is_empty());
        if !self.viewer.wants_input() {
            interest.remove(PollFlags::IN);
        }
        PollFd::from_borrowed_fd(self.fd(), interest)
    }

    /// Whether bytes that were received wait above the socket, where no poll sees them.
    pub(super) fn may_have_more(&self) -> bool {
        self.viewer.wants_input() && self.channel.may_have_more()
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.channel.deadline().into_iter().chain(self.viewer.deadline()).min()
    }

    /// Takes what arrived, answers, and sends what can be sent.
    pub(super) fn serve(
        &mut self,
        room: &mut Room<'_>,
        tls: Option<&Arc<rustls::ServerConfig>>,
    ) -> Result<(), Gone> {
        if self.channel.deadline().is_some_and(|deadline| deadline <= room.now) {
            return Err(Gone::Refused);
        }
        if self.hung_up && !self.viewer.wants_input() {
            // Nothing is read that could say so.
            return Err(Gone::Closed);
        }
        let mut goodbye = None;
        if std::mem::take(&mut self.is_new)
            || self.viewer.deadline().is_some_and(|deadline| deadline <= room.now)
        {
            goodbye = self.viewer.receive(&[], room).err();
        }
        let mut piece = [0; PIECE];
        for _ in 0..PIECES {
            if goodbye.is_some() || !self.viewer.wants_input() {
                break;
            }
            match self.channel.read(&mut piece) {
                Ok(0) => return Err(Gone::Closed),
                Ok(count) => goodbye = self.viewer.receive(&piece[..count], room).err(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.write()?;
        if let Some(goodbye) = goodbye {
            return Err(goodbye.into());
        }
        if self.viewer.starts_tls() {
            match tls {
                Some(config) => self.channel.start_tls(Arc::clone(config), &[], room.now)?,
                None => return Err(Gone::Refused),
            }
            // In TLS the server speaks first: a viewer waits for its challenge, or to be told that there is none.
            self.viewer.receive(&[], room)?;
        }
        Ok(())
    }

    pub(super) fn write(&mut self) -> io::Result<()> {
        while !self.viewer.output.is_empty() {
            match self.channel.write(self.viewer.output.front()) {
                Ok(0) => break,
                Ok(count) => self.viewer.output.consume(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        match self.channel.flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }
}

#[cfg(test)]
mod tests;
