//! Raw ioctls and file accesses on a device's descriptor.

use vfio_gfx::abi::caps;
use vfio_gfx::abi::{
    DEVICE_INFO_MIN, DeviceIoctl, Errno, IRQ_INFO_MIN, IRQ_SET_HEADER, Interface, PLANE_INFO_MIN, PlaneInfo,
    PlaneKind, REGION_INFO_MIN,
};
use vfio_gfx::device::{DISPLAY_IRQ, Device, IoctlReply};
use vfio_gfx::plane::Plane;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::gifts::Gifts;
use crate::ids::Ids;
use crate::input::Input;
use crate::subject::{Subject, check_planes, set_mode, set_plane};

/// Operations per input; a longer one says nothing new.
const MAX_OPERATIONS: usize = 200;

/// Argument memory that the code never reads or writes keeps this.
const UNTOUCHED: u8 = 0xa5;

/// Where accesses to the descriptor are tried: the regions of both kinds of device, their ends, and beyond.
const PLACES: [u64; 12] =
    [0, 0x100, 0x1000, 0x1400, 0x1500, 0x1600, 0x2000, 0x2800, 0x3000, 0x40_3000, 0x20_1000, 1 << 40];

/// What may be asked, the display ioctls most often.
const REQUESTS: [DeviceIoctl; 12] = [
    DeviceIoctl::GetInfo,
    DeviceIoctl::GetRegionInfo,
    DeviceIoctl::GetRegionInfo,
    DeviceIoctl::GetIrqInfo,
    DeviceIoctl::SetIrqs,
    DeviceIoctl::SetIrqs,
    DeviceIoctl::Reset,
    DeviceIoctl::QueryGfxPlane,
    DeviceIoctl::QueryGfxPlane,
    DeviceIoctl::QueryGfxPlane,
    DeviceIoctl::GetGfxDmabuf,
    DeviceIoctl::GetGfxDmabuf,
];

/// Any sequence of ioctls, reads and writes on the descriptor of a sample device, as a process that holds it can issue
/// them.
///
/// Oracle: every answer is a success or an errno of 1 to 4095; too little memory is `EFAULT`, too small an `argsz`
/// `EINVAL`, an unknown request `ENOTTY`; a failure leaves the argument as it was, a success changes only its out
/// fields and nothing beyond them; a query that succeeds describes a plane that its memory holds, or one whose out
/// fields are all zero; buffer ids only grow, the recent ones can be fetched, all others are `ENOENT`; no descriptor that
/// came with a request outlives the device.
pub fn ioctl(data: &[u8]) {
    let input = &mut Input::new(data);
    let Subject { mut device, clock } = Subject::choose(input);
    let mut ids = Ids::default();
    let gifts = Gifts::new();
    for _ in 0..MAX_OPERATIONS {
        if input.is_empty() {
            break;
        }
        match input.byte() % 9 {
            0..=3 => call(&mut device, input, &mut ids, &gifts),
            4 => read(&mut device, input),
            5 => write(&mut device, input),
            6 => set_mode(&mut device, input.any(), input.any()),
            7 => set_plane(&mut device, input),
            _ => {
                clock.fetch_add(u64::from(input.byte()) * 10, std::sync::atomic::Ordering::Relaxed);
            }
        }
    }
    check_planes(&mut device, &mut ids);
    drop(device);
    gifts.check_released();
}

fn request(input: &mut Input<'_>) -> u32 {
    match input.byte() {
        known @ 0..0xf0 => REQUESTS[usize::from(known) % REQUESTS.len()].raw(),
        near @ 0xf0..0xfc => 0x3b60 + u32::from(near & 0xf) * 2,
        _ => input.any(),
    }
}

/// Argument memory of any length, and numbers in its first fields.
fn argument(input: &mut Input<'_>) -> Vec<u8> {
    let len = match input.byte() {
        any @ 0..0x80 => usize::from(any),
        other => [0, 4, 15, 16, 20, 24, 31, 32, 47, 48, 59, 60, 63, 64, 72, 200][usize::from(other & 0xf)],
    };
    let mut arg = vec![UNTOUCHED; len];
    for field in arg.chunks_mut(4).take(usize::from(input.byte() % 10)) {
        field.copy_from_slice(&input.number().to_ne_bytes()[..field.len()]);
    }
    arg
}

fn field(arg: &[u8], n: usize) -> u32 {
    u32::read_from_bytes(&arg[4 * n..4 * n + 4]).unwrap()
}

