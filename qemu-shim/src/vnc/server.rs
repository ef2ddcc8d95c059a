//! The loop: one thread, one poll, every viewer.
//!
//! The device is looked at only while somebody waits for pixels, once for everybody, and as often as the console thinks it
//! worth. A viewer whose socket is full is not waited for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use thiserror::Error;

use super::connection::Connection;
use super::pictures::Pictures;
use super::scroll::Rows;
use super::viewer::{Room, Viewer, told, wire_size};
use crate::console::{Console, ConsoleError, Refresh};
use crate::input::InputSink;
use crate::net::{Channel, Listener};
use crate::resize;
use crate::rfb::encode::pseudo::Status;
use crate::rfb::handshake::{Policy, Tls};
use crate::rfb::throttle::{Peer, Throttle};

/// Behind the desktop's name while a sentence stands in for the picture.
const NO_PICTURE: &str = " (no picture)";
/// Most connections at a time.
pub const MAX_VIEWERS: usize = 64;
/// When no connection can be accepted (too many open files) the next is tried after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Whoever would have to wait longer for an answer because of wrong passwords is not let in at all.
const LONGEST_QUEUE: Duration = Duration::from_secs(60);
/// A device that failed is looked at again after this.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Why a server stops.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The system refuses to wait.
    #[error("cannot wait for viewers")]
    Poll(#[source] io::Error),
}

/// What a server is made of.
#[derive(Debug)]
pub struct Settings {
    /// The desktop's name; where there is no picture, viewers are told so behind it.
    pub name: String,
    /// Who is let in.
    pub policy: Policy,
    /// Certificate and key, where viewers may encrypt.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Whether viewers may ask the guest for another size.
    pub may_resize: bool,
}

/// A VNC server.
pub struct Server {
    console: Console,
    settings: Settings,
    /// The desktop's name as of the last look, and whether there was a picture then.
    name: String,
    live: bool,
    doors: Vec<Door>,
    sink: Option<Box<dyn InputSink>>,
    connections: Vec<Connection>,
    throttle: Throttle,
    pictures: Pictures,
    rows: Rows,
    next_look: Instant,
    accept_after: Option<Instant>,
}

/// How viewers come in.
#[derive(Debug)]
pub enum Door {
    /// RFB.
    Plain(Listener),
    /// HTTP, and RFB on WebSockets.
    Web(Listener, Arc<crate::net::Site>),
}

impl Door {
    fn listener(&self) -> &Listener {
        match self {
            Self::Plain(listener) | Self::Web(listener, _) => listener,
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("viewers", &self.connections.len()).finish_non_exhaustive()
    }
}

impl Server {
    /// A server of what a console shows. Without a sink viewers only look.
    #[must_use]
    pub fn new(
        mut console: Console,
        doors: Vec<Door>,
        sink: Option<Box<dyn InputSink>>,
        settings: Settings,
    ) -> Self {
        console.pace_flips();
        Self {
            console,
            name: settings.name.clone(),
            live: true,
            settings,
            doors,
            sink,
            connections: Vec::new(),
            throttle: Throttle::new(),
            pictures: Pictures::default(),
            rows: Rows::default(),
            next_look: Instant::now(),
            accept_after: None,
        }
    }

    /// Serves until `stop` is readable.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn run(&mut self, stop: BorrowedFd<'_>) -> Result<(), ServerError> {
        // Lines within a span are limited by the program's log: viewers who come again and again do not fill the disk.
        let span = tracing::error_span!("vnc", desktop = %self.settings.name);
        let _entered = span.enter();
        // The first viewer is told the screen's size before it is looked at for its sake.
        self.look();
        loop {
            let ready = self.wait(stop)?;
            if ready.stop {
                return Ok(());
            }
            if ready.doors {
                self.accept();
            }
            if self.is_expecting() && Instant::now() >= self.next_look {
                // Nobody may have looked for long, and some viewers keep the size that they are first told.
                self.look();
            }
            self.serve();
            if ready.device {
                self.next_look = Instant::now();
                if !self.is_watched() {
                    // The guest would wait for nobody. Whether that is said to a device that is gone does not matter.
                    let _ = self.console.stop_pacing();
                }
            }
            if self.is_watched() && Instant::now() >= self.next_look {
                self.look();
            }
            self.send();
        }
    }

