//! Well-framed messages from a VMM and a console, and a guest in between.

use rustix::fs::{OFlags, fcntl_getfl};
use vfio_gfx::abi::{Errno, Interface, PlaneInfo, PlaneKind, PlaneRequest, RegionFlags, RegionInfo};
use vfio_gfx::device::{Backing, DISPLAY_IRQ, Device, SharedDevice};
use vfio_gfx::plane::{Plane, Source};
use vfio_gfx::vfio_user::extension::{BufferReply, PlaneReply, kind_from_raw};
use vfio_gfx::vfio_user::{Command, HEADER_SIZE, Header, Outbox, RegionAccess, Role, VmmSlot};
use zerocopy::{FromBytes, IntoBytes};

use crate::gifts::Gifts;
use crate::ids::Ids;
use crate::input::Input;
use crate::peer::{Peer, check_reusable, proposal, read_header};
use crate::state::State;
use crate::subject::{Subject, check_planes, set_mode, set_plane};

/// Operations per input.
const MAX_OPERATIONS: usize = 200;

/// Commands and the bytes of their fixed payload, the frequent ones first and several times.
const COMMANDS: [(Command, usize); 28] = [
    (Command::QueryGfxPlane, 64),
    (Command::QueryGfxPlane, 64),
    (Command::QueryGfxPlane, 64),
    (Command::GetGfxDmabuf, 8),
    (Command::GetGfxDmabuf, 8),
    (Command::RegionRead, 16),
    (Command::RegionRead, 16),
    (Command::RegionWrite, 16),
    (Command::RegionWrite, 16),
    (Command::RegionWrite, 16),
    (Command::GetRegionInfo, 32),
    (Command::GetRegionInfo, 32),
    (Command::GetInfo, 16),
    (Command::GetIrqInfo, 16),
    (Command::SetIrqs, 20),
    (Command::SetIrqs, 20),
    (Command::DmaMap, 32),
    (Command::DmaMap, 32),
    (Command::DmaUnmap, 24),
    (Command::Reset, 0),
    (Command::GetRegionIoFds, 16),
    (Command::DmaRead, 16),
    (Command::RegionWriteMulti, 8),
    (Command::DeviceFeature, 8),
    (Command::PaceFlips, 16),
    (Command::PaceFlips, 16),
    (Command::PaceFlips, 16),
    (Command::PaceFlips, 16),
];

/// Sequences of messages over two connections to one device, a VMM's and a console's, with guest writes to the display
/// registers and reconnections in between.
///
/// Oracle: what [`crate::session()`] promises, and: nothing is answered before VERSION; one VMM at a time; a console can
/// do no DMA, reset or writes and has no interrupts but the display's, and nothing it sends changes registers, configuration space or video memory
/// (the EDID region is its to write); its descriptors cannot be written; region info comes with a descriptor where the
/// region can be mapped; a region read returns the region's bytes; a plane lies in the region or buffer it names, by
/// the offset beside it; ids grow, recent ones can be fetched, all others are `ENOENT`.
pub fn messages(data: &[u8]) {
    let input = &mut Input::new(data);
    let Subject { device, .. } = Subject::choose(input);
    let (device, slot) = (SharedDevice::new(device), VmmSlot::default());
    let gifts = Gifts::new();
    let mut ids = Ids::default();
    let mut peers = [Peer::new(&device, &slot), Peer::new(&device, &slot)];
    for _ in 0..MAX_OPERATIONS {
        if input.is_empty() {
            break;
        }
        let what = input.byte();
        let number = usize::from(what >> 7);
        match what & 7 {
            0..=4 => {
                let peer = &mut peers[number];
                if !exchange(peer, &device, input, &mut ids, &gifts) {
                    reconnect(peer, &device, &slot);
                }
            }
            5 => {
                let role = if input.flag() { Role::Console } else { Role::Vmm };
                let free =
                    peers[number].session.role().is_none() && (role == Role::Console || !slot.is_taken());
                assert_eq!(peers[number].negotiate(role), free);
            }
            6 if what & 8 != 0 => set_plane(&mut device.lock(), input),
            6 => set_mode(&mut device.lock(), input.any(), input.any()),
            _ if input.byte() < 0x40 => reconnect(&mut peers[number], &device, &slot),
            _ => {
                let (register, value): (u8, u16) = (input.byte() % 11, input.any());
                let _ = device.lock().guest_write(2, 0x500 + 2 * u64::from(register), &value.to_le_bytes());
            }
        }
    }
    drop(peers);
    gifts.check_released();
    check_planes(&mut device.lock(), &mut ids);
    check_reusable(&device, &slot);
}

fn reconnect(peer: &mut Peer, device: &SharedDevice, slot: &VmmSlot) {
    let before = (peer.session.role() == Some(Role::Console)).then(|| State::of(&mut device.lock(), None));
    *peer = Peer::new(device, slot);
    if let Some(before) = before {
        State::of(&mut device.lock(), None).check_since(&before, None);
    }
}