fn call(device: &mut Device, input: &mut Input<'_>, ids: &mut Ids, gifts: &Gifts) {
    let request = request(input);
    let before = argument(input);
    let fds = match DeviceIoctl::from_raw(request) {
        Some(DeviceIoctl::SetIrqs) => gifts.some(input.byte() % 6),
        _ => Vec::new(),
    };
    let mut arg = before.clone();
    let result = device.ioctl(request, &mut arg, fds);
    if let Err(errno) = &result {
        assert!((1..4096).contains(&errno.raw()), "{errno:?}");
        assert_eq!(arg, before, "{request:#x} failed with {errno:?} and changed its argument");
    }
    let known = DeviceIoctl::from_raw(request);
    // Bytes that must be there, and whether they start with an argsz.
    let (needed, has_argsz) = match known {
        Some(DeviceIoctl::GetInfo) => (DEVICE_INFO_MIN, true),
        Some(DeviceIoctl::GetRegionInfo) => (REGION_INFO_MIN, true),
        Some(DeviceIoctl::GetIrqInfo) => (IRQ_INFO_MIN, true),
        Some(DeviceIoctl::SetIrqs) => (IRQ_SET_HEADER, true),
        Some(DeviceIoctl::QueryGfxPlane) => (PLANE_INFO_MIN, true),
        Some(DeviceIoctl::GetGfxDmabuf) if device.probe(Interface::Dmabuf) => (4, false),
        Some(DeviceIoctl::Reset) => (0, false),
        _ => {
            assert_eq!(result.err(), Some(Errno::ENOTTY), "{request:#x}");
            return;
        }
    };
    if before.len() < needed as usize {
        assert_eq!(result.err(), Some(Errno::EFAULT), "{request:#x} with {} bytes", before.len());
    } else if has_argsz && field(&before, 0) < needed {
        assert_eq!(result.err(), Some(Errno::EINVAL), "{request:#x} with argsz {}", field(&before, 0));
    } else {
        match known {
            Some(DeviceIoctl::QueryGfxPlane) => check_query(device, &before, &arg, &result, ids),
            Some(DeviceIoctl::GetGfxDmabuf) => check_fetch(device, field(&before, 0), result, ids),
            Some(DeviceIoctl::GetRegionInfo) if result.is_ok() => check_region(device, &before, &arg),
            Some(DeviceIoctl::GetInfo) => {
                result.unwrap();
                let ([argsz, flags, regions, irqs], rest) = <[u32; 4]>::read_from_prefix(&arg).unwrap();
                assert_eq!((argsz, flags), (field(&before, 0), 3));
                assert!(regions >= 9 && irqs == device.num_irqs() && rest == &before[16..]);
            }
            Some(DeviceIoctl::GetIrqInfo) => check_irq(device, &before, &arg, result.is_ok()),
            _ => assert_eq!(arg, before, "{request:#x} has nothing to write"),
        }
    }
}

fn check_irq(device: &Device, before: &[u8], after: &[u8], is_ok: bool) {
    const CAPS: usize = 24;
    let fixed = IRQ_INFO_MIN as usize;
    let (argsz, index) = (field(before, 0) as usize, field(before, 2));
    assert_eq!(field(after, 2), index);
    // Only the display interrupt has capabilities, and its info fails when the memory is less than argsz says.
    let has_caps = device.has_events() && index == DISPLAY_IRQ;
    let has_room = has_caps && argsz >= fixed + CAPS;
    let fits = !has_room || before.len() >= fixed + CAPS;
    assert_eq!(is_ok, index < device.num_irqs() && fits);
    let written = if is_ok && has_room { fixed + CAPS } else { fixed };
    assert_eq!(after[written..], before[written..], "bytes behind the info and its capabilities");
    assert_eq!(
        after.len() > fixed && has_caps && caps::is_display_irq(after),
        after[fixed..written].len() == CAPS
    );
}

fn check_region(device: &Device, before: &[u8], after: &[u8]) {
    let (index, cap_offset) = (field(before, 2), field(after, 3));
    let fixed = REGION_INFO_MIN as usize;
    assert_eq!(field(after, 2), index);
    let region = device.regions().get(index);
    let chain = region.map_or(&[][..], |region| region.caps());
    let has_room = field(before, 0) as usize >= fixed + chain.len();
    let written = if has_room { fixed + chain.len() } else { fixed };
    assert_eq!(after[written..], before[written..], "bytes behind the info and its capabilities");
    assert_eq!(after[fixed..written], chain[..written - fixed]);
    if !chain.is_empty() {
        assert_eq!(cap_offset, if has_room { REGION_INFO_MIN } else { 0 });
        assert_eq!(
            field(after, 0) as usize,
            if has_room { field(before, 0) as usize } else { fixed + chain.len() }
        );
        caps::parse(after, cap_offset).unwrap();
    } else {
        assert_eq!(field(after, 0), field(before, 0));
    }
    let size = u64::read_from_bytes(&after[16..24]).unwrap();
    assert_eq!(size, region.map_or(0, |region| region.size));
}

