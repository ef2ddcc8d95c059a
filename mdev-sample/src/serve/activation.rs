//! What a supervisor and its service say to each other: sd_listen_fds(3) and sd_notify(3), the few lines of them that a
//! server needs.
#![expect(unsafe_code, reason = "a descriptor that was passed is a number in the environment")]

use std::env;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::sync::Once;

use rustix::io::{FdFlags, fcntl_setfd};
use tracing::warn;

/// The first descriptor that is passed: `SD_LISTEN_FDS_START`.
const FIRST: RawFd = 3;

static TAKEN: Once = Once::new();

/// The sockets that were passed to this process; there are some once only.
pub(super) fn listeners() -> Vec<UnixListener> {
    let mut listeners = Vec::new();
    TAKEN.call_once(|| {
        let number = |name| env::var(name).ok()?.parse::<u32>().ok();
        // They may be meant for a parent of ours.
        if number("LISTEN_PID") != Some(std::process::id()) {
            return;
        }
        let count = number("LISTEN_FDS").and_then(|count| RawFd::try_from(count).ok()).unwrap_or(0);
        for fd in (FIRST..).take(usize::try_from(count).unwrap_or(0)) {
            if !is_open(fd) {
                warn!(fd, "LISTEN_FDS announces a descriptor that is not open");
                break;
            }
            // SAFETY: it is open, and LISTEN_PID says that this descriptor was passed to this process for it to own.
            // `TAKEN` sees to it that it is taken once, and nothing else in this program closes what it did not open.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            if let Err(error) = fcntl_setfd(&fd, FdFlags::CLOEXEC) {
                warn!(%error, "cannot keep a descriptor from child processes");
            }
            listeners.push(UnixListener::from(fd));
        }
    });
    listeners
}

/// Whether a descriptor is open, by the list of them.
fn is_open(fd: RawFd) -> bool {
    std::fs::symlink_metadata(format!("/proc/self/fd/{fd}")).is_ok()
}

/// The supervisor, if there is one that listens. It is connected to at the start, because the sandbox lets nobody connect.
#[derive(Debug)]
pub(super) struct Supervisor(Option<UnixDatagram>);

impl Supervisor {
    /// The one that `NOTIFY_SOCKET` names.
    pub(super) fn find() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET") else { return Self(None) };
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&name),
        };
        match address.and_then(|address| connect(&address)) {
            Ok(socket) => Self(Some(socket)),
            Err(error) => {
                warn!(%error, socket = %name.display(), "cannot reach the supervisor");
                Self(None)
            }
        }
    }

    /// Tells it how we are.
    pub(super) fn tell(&self, state: &str) {
        let Some(socket) = &self.0 else { return };
        if let Err(error) = socket.send(state.as_bytes()) {
            warn!(%error, "cannot tell the supervisor {state}");
        }
    }
}

fn connect(address: &SocketAddr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(address)?;
    Ok(socket)
}