/// A message: header and payload.
pub(crate) fn message(input: &mut Input<'_>) -> (Header, Vec<u8>) {
    let choice = input.byte();
    let mut payload = Vec::new();
    let mut header = if let Some((command, fixed)) = COMMANDS.get(usize::from(choice)) {
        for _ in 0..input.byte() % 12 {
            payload.extend(input.number().to_ne_bytes());
        }
        payload.resize(*fixed, 0);
        let data = input.some_bytes(255);
        payload.extend_from_slice(data);
        if *command == Command::RegionWrite {
            // Mostly a count that is right: with any other, nothing happens.
            let wrong = u32::from(input.byte() / 0xf0);
            let count = u32::try_from(data.len()).unwrap_or_default() + wrong;
            payload[12..16].copy_from_slice(&count.to_ne_bytes());
        }
        Header::command(1, *command, payload.len())
    } else if choice < 0x60 {
        payload = proposal(if input.flag() { Role::Console } else { Role::Vmm });
        Header::command(1, Command::Version, payload.len())
    } else {
        payload.extend_from_slice(input.some_bytes(255));
        let raw = if choice < 0xc0 { u16::from(choice & 0x1f) } else { input.any() };
        Header { command: raw, ..Header::command(1, Command::Reset, payload.len()) }
    };
    header.id = input.any();
    header.flags = match input.byte() {
        0xf0 => input.any(),
        0xf1..0xf8 => 1,
        0xf8.. => 0x10,
        _ => 0,
    };
    (header, payload)
}

/// Sends one message, in up to two pieces. Returns whether the connection still is.
fn exchange(
    peer: &mut Peer,
    device: &SharedDevice,
    input: &mut Input<'_>,
    ids: &mut Ids,
    gifts: &Gifts,
) -> bool {
    let (header, payload) = message(input);
    let fds = gifts.some(input.byte() % 16 / 3);
    let bytes = [header.as_bytes(), &payload].concat();
    let (first, second) = bytes.split_at(usize::from(input.byte()).min(bytes.len()));
    let role = peer.session.role();
    let access = RegionAccess::read_from_prefix(&payload).ok().map(|(access, _)| access);
    let before = (role == Some(Role::Console)).then(|| State::of(&mut device.lock(), access));
    let mut answers = 0;
    let mut answered = |header: Header, out: &Outbox| {
        answers += 1;
        check_answer(&mut device.lock(), role, (header, &payload), out, ids);
    };
    let ended = peer
        .receive(first, fds, &mut answered)
        .and_then(|()| peer.receive(second, Vec::new(), &mut answered))
        .is_err();
    // Only a message that is no command ends the connection; every other one is answered.
    assert_eq!(ended, header.flags & 0xf != 0, "{header:?}");
    assert_eq!(answers, usize::from(!ended));
    if let Some(before) = before {
        let done = Command::from_raw(header.command).unwrap_or(Command::GetInfo);
        State::of(&mut device.lock(), access).check_since(&before, Some(done));
    }
    !ended
}

/// Checks the answer to one command against what was asked by whom.
fn check_answer(
    device: &mut Device,
    role: Option<Role>,
    (header, payload): (Header, &[u8]),
    out: &Outbox,
    ids: &mut Ids,
) {
    let command = Command::from_raw(header.command);
    if header.no_reply() {
        // It may have been a query that nobody saw the answer of: ask again, that first, for numbers are given in the order of queries.
        let query =
            PlaneInfo::read_from_prefix(payload).ok().filter(|_| command == Some(Command::QueryGfxPlane));
        if let Some(Ok(PlaneRequest::Query(interface, kind))) =
            query.map(|(info, _)| PlaneRequest::parse(&info))
            && let Some(Ok(Some(plane))) = PlaneKind::from_raw(kind).map(|kind| device.query(interface, kind))
        {
            ids.queried(&plane);
        }
        return check_planes(device, ids);
    }
    let errno = read_header(out).reported_error();
    let body = out.bytes.get(HEADER_SIZE..).unwrap_or_default();
    if role == Some(Role::Console) {
        for fd in &out.fds {
            assert_eq!(fcntl_getfl(fd).unwrap() & OFlags::ACCMODE, OFlags::RDONLY, "a console can write");
        }
    }
    match (command, role) {
        (None, _) => assert_eq!(errno, Some(Errno::EOPNOTSUPP)),
        (Some(Command::Version), None) => {}
        (Some(Command::Version), Some(_)) | (_, None) => assert_eq!(errno, Some(Errno::EINVAL)),
        (Some(Command::DmaMap | Command::DmaUnmap | Command::Reset), Some(Role::Console)) => {
            assert_eq!(errno, Some(Errno::EPERM));
        }
        (Some(Command::SetIrqs), Some(Role::Console)) if errno.is_none() => {
            assert_eq!((device.has_events(), &payload[8..12]), (true, DISPLAY_IRQ.to_ne_bytes().as_slice()));
        }
        (Some(Command::RegionWrite), Some(Role::Console)) if errno.is_none() => {
            let region = device.regions().get(u32::from_ne_bytes(payload[8..12].try_into().unwrap()));
            assert_eq!(region.unwrap().backing, Backing::Edid, "a console wrote");
        }
        (Some(Command::GetRegionInfo), Some(role)) if errno.is_none() => {
            check_region_info(device, role, body, out.fds.len());
        }
        (Some(Command::RegionRead), Some(role)) if errno.is_none() => check_read(device, role, payload, body),
        // Not negotiated, by a VERSION of the fuzzer's own.
        (Some(Command::QueryGfxPlane | Command::GetGfxDmabuf), Some(Role::Vmm))
            if errno == Some(Errno::EOPNOTSUPP) => {}
        (Some(Command::QueryGfxPlane), Some(_)) => check_query(device, payload, errno, body, ids),
        (Some(Command::GetGfxDmabuf), Some(_)) => {
            check_buffer(device, payload, errno, body, ids);
            assert_eq!(out.fds.len(), usize::from(errno.is_none()), "one descriptor");
        }
        _ => {}
    }
}