    fn is_watched(&self) -> bool {
        self.connections.iter().any(|connection| connection.viewer.is_watching())
    }

    /// Whether somebody is about to come in.
    fn is_expecting(&self) -> bool {
        let mut viewers = self.connections.iter().map(|connection| &connection.viewer);
        viewers.any(|viewer| !viewer.is_ready() && !viewer.is_leaving())
    }

    /// Sleeps until there is something to do.
    fn wait(&mut self, stop: BorrowedFd<'_>) -> Result<Ready, ServerError> {
        let now = Instant::now();
        let is_watched = self.is_watched();
        let mut fds: Vec<PollFd<'_>> = vec![PollFd::from_borrowed_fd(stop, PollFlags::IN)];
        let accepts = self.accept_after.is_none_or(|after| after <= now);
        for door in &self.doors {
            let interest = if accepts { PollFlags::IN } else { PollFlags::empty() };
            fds.push(PollFd::from_borrowed_fd(door.listener().as_fd(), interest));
        }
        let doors = fds.len();
        if is_watched || self.console.is_pacing() {
            fds.extend(self.console.events().map(|event| PollFd::from_borrowed_fd(event, PollFlags::IN)));
        }
        let events = fds.len();
        fds.extend(self.connections.iter().map(Connection::poll_fd));

        let deadlines = self.connections.iter().filter_map(Connection::deadline);
        let look = is_watched.then_some(self.next_look);
        let next = deadlines.chain(look).chain(self.accept_after.filter(|_| !accepts)).min();
        let is_busy = self.connections.iter().any(Connection::may_have_more);
        let next = if is_busy { Some(now) } else { next };
        let timeout = next.map(|next| next.saturating_duration_since(now));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            // The kernel has no room for the list now: nobody is served worse by waiting a little.
            Err(errno @ Errno::NOMEM) => {
                tracing::warn!(%errno, "cannot wait for viewers, pausing");
                std::thread::sleep(ACCEPT_PAUSE);
            }
            Err(errno) => return Err(ServerError::Poll(errno.into())),
        }
        let any = |fds: &[PollFd<'_>]| fds.iter().any(|fd| !fd.revents().is_empty());
        let ready =
            Ready { stop: any(&fds[..1]), doors: any(&fds[1..doors]), device: any(&fds[doors..events]) };
        let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        let hung_up: Vec<bool> = fds[events..].iter().map(|fd| fd.revents().intersects(gone)).collect();
        for (connection, hung_up) in self.connections.iter_mut().zip(hung_up) {
            connection.hung_up = hung_up;
        }
        Ok(ready)
    }

    fn accept(&mut self) {
        self.accept_after = None;
        for door in &self.doors {
            let (stream, peer) = match door.listener().accept() {
                Ok(Some(accepted)) => accepted,
                Ok(None) => continue,
                Err(error) => {
                    tracing::warn!("cannot accept a viewer: {error}");
                    self.accept_after = Some(Instant::now() + ACCEPT_PAUSE);
                    continue;
                }
            };
            let now = Instant::now();
            let name = peer.to_string();
            let peer = peer.ip().map_or(Peer::Local, Peer::from);
            if self.connections.len() >= MAX_VIEWERS || self.throttle.wait(peer, now) > LONGEST_QUEUE {
                tracing::warn!(viewer = %name, "refused: too many viewers, or too many wrong passwords");
                continue;
            }
            let mut challenge = [0; 16];
            if let Err(error) = getrandom::fill(&mut challenge) {
                tracing::warn!(viewer = %name, "refused: no random numbers for a challenge: {error}");
                continue;
            }
            let mut policy = self.settings.policy.clone();
            let channel = match door {
                Door::Plain(_) => Channel::plain(stream),
                Door::Web(_, site) => {
                    // Encrypted below, or not at all: browsers cannot do it inside.
                    policy.tls = Tls::Off;
                    match Channel::web(stream, Arc::clone(site), self.settings.tls.clone(), now) {
                        Ok(channel) => channel,
                        Err(error) => {
                            tracing::warn!(viewer = %name, "refused: {error}");
                            continue;
                        }
                    }
                }
            };
            tracing::info!(viewer = %name, "connected");
            let viewer = Viewer::new(peer, policy, challenge, now);
            self.connections.push(Connection {
                channel,
                viewer,
                name,
                is_new: true,
                hung_up: false,
                wish: None,
            });
        }
    }

