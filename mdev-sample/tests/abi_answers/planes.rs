//! Planes and buffers.

use mdev_sample::DeviceType;
use mdev_sample::TYPES;
use mdev_sample::abi_fuzz::Target;
use vfio_gfx::abi::{DeviceIoctl, Errno, PlaneInfo, PlaneRequest};
use vfio_gfx::device::DeviceError;
use zerocopy::FromBytes;

use super::{GUARD, Pair, sizes, word};

#[test]
fn query_gfx_plane() {
    let flags: Vec<u32> = (0..17).chain([0x21, 0x82, 0x102, 1 << 31, (1 << 31) | 2, u32::MAX]).collect();
    for mut pair in Pair::all() {
        for has_mode in [false, true] {
            if has_mode && pair.offers_dmabuf() {
                pair.set_mode(0);
            }
            for argsz in sizes(60) {
                for flags in &flags {
                    for plane in [0, 1, 2, 3, u32::MAX] {
                        for len in [0, 8, 59, 60, 63, 64, 80] {
                            query_answers(&mut pair, [argsz, *flags, plane], len, has_mode);
                        }
                    }
                }
            }
        }
    }
}

fn query_answers(pair: &mut Pair, words: [u32; 3], len: usize, has_mode: bool) {
    let [argsz, flags, plane] = words;
    let request = DeviceIoctl::QueryGfxPlane.raw();
    let (answer, memory) = pair.ioctl(request, &words[..words.len().min(len / 4)], len);
    let offered = match flags {
        2 | 3 => pair.offers_dmabuf(),
        4 | 5 => pair.offers_region(),
        _ => false,
    };
    let expected = match (len, argsz) {
        (..60, _) => Err(Errno::EFAULT),
        (_, ..60) => Err(Errno::EINVAL),
        _ if !offered => Err(Errno::EINVAL),
        _ => Ok(()),
    };
    assert_eq!(answer, expected, "{} {words:x?} in {len} bytes", pair.name());
    if answer.is_err() {
        return;
    }
    assert_eq!([0, 4, 8].map(|at| word(&memory, at)), words, "what was asked stays");
    assert!(memory[60..].iter().all(|byte| *byte == GUARD), "reserved is neither read nor written");
    let body = &memory[12..60];
    let shows = plane == 1 || plane == 0 && flags == 4;
    if flags & 1 != 0 {
        assert!(body.iter().all(|byte| *byte == GUARD), "a probe writes nothing");
    } else if shows && (has_mode || !pair.offers_dmabuf()) {
        let [format, width, height, stride, size] = [12, 24, 28, 32, 36].map(|at| word(&memory, at));
        assert_eq!((format, width, height, stride), (0x3432_5258, 640, 480, 2560));
        assert!(size.is_multiple_of(4096) && size >= stride * height);
        assert_eq!([40, 44, 48, 52].map(|at| word(&memory, at)), [0, 0, u32::MAX, u32::MAX]);
        let region = if pair.offers_dmabuf() { 0 } else { 16 };
        assert_eq!(word(&memory, 56), if flags == 4 { region } else { 1 });
    } else {
        assert!(body.iter().all(|byte| *byte == 0), "off: {words:x?}");
    }
}

/// The typed methods are the third way to the same answers.
#[test]
fn in_process_requests() {
    for device_type in TYPES {
        let mut device = device_type.create(None).unwrap();
        for argsz in sizes(60) {
            for flags in 0..17 {
                for plane in [0, 1, 2, 3, u32::MAX] {
                    let mut arg = [0; 64];
                    for (slot, word) in arg.chunks_exact_mut(4).zip([argsz, flags, plane]) {
                        slot.copy_from_slice(&word.to_ne_bytes());
                    }
                    let raw = PlaneInfo::read_from_bytes(&arg).unwrap();
                    let typed = PlaneRequest::parse(&raw)
                        .map_err(DeviceError::from)
                        .and_then(|request| device.request(request))
                        .map(|_| ())
                        .map_err(Errno::from);
                    let ioctl =
                        device.ioctl(DeviceIoctl::QueryGfxPlane.raw(), &mut arg, Vec::new()).map(|_| ());
                    assert_eq!(typed, ioctl, "{} {argsz} {flags} {plane}", device_type.name());
                }
            }
        }
    }
}

/// What a struct without an offset cannot say is refused by the ioctls.
#[test]
fn planes_that_start_elsewhere() {
    let mut pair = Pair::new(DeviceType::find("vgfx-hd").unwrap());
    pair.set_mode(480);
    let request = DeviceIoctl::QueryGfxPlane.raw();
    assert_eq!(pair.ioctl(request, &[64, 4, 1], 64).0, Err(Errno::EOPNOTSUPP));
    let (answer, memory) = pair.ioctl(request, &[64, 2, 1], 64);
    assert_eq!(answer, Ok(()));
    let id = word(&memory, 56);
    // A memfd has no place of its own for it; a dma-buf begins with the plane.
    let same = |pair: &mut Pair, id: u32| {
        let here = pair.here.dmabuf(id).map(|buffer| buffer.size);
        assert_eq!(pair.remote.dmabuf(id).map(|buffer| buffer.size), here);
        here
    };
    let here = same(&mut pair, id);
    let is_udmabuf = std::path::Path::new("/dev/udmabuf").exists();
    assert_eq!(here, if is_udmabuf { Ok(640 * 480 * 4) } else { Err(Errno::EINVAL) });
    pair.set_mode(0);
    let (_, memory) = pair.ioctl(request, &[64, 2, 1], 64);
    assert_eq!(word(&memory, 56), id + 1);
    assert!(same(&mut pair, id + 1).is_ok());
}

#[test]
fn get_gfx_dmabuf() {
    for mut pair in Pair::all() {
        let request = DeviceIoctl::GetGfxDmabuf.raw();
        for id in [0, 1, 2, 99, 1 << 31, u32::MAX] {
            for len in [0, 3, 4, 8] {
                let (answer, _) = pair.ioctl(request, &[id][..len.min(4) / 4], len);
                let expected = match (pair.offers_dmabuf(), len) {
                    (false, _) => Errno::ENOTTY,
                    (true, ..4) => Errno::EFAULT,
                    (true, _) => Errno::ENOENT,
                };
                assert_eq!(answer, Err(expected), "{} id {id} in {len} bytes", pair.name());
            }
        }
    }
}
