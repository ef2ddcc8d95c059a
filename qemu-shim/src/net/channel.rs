//! One viewer's byte stream, whatever carries it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustls::ServerConfig;

use super::origin::Site;
use super::stream::Stream;
use super::tls::Transport;
use super::visit::{Outcome, Visit};
use super::websocket::WebSocket;

/// How long a peer may take for what must come before RFB: a TLS handshake, an HTTP request and its answer.
pub const OPENING_TIME: Duration = Duration::from_secs(10);

/// A viewer's byte stream: plain, or with TLS, a WebSocket, or both in between.
///
/// How a poll loop uses it:
/// - poll for [`interest`](Self::interest), and not longer than [`deadline`](Self::deadline); drop it when that passes;
/// - when readable, [`read`](Self::read) until `WouldBlock`; a loop that stops earlier, to be fair to others, asks
///   [`may_have_more`](Self::may_have_more) and then must not sleep, since bytes can wait above the socket;
/// - when writable, [`flush`](Self::flush), then [`write`](Self::write) what it has until `WouldBlock`;
/// - drop it at `Ok(0)` from `read` or at any other error.
///
/// Until [`is_open`](Self::is_open), reading and flushing do the opening and writing says `WouldBlock`, so a server may
/// queue its greeting at once.
#[derive(Debug)]
pub struct Channel {
    transport: Transport,
    layer: Layer,
    /// When an opening that is under way must be done.
    opening_ends: Option<Instant>,
    may_have_more: bool,
}

#[derive(Debug)]
enum Layer {
    /// RFB straight on the transport.
    Bytes,
    /// On the web port, before we know what it is.
    Visit {
        visit: Visit,
        site: Arc<Site>,
    },
    WebSocket(Box<WebSocket>),
    /// A web request that was answered.
    Over,
}

impl Channel {
    /// A viewer on the VNC port.
    #[must_use]
    pub fn plain(stream: Stream) -> Self {
        Self {
            transport: Transport::new(stream),
            layer: Layer::Bytes,
            opening_ends: None,
            may_have_more: false,
        }
    }

    /// A viewer, or a browser that wants the page, on the web port; over TLS if that is given.
    ///
    /// # Errors
    /// TLS cannot begin.
    pub fn web(
        stream: Stream,
        site: Arc<Site>,
        tls: Option<Arc<ServerConfig>>,
        now: Instant,
    ) -> io::Result<Self> {
        let mut channel = Self::plain(stream);
        channel.layer = Layer::Visit { visit: Visit::new(), site };
        channel.opening_ends = now.checked_add(OPENING_TIME);
        if let Some(config) = tls {
            channel.transport.start_tls(config, &[])?;
        }
        Ok(channel)
    }

    /// Goes on in TLS, as VeNCrypt does once both sides said so. Everything said in plain must have been written. `early`
    /// is what the loop has read beyond the end of the plain part: records of a hasty peer, never trusted as plain.
    ///
    /// # Errors
    /// There is TLS already, this is a WebSocket (whose TLS is below it: use [`web`](Self::web)), or `early` is not TLS.
    pub fn start_tls(&mut self, config: Arc<ServerConfig>, early: &[u8], now: Instant) -> io::Result<()> {
        if !matches!(self.layer, Layer::Bytes) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "expected a plain channel, found a WebSocket",
            ));
        }
        self.opening_ends = now.checked_add(OPENING_TIME);
        self.transport.start_tls(config, early)?;
        self.may_have_more = true;
        Ok(())
    }

    /// Whether RFB can be spoken: no web request and no TLS handshake is under way.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.layer, Layer::Bytes | Layer::WebSocket(_)) && !self.transport.is_handshaking()
    }

    /// When to drop a peer that has still not opened.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.is_open() { None } else { self.opening_ends }
    }

    /// Whether the last [`read`](Self::read) ended before `WouldBlock`.
    #[must_use]
    pub fn may_have_more(&self) -> bool {
        self.may_have_more
    }

    /// Whether bytes that were accepted still wait for the socket.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        let layer = match &self.layer {
            Layer::Visit { visit, .. } => visit.wants_write(),
            Layer::WebSocket(socket) => socket.wants_write(),
            Layer::Bytes | Layer::Over => false,
        };
        layer || self.transport.wants_write()
    }

    /// What to poll the socket for, when the loop has (`output`) or has not bytes of its own to write.
    #[must_use]
    pub fn interest(&self, output: bool) -> PollFlags {
        let write = self.wants_write() || (output && self.is_open());
        if write { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN }
    }

    /// Reads the viewer's bytes; `Ok(0)` at the end.
    ///
    /// # Errors
    /// `WouldBlock` when there are none now; what the socket says; `InvalidData` for what is no TLS or WebSocket, or
    /// beyond its limits.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = match &mut self.layer {
            Layer::Bytes => io::Read::read(&mut self.transport, buffer),
            Layer::WebSocket(socket) => socket.read(&mut self.transport, buffer),
            Layer::Over => Ok(0),
            Layer::Visit { .. } => match self.open_web() {
                Ok(()) => return self.read(buffer),
                Err(error) => Err(error),
            },
        };
        self.may_have_more = result.is_ok();
        result
    }

    /// Takes bytes for the viewer and says how many.
    ///
    /// # Errors
    /// `WouldBlock` when the peer does not take more now, or is not open; what the socket says.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_open() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match &mut self.layer {
            Layer::WebSocket(socket) => socket.write(&mut self.transport, bytes),
            _ => io::Write::write(&mut self.transport, bytes),
        }
    }

    /// Sends what waits below, and goes on opening.
    ///
    /// # Errors
    /// `WouldBlock` while something is left; what the socket says.
    pub fn flush(&mut self) -> io::Result<()> {
        match &mut self.layer {
            Layer::Visit { .. } => self.open_web(),
            Layer::WebSocket(socket) => socket.flush(&mut self.transport),
            Layer::Bytes | Layer::Over => io::Write::flush(&mut self.transport),
        }
    }

    /// Ends the stream politely, as far as the socket takes it now. Drop the channel after that.
    pub fn close(&mut self) {
        if let Layer::WebSocket(socket) = &mut self.layer {
            socket.close(&mut self.transport);
        }
        self.transport.close();
    }

    fn open_web(&mut self) -> io::Result<()> {
        let Layer::Visit { visit, site } = &mut self.layer else { return Ok(()) };
        match visit.advance(&mut self.transport, site)? {
            Outcome::WebSocket(early) => {
                // Frames already read will not make the socket readable.
                self.may_have_more = !early.is_empty();
                self.layer = Layer::WebSocket(Box::new(WebSocket::new(early)));
            }
            Outcome::Over => self.layer = Layer::Over,
        }
        Ok(())
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.transport.stream().as_fd()
    }
}

#[cfg(test)]
mod tests;