fn check_query(
    device: &mut Device,
    before: &[u8],
    after: &[u8],
    result: &Result<IoctlReply, Errno>,
    ids: &mut Ids,
) {
    let limit = PLANE_INFO_MIN as usize;
    assert_eq!(after[..12], before[..12], "argsz, flags and plane type are the caller's");
    assert_eq!(after[limit..], before[limit..], "bytes behind the handle");
    let (flags, raw_kind) = (field(before, 1), field(before, 2));
    let interface = match flags {
        2 | 3 => Interface::Dmabuf,
        4 | 5 => Interface::Region,
        _ => return assert_eq!(result.as_ref().err(), Some(&Errno::EINVAL), "flags {flags:#x}"),
    };
    if !device.probe(interface) {
        return assert_eq!(result.as_ref().err(), Some(&Errno::EINVAL), "not offered");
    }
    if flags & 1 != 0 {
        assert!(result.is_ok() && after == before, "a probe has no out fields");
        return;
    }
    match result {
        Ok(IoctlReply::Done) => {}
        Ok(IoctlReply::Fd(_)) => panic!("a query has no descriptor to give"),
        // A plane that does not start where its region does; a buffer starts where the device says.
        Err(errno) => return assert_eq!((*errno, interface), (Errno::EOPNOTSUPP, Interface::Region)),
    }
    let mut raw = PlaneInfo::new_zeroed();
    raw.as_mut_bytes()[..limit].copy_from_slice(&after[..limit]);
    let kind = PlaneKind::from_raw(raw_kind).unwrap_or(PlaneKind::Primary);
    match Plane::from_raw(&raw, interface, kind, 0).unwrap() {
        None => assert!(after[12..limit].iter().all(|byte| *byte == 0), "off, but not all zero"),
        Some(plane) => {
            plane.check_within(device.vram().size()).unwrap();
            assert!(PlaneKind::from_raw(raw_kind).is_some(), "plane type {raw_kind} does not exist");
            match interface {
                Interface::Region => assert!(device.regions().get(raw.handle).is_some()),
                Interface::Dmabuf => {
                    ids.queried(&plane);
                }
            }
        }
    }
}

fn check_fetch(device: &mut Device, id: u32, result: Result<IoctlReply, Errno>, ids: &Ids) {
    // Where the buffer starts: the ioctl has no field for it, so only one that starts at 0 can be fetched.
    let offset = device.buffer(id, false).map(|buffer| buffer.offset);
    match result {
        Ok(IoctlReply::Fd(_)) => assert!(ids.knows(id) && offset.unwrap() == 0, "id {id}"),
        Ok(IoctlReply::Done) => panic!("fetched id {id}, but got no descriptor"),
        Err(Errno::EINVAL) => assert!(ids.knows(id) && offset.unwrap() != 0, "id {id}"),
        Err(errno) => assert!(!ids.knows(id) && errno == Errno::ENOENT, "id {id}: {errno:?}"),
    }
}

fn place(input: &mut Input<'_>) -> u64 {
    let base = input.pick(&PLACES);
    match input.byte() {
        after @ 0..0x80 => base + u64::from(after),
        before @ 0x80..0xf0 => base.saturating_sub(u64::from(before & 0x7f)),
        0xf0..0xf8 => base + u64::from(input.any::<u16>()),
        _ => input.any(),
    }
}

fn read(device: &mut Device, input: &mut Input<'_>) {
    let (offset, len) = (place(input), usize::try_from(input.number() & 0xffff).unwrap());
    let mut data = vec![UNTOUCHED; len];
    match device.fd_read(offset, &mut data) {
        Ok(read) => assert_eq!(read, len),
        Err(errno) => assert_eq!(errno, Errno::EFAULT),
    }
}

fn write(device: &mut Device, input: &mut Input<'_>) {
    let (offset, data) = (place(input), input.some_bytes(255));
    match device.fd_write(offset, data) {
        Ok(written) => assert_eq!(written, data.len()),
        // EINVAL and EPERM are the EDID region's.
        Err(errno) => assert!([Errno::EFAULT, Errno::EINVAL, Errno::EPERM].contains(&errno), "{errno:?}"),
    }
}
