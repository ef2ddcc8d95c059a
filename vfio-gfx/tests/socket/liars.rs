//! The console's side against devices that lie: a typed error each time, no panic, no crash, no hang.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use vfio_gfx::abi::{Errno, Interface, PlaneKind};
use vfio_gfx::display::{Display, DisplayError, Remote};
use vfio_gfx::format::Fourcc;
use vfio_gfx::memory::MappingError;
use vfio_gfx::plane::PlaneError;
use vfio_gfx::vfio_user::{ClientError, Command};

use crate::fake::{Answer, BYTES, Fake, HEIGHT, Honest, PIXEL, Request, STRIDE, VRAM_SIZE, WIDTH};
use crate::fixture::Turn;
use crate::hostile::{await_fds, open_fds};
use crate::peer::{GET_GFX_DMABUF, GET_REGION_INFO, QUERY_GFX_PLANE, u32_at, words};

/// Longer than the client's own patience of five seconds.
const WATCHDOG: Duration = Duration::from_secs(15);

/// Everything a console does with a device. `None`: the plane is off.
pub(crate) fn look(fake: &Fake) -> Result<Option<Vec<u8>>, DisplayError> {
    let path = fake.path().to_owned();
    watched(move || {
        let mut display = Display::open(Box::new(Remote::connect(&path)?))?;
        let picture = picture(&mut display)?;
        if picture.is_some() {
            assert_eq!(display.edid()?.as_deref(), Some(&[0xed; 128][..]));
        }
        Ok(picture)
    })
}

/// Every row of the primary plane.
fn picture(display: &mut Display) -> Result<Option<Vec<u8>>, DisplayError> {
    let Some(pixels) = display.pixels(PlaneKind::Primary)? else {
        return Ok(None);
    };
    let geometry = pixels.plane().geometry;
    let row_bytes = geometry.row_bytes(pixels.plane().format.bytes_per_pixel().unwrap_or(4));
    let mut row = vec![0; usize::try_from(row_bytes).unwrap()];
    let mut picture = Vec::new();
    for y in 0..geometry.height() {
        pixels.read_row(y, &mut row)?;
        picture.extend_from_slice(&row);
    }
    Ok(Some(picture))
}

pub(crate) fn watched<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    let thread = std::thread::spawn(move || done.send(run()));
    match result.recv_timeout(WATCHDOG) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the client hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => std::panic::resume_unwind(thread.join().unwrap_err()),
    }
}

/// Looks at a device that lies in reply to one command.
pub(crate) fn lie(
    interface: Interface,
    command: u16,
    mut answer: impl FnMut(&Request, &Honest) -> Answer + Send + 'static,
) -> Result<Option<Vec<u8>>, DisplayError> {
    look(&Fake::start(interface, move |_, request, honest| {
        (request.command == command).then(|| answer(request, honest))
    }))
}

/// Words of the plane's reply: format 3, width 6, height 7, stride 8, size 9, handle 14, offset 16.
fn lie_of_plane(interface: Interface, words: &[(usize, u32)]) -> Result<Option<Vec<u8>>, DisplayError> {
    let words = words.to_vec();
    look(&Fake::start(interface, move |_, request, honest| {
        let is_query = request.command == QUERY_GFX_PLANE && matches!(u32_at(&request.payload, 4), 2 | 4);
        is_query.then(|| {
            let mut plane = honest.plane(&request.payload);
            for (word, value) in &words {
                plane[4 * word..4 * word + 4].copy_from_slice(&value.to_ne_bytes());
            }
            Answer::Reply(plane, vec![])
        })
    }))
}

/// Words of a region's info: flags 1, cap offset 3, size 4 and 5, offset 6 and 7.
pub(crate) fn lie_of_region(
    index: u32,
    words: &'static [(usize, u32)],
) -> Result<Option<Vec<u8>>, DisplayError> {
    lie(Interface::Region, GET_REGION_INFO, move |request, honest| {
        let asked = u32_at(&request.payload, 8);
        let Answer::Reply(mut info, fds) = honest.region(asked) else { unreachable!() };
        for (word, value) in words.iter().filter(|_| asked == index) {
            info[4 * word..4 * word + 4].copy_from_slice(&value.to_ne_bytes());
        }
        Answer::Reply(info, fds)
    })
}

macro_rules! assert_error {
    ($result:expr, $($pattern:tt)+) => {
        let result = $result;
        assert!(matches!(result, Err($($pattern)+)), "{}: {result:?}", stringify!($result));
    };
}
pub(crate) use assert_error;

#[test]
fn an_honest_device_is_shown() {
    let _turn = Turn::shared();
    for interface in [Interface::Region, Interface::Dmabuf] {
        let picture = look(&Fake::start(interface, |_, _, _| None)).unwrap();
        assert_eq!(picture, Some(vec![PIXEL; BYTES as usize]));
    }
}

