//! The devices of a server: how they come and go, and who connects to them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use tracing::{Span, error_span, warn};

use super::{ACCEPT_PAUSE, BindError, BoundSocket, Connection, EndpointId, MAX_CONNECTIONS, Server, setup};
use crate::device::SharedDevice;
use crate::vfio_user::{Session, VmmSlot};

/// A device and where it listens.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) device: SharedDevice,
    /// `None` once it takes no more connections.
    pub(super) listener: Option<BoundSocket>,
    pub(super) slot: VmmSlot,
    pub(super) connections: usize,
    /// Of changes that no message brings: its token, and a descriptor of the device's timer.
    pub(super) timer: Option<(u64, OwnedFd)>,
    /// While its VMM is asked to let it go: the token of the time it has, and the timer.
    pub(super) grace: Option<(u64, OwnedFd)>,
    /// What its log lines are about.
    pub(super) span: Span,
}

impl Server {
    /// Serves one more device. `name` (its uuid, say) and the socket are fields of its log lines.
    ///
    /// # Errors
    /// [`BindError::System`]: the system refuses to watch the socket.
    pub fn add(
        &mut self,
        device: SharedDevice,
        listener: BoundSocket,
        name: &str,
    ) -> Result<EndpointId, BindError> {
        let (token, timer_token) = (self.token(), self.token());
        let watch = |fd: BorrowedFd<'_>, token| {
            epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN)
        };
        let timer = device.lock().change_timer().map(|timer| timer.try_clone_to_owned()).transpose();
        let timer = timer.map_err(|source| BindError::System { step: "dup", source })?;
        if let Some(timer) = &timer {
            watch(timer.as_fd(), timer_token).map_err(setup("epoll_ctl"))?;
            self.timers.insert(timer_token, token);
        }
        watch(listener.as_fd(), token).map_err(setup("epoll_ctl"))?;
        let uuid = (!name.is_empty()).then_some(name);
        // Of the highest level: whoever asks for warnings only wants to know of which device.
        let span = error_span!("device", uuid, socket = %listener.path().display());
        let timer = timer.map(|timer| (timer_token, timer));
        let listener = Some(listener);
        let slot = VmmSlot::default();
        let endpoint = Endpoint { device, listener, slot, connections: 0, timer, grace: None, span };
        self.endpoints.insert(token, endpoint);
        Ok(EndpointId(token))
    }

    /// Looks for connections, or does not for a while. Where the system refuses that, connections are looked for when they
    /// need not be, or again after the next pause.
    pub(super) fn watch_listeners(&mut self, on: bool) {
        let flags = if on { epoll::EventFlags::IN } else { epoll::EventFlags::empty() };
        for (token, endpoint) in &self.endpoints {
            let Some(listener) = &endpoint.listener else { continue };
            let data = epoll::EventData::new_u64(*token);
            if let Err(error) = epoll::modify(&self.epoll, listener.as_fd(), data, flags) {
                warn!(%error, on, "cannot change what is waited for");
                self.paused = Some(Instant::now() + ACCEPT_PAUSE);
            }
        }
    }

    /// A device's timer expired.
    pub(super) fn look_again(&self, timer: u64) {
        if let Some(endpoint) = self.timers.get(&timer).and_then(|id| self.endpoints.get(id)) {
            let _entered = endpoint.span.enter();
            endpoint.device.lock().look_again();
        }
    }

    /// Takes one connection to a device, or pauses when the process is out of descriptors.
    pub(super) fn accept(&mut self, id: u64) {
        let token = self.token();
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        let _entered = endpoint.span.enter();
        let Some(listener) = &endpoint.listener else { return };
        let stream = match listener.listener().accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                let errno = Errno::from_io_error(&error);
                if matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) {
                    warn!(%error, "cannot accept a connection, pausing");
                    self.paused = Some(Instant::now() + ACCEPT_PAUSE);
                    drop(_entered);
                    self.watch_listeners(false);
                }
                return;
            }
        };
        if endpoint.connections >= MAX_CONNECTIONS {
            warn!(limit = MAX_CONNECTIONS, "too many connections: closed");
            return;
        }
        let data = epoll::EventData::new_u64(token);
        let watched = stream
            .set_nonblocking(true)
            .and_then(|()| Ok(epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN)?));
        if let Err(error) = watched {
            warn!(%error, "cannot wait for a new connection: closed");
            return;
        }
        endpoint.connections += 1;
        let session =
            Session::new(endpoint.device.clone(), endpoint.slot.clone()).of_peer(peer_name(&stream));
        self.connections.insert(token, Connection::new(stream, id, session));
    }
}

/// Who is at the other end, for the log.
fn peer_name(stream: &UnixStream) -> String {
    match socket_peercred(stream) {
        Ok(peer) => format!("process {}", peer.pid.as_raw_nonzero()),
        Err(errno) => format!("a process that the system does not name ({errno})"),
    }
}