fn check_region_info(device: &Device, role: Role, body: &[u8], fds: usize) {
    let (info, _) = RegionInfo::read_from_prefix(body).unwrap();
    let region = device.regions().get(info.index);
    let backing = region.map(|region| region.backing);
    assert_eq!((info.size, info.offset), (region.map_or(0, |region| region.size), 0));
    assert_eq!(fds, usize::from(backing == Some(Backing::Vram)), "a descriptor where it can be mapped");
    let writable = RegionFlags::from_bits_truncate(info.flags).contains(RegionFlags::WRITE);
    assert_eq!(writable, backing.is_some_and(|backing| role == Role::Vmm || backing == Backing::Edid));
}

fn check_read(device: &mut Device, role: Role, payload: &[u8], body: &[u8]) {
    let (access, data) = RegionAccess::read_from_prefix(body).unwrap();
    assert_eq!(access.as_bytes(), &payload[..16]);
    assert_eq!(data.len(), access.count as usize);
    let mut expected = vec![0; data.len()];
    let read = match role {
        Role::Vmm => device.guest_read(access.region, access.offset, &mut expected),
        Role::Console => device.read(access.region, access.offset, &mut expected),
    };
    if read.is_err() {
        // PCI Express' extended configuration space, which a VMM probes for.
        assert!(role == Role::Vmm && access.region == 7 && access.offset >= 256);
        expected.fill(0xff);
    }
    assert!(data == expected, "{access:?} read something else");
}

fn check_query(device: &Device, payload: &[u8], errno: Option<Errno>, body: &[u8], ids: &mut Ids) {
    let words = <[u32; 16]>::read_from_prefix(payload).ok().map(|(words, _)| words);
    let asked = words.filter(|[argsz, ..]| *argsz >= 60).and_then(|[_, flags, kind, ..]| {
        let interface =
            [Interface::Dmabuf, Interface::Region][usize::try_from(flags / 2).ok()?.checked_sub(1)?.min(1)];
        ((2..6).contains(&flags) && device.probe(interface)).then_some((interface, kind, flags & 1 != 0))
    });
    let Some((interface, kind, is_probe)) = asked else {
        return assert_eq!(errno, Some(Errno::EINVAL));
    };
    assert_eq!(errno, None);
    let reply = PlaneReply::read_from_bytes(body).unwrap();
    assert_eq!(reply.as_bytes()[..12], payload[..12], "argsz, flags and plane type are the caller's");
    if is_probe {
        return assert_eq!(reply.as_bytes()[..64], payload[..64], "a probe has no out fields");
    }
    let known = PlaneKind::from_raw(kind).unwrap_or(PlaneKind::Primary);
    let Some(plane) = Plane::from_raw(&reply.info, interface, known, reply.offset).unwrap() else {
        return assert!(body[12..60].iter().all(|byte| *byte == 0) && reply.offset == 0);
    };
    assert!(u64::from(plane.size) <= device.vram().size());
    match plane.source {
        Source::Region { index, .. } => {
            plane.check_within(device.regions().get(index).unwrap().size).unwrap()
        }
        Source::Buffer { .. } => {
            ids.queried(&plane);
            plane.check_within(u64::from(plane.size)).unwrap();
        }
    }
}

fn check_buffer(device: &Device, payload: &[u8], errno: Option<Errno>, body: &[u8], ids: &Ids) {
    let request = <[u32; 2]>::read_from_prefix(payload).ok().map(|(request, _)| request);
    let expected = match request {
        Some([id, 0]) if device.probe(Interface::Dmabuf) => (!ids.knows(id)).then_some(Errno::ENOENT),
        _ => Some(Errno::EINVAL),
    };
    assert_eq!(errno, expected, "{request:?}");
    if let Some([id, _]) = request.filter(|_| errno.is_none()) {
        let reply = BufferReply::read_from_bytes(body).unwrap();
        assert_eq!(reply.dmabuf_id, id);
        assert!(kind_from_raw(reply.kind).is_some() && reply.offset < reply.size);
        assert!(reply.size <= device.vram().size());
    }
}