#[test]
fn planes_that_cannot_be() {
    let _turn = Turn::shared();
    for interface in [Interface::Region, Interface::Dmabuf] {
        let plane = |words: &[(usize, u32)]| lie_of_plane(interface, words);
        let too_large = |result| matches!(result, Err(DisplayError::Plane(PlaneError::TooLarge { .. })));
        assert!(too_large(plane(&[(7, 257), (9, u32::MAX)])), "a row more than the memory has");
        assert!(too_large(plane(&[(7, 16384), (9, u32::MAX)])));
        assert!(too_large(plane(&[(8, u32::MAX)])), "stride");
        assert!(too_large(plane(&[(8, u32::MAX), (9, u32::MAX)])), "stride and size");
        assert!(too_large(plane(&[(9, BYTES - 1)])), "size");
        assert_error!(plane(&[(8, 0)]), DisplayError::Plane(PlaneError::Stride { stride: 0, .. }));
        assert_error!(plane(&[(8, STRIDE - 1)]), DisplayError::Plane(PlaneError::Stride { .. }));
        assert_error!(plane(&[(6, u32::MAX)]), DisplayError::Plane(PlaneError::Dimensions { .. }));
        assert_error!(plane(&[(7, u32::MAX)]), DisplayError::Plane(PlaneError::Dimensions { .. }));
        for off in [3, 6, 7, 9] {
            assert!(matches!(plane(&[(off, 0)]), Ok(None)), "word {off} is zero: the plane is off");
        }
    }
    // Where the region interface finds the plane is in the same reply.
    let vram_size = u32::try_from(VRAM_SIZE).unwrap();
    for offset in [[vram_size - BYTES + 1, 0], [vram_size, 0], [u32::MAX, u32::MAX], [0, 0x8000_0000]] {
        assert_error!(
            lie_of_plane(Interface::Region, &[(16, offset[0]), (17, offset[1])]),
            DisplayError::Plane(PlaneError::TooLarge { container: "region", .. })
        );
    }
    assert!(
        lie_of_plane(Interface::Region, &[(16, vram_size - BYTES)]).unwrap().is_some(),
        "the last that fits"
    );
}

/// A format that nobody knows has rows of unknown length: no error, and nothing is read beyond the memory.
#[test]
fn formats_that_nobody_knows() {
    let _turn = Turn::shared();
    let unknown = u32::from_le_bytes(*b"QQ42");
    assert!(lie_of_plane(Interface::Region, &[(3, unknown)]).unwrap().is_some());
    let fake = Fake::start(Interface::Region, move |_, request, honest| {
        (request.command == QUERY_GFX_PLANE && u32_at(&request.payload, 4) == 4).then(|| {
            let mut plane = honest.plane(&request.payload);
            plane[12..16].copy_from_slice(&unknown.to_ne_bytes());
            plane[64..72].copy_from_slice(&(VRAM_SIZE - u64::from(STRIDE * (HEIGHT - 1))).to_ne_bytes());
            Answer::Reply(plane, vec![])
        })
    });
    let mut display = Display::open(Box::new(Remote::connect(fake.path()).unwrap())).unwrap();
    let pixels = display.pixels(PlaneKind::Primary).unwrap().unwrap();
    assert_eq!(pixels.plane().format, Fourcc::from_bits(unknown));
    assert_error!(
        pixels.read_row(HEIGHT - 1, &mut [0; WIDTH as usize * 4]),
        DisplayError::Mapping(MappingError::OutOfBounds { .. })
    );
    assert!(pixels.read_row(u32::MAX, &mut [0; 4]).is_err(), "no such row");
}

#[test]
fn regions_that_are_not_what_they_say() {
    let _turn = Turn::alone();
    let fds = open_fds();
    // Larger than the descriptor, and far larger.
    assert_error!(lie_of_region(0, &[(4, 0x1_0001)]), DisplayError::Mapping(MappingError::TooShort { .. }));
    assert_error!(
        lie_of_region(0, &[(4, u32::MAX), (5, u32::MAX)]),
        DisplayError::Mapping(MappingError::TooShort { .. })
    );
    assert_error!(lie_of_region(0, &[(4, 0)]), DisplayError::NotMappable { index: 0 });
    assert_error!(lie_of_region(0, &[(1, 1)]), DisplayError::NotMappable { index: 0 });
    let with_fd = |fd: Option<OwnedFd>| {
        let mut fd = fd;
        lie(Interface::Region, GET_REGION_INFO, move |request, honest| {
            match honest.region(u32_at(&request.payload, 8)) {
                Answer::Reply(info, fds) if !fds.is_empty() => {
                    Answer::Reply(info, fd.take().into_iter().collect())
                }
                other => other,
            }
        })
    };
    assert_error!(with_fd(None), DisplayError::NotMappable { index: 0 });
    let open = |path| Some(OwnedFd::from(File::open(path).unwrap()));
    assert_error!(with_fd(open("/dev/zero")), DisplayError::Mapping(MappingError::TooShort { .. }));
    assert_error!(with_fd(open("/proc/self/status")), DisplayError::Mapping(_));
    assert_error!(with_fd(open("/")), DisplayError::Mapping(_));
    let (pipe, _writer) = rustix::pipe::pipe().unwrap();
    assert_error!(with_fd(Some(pipe)), DisplayError::Mapping(MappingError::Io(_)));
    // A named region that is none.
    for handle in [1, 10, u32::MAX] {
        assert_error!(lie_of_plane(Interface::Region, &[(14, handle)]), DisplayError::NotMappable { .. });
    }
    drop(_writer);
    await_fds(fds, "lies of regions");
}

