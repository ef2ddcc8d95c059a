//! Taking a device away from those who use it.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tracing::{info, warn};

use super::endpoint::Endpoint;
use super::{EndpointId, Server, ServerEvent};
use crate::vfio_user::Role;

impl Server {
    /// The devices it serves, those that are being asked for included.
    pub fn ids(&self) -> impl Iterator<Item = EndpointId> {
        self.endpoints.keys().copied().map(EndpointId)
    }

    /// Whether a VMM was asked for a device and still has time.
    #[must_use]
    pub fn awaits_release(&self) -> bool {
        !self.graces.is_empty()
    }

    /// Asks the VMM to let a device go ([`Device::request_release`](crate::device::Device::request_release)). Nobody else
    /// can connect any more, and its socket goes at once, so that another device can have its place; those who are connected are served
    /// as before. When the VMM has gone, or after `grace`, the device is removed as by [`Server::remove`], and
    /// [`ServerEvent::Removed`] tells. Asking again asks the VMM again, and leaves it the time that it has.
    ///
    /// Returns whether there is anything to wait for: false when no VMM is there or it did not arm the interrupt, when `grace` is
    /// zero, or when the system has no timer for it. Nothing has changed then.
    pub fn request_release(&mut self, id: EndpointId, grace: Duration) -> bool {
        let token = self.token();
        let Some(endpoint) = self.endpoints.get_mut(&id.0) else { return false };
        let _entered = endpoint.span.enter();
        if grace.is_zero() || !endpoint.device.lock().request_release() {
            return false;
        }
        if endpoint.grace.is_some() {
            return true;
        }
        let data = epoll::EventData::new_u64(token);
        let timer = expires_in(grace).and_then(|timer| {
            epoll::add(&self.epoll, &timer, data, epoll::EventFlags::IN)?;
            Ok(timer)
        });
        match timer {
            Ok(timer) => endpoint.grace = Some((token, timer)),
            Err(error) => {
                warn!(%error, "no timer for the VMM's time to let the device go: it has none");
                return false;
            }
        }
        self.graces.insert(token, id.0);
        info!(?grace, "the VMM is asked to let the device go");
        if let Some(listener) = endpoint.listener.take() {
            // It was added, so it can be deleted.
            let _ = epoll::delete(&self.epoll, listener.as_fd());
        }
        true
    }

    /// Takes a device away now, as one pulls a card out ([`Device::revoke`](crate::device::Device::revoke)): its socket goes,
    /// its memory is given back, and what its clients have asked is answered with `ENODEV`. Consoles are then disconnected.
    /// A VMM is not: QEMU ends its guest at the next change of its memory map when a server is gone. Its connection
    /// answers `ENODEV` to everything until it goes.
    pub fn remove(&mut self, id: EndpointId) {
        let Some(mut endpoint) = self.endpoints.remove(&id.0) else { return };
        let _ = self.unwatch(&mut endpoint);
        let span = endpoint.span.clone();
        let _entered = span.enter();
        if let Err(error) = endpoint.device.lock().revoke() {
            warn!(%error, "the device's memory goes only with the last that holds it");
        }
        for connection in self.connections.values_mut().filter(|connection| connection.endpoint == id.0) {
            // What was asked before is answered; what a peer does not read now it never does.
            let _ = connection.advance();
        }
        self.connections
            .retain(|_, connection| connection.endpoint != id.0 || connection.role() == Some(Role::Vmm));
        info!("unplugged");
    }

    /// Waits for nothing of this device any more, and closes its socket. Explicitly: a descriptor that somebody else has too
    /// (systemd does) stays in the set when we close ours.
    pub(super) fn unwatch(&mut self, endpoint: &mut Endpoint) -> rustix::io::Result<()> {
        if let Some((token, timer)) = endpoint.timer.take() {
            self.timers.remove(&token);
            epoll::delete(&self.epoll, timer)?;
        }
        if let Some((token, timer)) = endpoint.grace.take() {
            self.graces.remove(&token);
            epoll::delete(&self.epoll, timer)?;
        }
        match endpoint.listener.take() {
            Some(listener) => epoll::delete(&self.epoll, listener.as_fd()),
            None => Ok(()),
        }
    }

    /// A timer of a VMM's time expired.
    pub(super) fn time_is_up(&mut self, token: u64) {
        if let Some(id) = self.graces.get(&token) {
            self.grace_is_over(EndpointId(*id));
        }
    }

    /// The VMM did not let the device go in time, or it did.
    pub(super) fn grace_is_over(&mut self, id: EndpointId) {
        if let Some(endpoint) = self.endpoints.get(&id.0)
            && endpoint.slot.is_taken()
        {
            let _entered = endpoint.span.enter();
            warn!("the VMM has not let the device go in time: taken away");
        }
        self.remove(id);
        self.happened.push_back(ServerEvent::Removed(id));
    }
}

/// A timer of its own. What no clock of the kernel can say is never.
fn expires_in(time: Duration) -> rustix::io::Result<OwnedFd> {
    let never = Timespec { tv_sec: i64::MAX, tv_nsec: 0 };
    let once = Itimerspec {
        it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: Timespec::try_from(time).unwrap_or(never),
    };
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once)?;
    Ok(timer)
}
