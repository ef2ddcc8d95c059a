//! `PACE_FLIPS`: a console that has flips wait for it.

use zerocopy::IntoBytes;

use super::answers::parse;
use super::extension::{
    PACE_FLAG_JOINED, PACE_FLAG_LATE, PACE_JOIN, PACE_LEAVE, PACE_LOOK, PACE_TAKEN, PaceReply, PaceRequest,
};
use super::session::{Outbox, Session};
use crate::abi::Errno;

impl Session {
    pub(super) fn pace_flips(&mut self, payload: &[u8], out: &mut Outbox) -> Result<(), Errno> {
        let (PaceRequest { operation, reserved, flip }, _) = parse(payload)?;
        if reserved != 0 || (operation != PACE_TAKEN && flip != 0) {
            return Err(Errno::EINVAL);
        }
        let mut device = self.device.lock();
        if !device.has_events() {
            return Err(Errno::EOPNOTSUPP);
        }
        match operation {
            PACE_LOOK => {}
            PACE_JOIN => {
                if self.pacer.is_none() {
                    self.pacer = Some(device.pace(&self.peer).ok_or(Errno::ENOSPC)?);
                }
            }
            PACE_TAKEN => {
                let pacer = self.pacer.ok_or(Errno::EINVAL)?;
                if flip > device.flip_state().requested {
                    return Err(Errno::EINVAL);
                }
                device.frame_taken(pacer, flip);
            }
            PACE_LEAVE => {
                if let Some(pacer) = self.pacer.take() {
                    device.stop_pacing(pacer);
                }
            }
            _ => return Err(Errno::EINVAL),
        }
        let state = device.flip_state();
        let joined = if self.pacer.is_some() { PACE_FLAG_JOINED } else { 0 };
        let late = if self.pacer.is_some_and(|pacer| device.is_late(pacer)) { PACE_FLAG_LATE } else { 0 };
        let reply = PaceReply {
            requested: state.requested,
            completed: state.completed,
            link: state.link.raw(),
            flags: joined | late,
        };
        out.bytes.extend_from_slice(reply.as_bytes());
        Ok(())
    }
}
