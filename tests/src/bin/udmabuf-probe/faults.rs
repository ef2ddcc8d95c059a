//! The ioctls of udmabuf fail: who asked is told, nothing is left behind, and the next who asks is served.
//!
//! A system call that is to fail once for a part of the program fails always for one of its threads, which ends.

use std::thread;

use rustix::io::Errno;
use vfio_gfx::abi::{Interface, PlaneKind, pci_region};
use vfio_gfx::memory::{BufferKind, DmaAccess, GuestExportError, GuestMemory, Udmabuf, Vram};
use vfio_gfx::plane::Source;
use vfio_gfx_tests::{call, inject};

use crate::{Done, HIGH, PAGE, PAGES, device, duplicate, scattered};

/// `UDMABUF_CREATE` and `UDMABUF_CREATE_LIST` (linux/udmabuf.h).
const IOCTLS: [u32; 2] = [0x4018_7542, 0x4008_7543];

const ERRNOS: [Errno; 4] = [Errno::NOMEM, Errno::MFILE, Errno::NFILE, Errno::INTR];

/// Runs `body` where these ioctls fail.
fn where_they_fail(errno: Errno, body: impl FnOnce() + Send) -> Done {
    let done: Result<(), String> = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            for ioctl in IOCTLS {
                inject::fails_in_this_thread(&call!(ioctl), ioctl, errno)?;
            }
            body();
            Ok(())
        });
        thread.join().map_err(|_| format!("a thread where udmabuf fails with {errno:?} panicked"))?
    });
    Ok(done?)
}

fn descriptors() -> Result<usize, std::io::Error> {
    Ok(std::fs::read_dir("/proc/self/fd")?.count())
}

pub(crate) fn fail_once() -> Done {
    for errno in ERRNOS {
        of_a_plane(errno)?;
        of_guest_memory(errno)?;
    }
    Ok(())
}

/// A plane in video memory: the console that asked for it is refused, the next has it, and the plane is the same.
fn of_a_plane(errno: Errno) -> Done {
    let mut device = device()?;
    device.guest_write(pci_region::BAR2, 0, &[2])?;
    let plane = device.query(Interface::Dmabuf, PlaneKind::Primary)?.ok_or("the plane is off")?;
    let Source::Buffer { id, .. } = plane.source else { return Err("the plane is no buffer".into()) };
    let before = descriptors()?;
    where_they_fail(errno, || {
        let refused = device.buffer(id, true).map(|buffer| buffer.kind).expect_err("udmabuf fails");
        let expected = vfio_gfx::abi::Errno::from(errno);
        assert_eq!(vfio_gfx::abi::Errno::from(&refused), expected, "{refused}");
    })?;
    assert_eq!(descriptors()?, before, "after {errno:?}");
    assert_eq!(device.buffer(id, true)?.kind, BufferKind::Dmabuf);
    Ok(())
}

/// Pieces of guest memory: they are as they were, and become one buffer for the next who asks.
fn of_guest_memory(errno: Errno) -> Done {
    let udmabuf = Udmabuf::open()?;
    let memory = GuestMemory::default();
    for (address, vram) in [(0, Vram::new("low", PAGES * PAGE)?), (HIGH, Vram::new("high", PAGES * PAGE)?)] {
        memory.map(address, PAGES * PAGE, DmaAccess::all(), Some((duplicate(&vram)?, 0)))?;
    }
    let pieces = memory.pieces(&scattered())?;
    let before = descriptors()?;
    where_they_fail(errno, || {
        let refused = pieces.export(Some(&udmabuf)).map(|buffer| buffer.kind).expect_err("udmabuf fails");
        assert!(matches!(refused, GuestExportError::Udmabuf(error) if error.errno() == errno), "{refused}");
    })?;
    assert_eq!(descriptors()?, before, "after {errno:?}");
    assert_eq!(pieces.export(Some(&udmabuf))?.kind, BufferKind::Dmabuf);
    Ok(())
}