/// A file that can be cut short under a mapping must not be mapped: that would be a SIGBUS.
#[test]
fn memory_that_shrinks_is_an_error() {
    let _turn = Turn::shared();
    for interface in [Interface::Region, Interface::Dmabuf] {
        let file = tempfile::tempfile().unwrap();
        file.set_len(VRAM_SIZE).unwrap();
        let shared = file.try_clone().unwrap();
        let fake = Fake::start(interface, move |_, request, honest| match honest.answer(request) {
            Answer::Reply(reply, fds) if !fds.is_empty() => {
                Some(Answer::Reply(reply, vec![shared.try_clone().unwrap().into()]))
            }
            _ => None,
        });
        let mut display = Display::open(Box::new(Remote::connect(fake.path()).unwrap())).unwrap();
        let pixels = display.pixels(PlaneKind::Primary).unwrap().unwrap();
        let mut row = [1; STRIDE as usize];
        pixels.read_row(HEIGHT - 1, &mut row).unwrap();
        assert_eq!(row, [0; STRIDE as usize]);
        file.set_len(4096).unwrap();
        assert_error!(pixels.read_row(HEIGHT - 1, &mut row), DisplayError::Mapping(MappingError::Io(_)));
        pixels.read_row(0, &mut row).unwrap();
        file.set_len(0).unwrap();
        assert_error!(pixels.read_row(0, &mut row), DisplayError::Mapping(MappingError::Io(_)));
    }
}

#[test]
fn buffers_that_are_not_what_they_say() {
    let _turn = Turn::alone();
    let fds = open_fds();
    let buffer = |kind: u32, offset: u64, size: u64, with_fd: bool| {
        lie(Interface::Dmabuf, GET_GFX_DMABUF, move |request, honest| {
            let place = [offset, size].map(u64::to_ne_bytes).concat();
            let reply = [words(&[u32_at(&request.payload, 0), kind]), place].concat();
            Answer::Reply(reply, with_fd.then(|| honest.memory()).into_iter().collect())
        })
    };
    let bytes = u64::from(BYTES);
    assert!(
        buffer(1, 0, VRAM_SIZE, true).unwrap().is_some(),
        "a memfd that claims to be a dma-buf is only read"
    );
    assert!(buffer(2, VRAM_SIZE - bytes, VRAM_SIZE, true).unwrap().is_some());
    for kind in [0, 3, u32::MAX] {
        assert_error!(buffer(kind, 0, VRAM_SIZE, true), DisplayError::Client(ClientError::Malformed(..)));
    }
    assert_error!(buffer(2, 0, VRAM_SIZE, false), DisplayError::Client(ClientError::Malformed(..)));
    for (offset, size) in [(0, bytes - 1), (VRAM_SIZE - bytes + 1, VRAM_SIZE), (u64::MAX, VRAM_SIZE)] {
        assert_error!(
            buffer(2, offset, size, true),
            DisplayError::Plane(PlaneError::TooLarge { container: "buffer", .. })
        );
    }
    for size in [VRAM_SIZE + 1, u64::MAX] {
        assert_error!(buffer(2, 0, size, true), DisplayError::Mapping(MappingError::TooShort { .. }));
    }
    assert_error!(buffer(2, 0, 0, true), DisplayError::Mapping(MappingError::Size(0)));
    await_fds(fds, "lies of buffers");
}

/// The guest may flip between the query and the fetch; the plane is then looked for again, but not for ever.
#[test]
fn buffers_that_vanish() {
    let _turn = Turn::shared();
    for (vanish, is_shown) in [(1, true), (3, true), (usize::MAX, false)] {
        let (asked, queried) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (gets, queries) = (Arc::clone(&asked), Arc::clone(&queried));
        let fake = Fake::start(Interface::Dmabuf, move |_, request, _| match request.command {
            GET_GFX_DMABUF if gets.fetch_add(1, Ordering::Relaxed) < vanish => Some(Answer::Refuse(2)),
            QUERY_GFX_PLANE if u32_at(&request.payload, 4) == 2 => {
                queries.fetch_add(1, Ordering::Relaxed);
                None
            }
            _ => None,
        });
        let result = look(&fake);
        if is_shown {
            assert!(matches!(result, Ok(Some(_))), "{result:?}");
            assert_eq!(queried.load(Ordering::Relaxed), vanish + 1, "each time it is queried anew");
        } else {
            let command = Command::GetGfxDmabuf;
            assert!(
                matches!(result, Err(DisplayError::Client(ClientError::Refused { command: c, errno: Errno::ENOENT })) if c == command),
                "{result:?}"
            );
            assert!(asked.load(Ordering::Relaxed) <= 10);
        }
    }
    // Another failure is not waited out.
    assert_error!(
        lie(Interface::Dmabuf, GET_GFX_DMABUF, |_, _| Answer::Refuse(12)),
        DisplayError::Client(ClientError::Refused { errno: Errno::ENOMEM, .. })
    );
}
