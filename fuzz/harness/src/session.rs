//! A byte stream into a vfio-user connection.

use vfio_gfx::device::SharedDevice;
use vfio_gfx::vfio_user::{Command, Header, Role, VmmSlot};
use zerocopy::IntoBytes;

use crate::gifts::Gifts;
use crate::ids::Ids;
use crate::input::Input;
use crate::peer::{Peer, check_reusable, proposal};
use crate::subject::{Subject, check_planes};

/// Pieces per input.
const MAX_PIECES: usize = 200;

/// Any stream of bytes, cut anywhere, with any number of descriptors beside each piece; when the server ends the
/// connection, the rest goes into a new one to the same device.
///
/// Oracle: every piece is consumed or ends the connection; a reply says its own size and its command's id; buffers are
/// bounded by the longest message, and small when idle; all descriptors are closed when the connection is; whatever
/// happened, the next VMM can attach, negotiate and query, and planes fit their memory.
pub fn session(data: &[u8]) {
    let input = &mut Input::new(data);
    let Subject { device, .. } = Subject::choose(input);
    let (device, slot, gifts) = (SharedDevice::new(device), VmmSlot::default(), Gifts::new());
    let mut peer = Peer::new(&device, &slot);
    for _ in 0..MAX_PIECES {
        if input.is_empty() {
            break;
        }
        let what = input.byte();
        let fds = gifts.some(what & 0xf);
        let ended = match what >> 4 {
            // The stream itself.
            0..10 => {
                let len = input.number() & 0xffff;
                peer.receive(input.bytes(len as usize), fds, |_, _| {})
            }
            // Much of the same byte, to fill large messages.
            10 | 11 => {
                let run = vec![input.byte(); usize::from(input.any::<u16>()) * 17];
                peer.receive(&run, fds, |_, _| {})
            }
            // A good header, whose payload is to follow.
            12 | 13 => {
                let command = Command::from_raw(u16::from(input.byte())).unwrap_or(Command::QueryGfxPlane);
                let header = Header::command(input.any(), command, input.number() as usize);
                peer.receive(header.as_bytes(), fds, |_, _| {})
            }
            // A good VERSION.
            _ => {
                let payload = proposal(if input.flag() { Role::Console } else { Role::Vmm });
                let header = Header::command(1, Command::Version, payload.len());
                peer.receive(&[header.as_bytes(), &payload].concat(), fds, |_, _| {})
            }
        };
        if ended.is_err() {
            // The connection goes before the next one comes, as in the server: a VMM's place is free then.
            drop(peer);
            peer = Peer::new(&device, &slot);
        }
    }
    drop(peer);
    gifts.check_released();
    check_reusable(&device, &slot);
    check_planes(&mut device.lock(), &mut Ids::default());
}