    /// Reads from everybody, and answers.
    fn serve(&mut self) {
        let screen = self.console.screen();
        let mut room = Room {
            now: Instant::now(),
            throttle: &mut self.throttle,
            sink: self.sink.as_deref_mut(),
            screen: wire_size(screen.width(), screen.height()),
            name: &self.name,
            resize: None,
            is_active: false,
        };
        let mut is_active = false;
        let tls = self.settings.tls.as_ref();
        let mut left = Vec::new();
        self.connections.retain_mut(|connection| {
            let result = connection.serve(&mut room, tls);
            is_active |= std::mem::take(&mut room.is_active);
            connection.wish = room.resize.take();
            if let Err(reason) = result {
                tracing::info!(viewer = %connection.name, "gone: {reason}");
                left.push(std::mem::take(&mut connection.viewer.held));
                return false;
            }
            true
        });
        if let Some(sink) = self.sink.as_deref_mut() {
            // What a viewer held when it went would be held for ever.
            let others = self.connections.iter().map(|connection| &connection.viewer.held);
            left.iter().for_each(|held| told(held.release(others.clone(), sink)));
        }
        if is_active {
            self.console.wake();
            self.next_look = self.next_look.min(Instant::now() + self.console.pause());
        }
        for connection in &mut self.connections {
            if let Some(size) = connection.wish.take() {
                let status = resize(&mut self.console, self.settings.may_resize, &connection.name, size);
                connection.viewer.answer_resize(status);
            }
        }
    }

    /// Looks at the device, and remembers for everybody what changed.
    fn look(&mut self) {
        let result = self.console.refresh();
        let now = Instant::now();
        self.next_look = now + self.console.pause();
        match result {
            Ok(Refresh::Torn) => return,
            Ok(_) => {}
            Err(error) => {
                self.console.complain(&error);
                if matches!(error, ConsoleError::Display(_) | ConsoleError::Unplugged) {
                    self.next_look = now + AFTER_FAILURE;
                }
            }
        }
        self.pictures.next();
        let whole = self.console.update(false);
        if whole.live != self.live {
            self.live = whole.live;
            let state = if whole.live { "" } else { NO_PICTURE };
            self.name = format!("{}{state}", self.settings.name);
            self.connections.iter_mut().for_each(|connection| connection.viewer.rename());
        }
        let copies = self.connections.iter().any(|connection| connection.viewer.takes_copies());
        let moved = if copies && whole.live {
            self.rows.update(whole.frame, whole.damage, whole.resized)
        } else {
            self.rows.forget();
            None
        };
        for connection in &mut self.connections {
            let draws_cursor = connection.viewer.draws_cursor();
            let moved = moved.filter(|_| !draws_cursor);
            connection.viewer.damage(&self.console.update(draws_cursor), moved);
        }
    }

    /// Sends everybody who waits what he does not have yet.
    fn send(&mut self) {
        for connection in &mut self.connections {
            let update = self.console.update(connection.viewer.draws_cursor());
            connection.viewer.picture(&update, &self.name, &mut self.pictures);
            // What fails is found when it is read.
            let _ = connection.write();
        }
    }
}

struct Ready {
    stop: bool,
    doors: bool,
    device: bool,
}

/// Asks the guest for the size that a viewer wants, in pixels.
fn resize(console: &mut Console, is_allowed: bool, viewer: &str, (width, height): (u16, u16)) -> Status {
    if !is_allowed {
        return Status::Prohibited;
    }
    match resize::request(console.display(), width.into(), height.into()) {
        Ok(()) => Status::Forwarded,
        Err(error) => {
            tracing::info!(viewer, width, height, "no other size: {error}");
            Status::InvalidLayout
        }
    }
}
