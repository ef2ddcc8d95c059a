//! The end of a server, without a question left unanswered.

use std::time::{Duration, Instant};

use rustix::event::epoll;
use tracing::{debug, warn};

use super::{Connection, Server, ServerError};

impl Server {
    /// Ends well: no more connections, the sockets go, what peers have sent is answered and sent, and the connections are
    /// closed. A peer that does not take its answers is left after `patience`. Then the devices are revoked.
    ///
    /// # Errors
    /// [`ServerError`] when the event loop itself fails.
    pub fn drain(mut self, patience: Duration) -> Result<(), ServerError> {
        epoll::delete(&self.epoll, &self.stop)?;
        for fd in std::mem::take(&mut self.watched).values() {
            epoll::delete(&self.epoll, fd)?;
        }
        let mut endpoints = std::mem::take(&mut self.endpoints);
        for endpoint in endpoints.values_mut() {
            self.unwatch(endpoint)?;
        }
        let end = Instant::now() + patience;
        let mut events = Vec::with_capacity(64);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let is_owing = self.connections.values().any(Connection::is_writing);
            self.wait(&mut events, Some(if is_owing { left } else { Duration::ZERO }))?;
            if events.is_empty() || left.is_zero() {
                debug!(connections = self.connections.len(), is_owing, "drained");
                break;
            }
            for event in &events {
                self.serve_event(event.data.u64(), event.flags);
            }
        }
        for endpoint in endpoints.values() {
            let _entered = endpoint.span.enter();
            if let Err(error) = endpoint.device.lock().revoke() {
                warn!(%error, "the device's memory goes only with the last that holds it");
            }
        }
        Ok(())
    }
}
