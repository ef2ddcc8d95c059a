//! A VMM and a console as small as a test can do with, which take a device through everything that it does.
//!
//! Nothing here panics at what a device answers: the tests that use it break the device.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use vfio_gfx::abi::{Errno, Interface, PlaneKind};
use vfio_gfx::display::{Display, DisplayError, Remote};
use vfio_gfx::plane::Source;
use vfio_gfx::vfio_user::{Client, ClientError, Command, Role};

/// Where the guest's memory is, in device addresses.
const GUEST: u32 = 0x10_0000;
/// How much there is of it.
const GUEST_SIZE: u64 = 0x10_0000;
/// How long the place of a VMM that has gone may take to be free.
const FREE: Duration = Duration::from_secs(5);

/// Registers of a Bochs display, by their number.
const DISPI: u64 = 0x500;
const XRES: u64 = 1;
const YRES: u64 = 2;
const BPP: u64 = 3;
const ENABLE: u64 = 4;
const VIRT_WIDTH: u64 = 6;
const X_OFFSET: u64 = 8;
const Y_OFFSET: u64 = 9;

/// Registers of a vgfx's primary plane, in BAR2, and what makes them effective (`mdev_sample::vgfx`).
const PLANE: u64 = 0x840;
const COMMIT: u64 = 0x808;
/// CONTROL, FORMAT, OFFSET_LOW, OFFSET_HIGH, STRIDE, WIDTH, HEIGHT and MEMORY, by their number.
const IN_GUEST_MEMORY: [(u64, u32); 8] = [
    (0, 1),
    (1, u32::from_le_bytes(*b"XR24")),
    (2, GUEST),
    (3, 0),
    (4, GUEST_PLANE.0 * 4),
    (5, GUEST_PLANE.0),
    (6, GUEST_PLANE.1),
    (13, 1),
];
/// Width and height, in pixels, of a plane in guest memory.
pub const GUEST_PLANE: (u32, u32) = (320, 200);

/// A VMM attached to a Bochs display (mbochs-* or vgfx-*).
#[derive(Debug)]
pub struct Vmm(Client);

impl Vmm {
    /// Attaches.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn attach(path: &Path) -> Result<Self, ClientError> {
        Client::connect(path, Role::Vmm).map(Self)
    }

    /// Fetches the descriptor of the video memory.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn video_memory(&mut self) -> Result<OwnedFd, ClientError> {
        let request = words(&[32, 0, 0, 0, 0, 0, 0, 0]);
        self.0.call(Command::GetRegionInfo, &[&request], |_, mut fds| {
            fds.pop().ok_or(ClientError::Malformed(Command::GetRegionInfo, "no descriptor"))
        })
    }

    /// Announces guest memory.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn grant(&mut self, memory: OwnedFd) -> Result<(), ClientError> {
        let request = [words(&[32, 3]), longs(&[0, GUEST.into(), GUEST_SIZE])].concat();
        self.0.call_with_fds(Command::DmaMap, &[&request], &[memory], |_, _| Ok(()))
    }

    /// Takes it back.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn take_back(&mut self) -> Result<(), ClientError> {
        let request = [words(&[24, 0]), longs(&[GUEST.into(), GUEST_SIZE])].concat();
        self.0.call(Command::DmaUnmap, &[&request], |_, _| Ok(()))
    }

    /// Shows a plane in guest memory instead, on a vgfx.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn show_guest_memory(&mut self) -> Result<(), ClientError> {
        for (register, value) in IN_GUEST_MEMORY {
            self.write_long(PLANE + 4 * register, value)?;
        }
        self.write_long(COMMIT, 1)
    }

    fn write_long(&mut self, place: u64, value: u32) -> Result<(), ClientError> {
        let payload = [longs(&[place]), words(&[2, 4])].concat();
        self.0.call(Command::RegionWrite, &[&payload, &value.to_le_bytes()], |_, _| Ok(()))
    }

    fn write(&mut self, register: u64, value: u16) -> Result<(), ClientError> {
        let payload = [longs(&[DISPI + 2 * register]), words(&[2, 2])].concat();
        self.0.call(Command::RegionWrite, &[&payload, &value.to_le_bytes()], |_, _| Ok(()))
    }

    /// Sets a mode, as bochs-drm does.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn mode(&mut self, width: u16, height: u16) -> Result<(), ClientError> {
        for (register, value) in [
            (ENABLE, 0),
            (BPP, 32),
            (XRES, width),
            (YRES, height),
            (VIRT_WIDTH, width),
            (X_OFFSET, 0),
            (Y_OFFSET, 0),
            (ENABLE, 0x41),
        ] {
            self.write(register, value)?;
        }
        Ok(())
    }

    /// Reads a mebibyte of video memory, the most that one message asks for.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn read_much(&mut self) -> Result<(), ClientError> {
        let request = [longs(&[0]), words(&[0, 1 << 20])].concat();
        self.0.call(Command::RegionRead, &[&request], |_, _| Ok(()))
    }

    /// Shows the memory from this row on.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn flip(&mut self, row: u16) -> Result<(), ClientError> {
        for (register, value) in [(X_OFFSET, 0), (Y_OFFSET, row)] {
            self.write(register, value)?;
        }
        Ok(())
    }

    /// Begins to say where and how wide the memory is that is shown, and does not come to its end.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn begin_flip(&mut self, virtual_width: u16) -> Result<(), ClientError> {
        self.write(VIRT_WIDTH, virtual_width)
    }
}

/// What a VMM of a vgfx and a console do with a plane in guest memory: it is shown, fetched and read, and taken back. Returns the size
/// of the screen meanwhile.
///
/// # Errors
/// The first that one of them met.
pub fn guest_plane(path: &Path) -> Result<Option<(u32, u32)>, DisplayError> {
    let mut vmm = attach_when_free(path)?;
    vmm.grant(guest_memory())?;
    let mut display = console(path)?;
    vmm.show_guest_memory()?;
    let size = look(&mut display)?;
    vmm.take_back()?;
    Ok(size)
}

/// Memory for a guest.
///
/// # Panics
/// If this process gets none.
#[must_use]
pub fn guest_memory() -> OwnedFd {
    let memory = memfd_create("guest", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
    let memory = File::from(memory.expect("memory for a guest"));
    memory.set_len(GUEST_SIZE).expect("memory for a guest");
    memory.into()
}

/// Opens a device as a console.
///
/// # Errors
/// As [`Remote::connect`] and [`Display::open`].
pub fn console(path: &Path) -> Result<Display, DisplayError> {
    Display::open(Box::new(Remote::connect(path)?))
}

/// Looks at the screen, and returns how large it is.
///
/// # Errors
/// What [`Display::pixels`] fails with.
pub fn look(display: &mut Display) -> Result<Option<(u32, u32)>, DisplayError> {
    let Some(pixels) = display.pixels(PlaneKind::Primary)? else { return Ok(None) };
    let geometry = pixels.plane().geometry;
    let mut row = vec![0; geometry.width() as usize * 4];
    pixels.read_row(geometry.height() - 1, &mut row)?;
    Ok(Some((geometry.width(), geometry.height())))
}

/// Fetches the primary plane as a buffer, and maps it. Nothing if the device has no such thing to offer.
///
/// # Errors
/// What the device refuses with.
pub fn export(display: &mut Display) -> Result<(), DisplayError> {
    if !display.offered().contains(&Interface::Dmabuf) {
        return Ok(());
    }
    let plane = display.backend().query(Interface::Dmabuf, PlaneKind::Primary)?;
    if let Some(Source::Buffer { id, .. }) = plane.map(|plane| plane.source) {
        display.backend().map_buffer(id)?;
    }
    Ok(())
}

/// Everything that a VMM and a console do with a device from their start to their end: memory, modes, planes, buffers,
/// changes. Returns the size of the screen as the console saw it at last.
///
/// # Errors
/// The first that one of them met.
pub fn whole_life(path: &Path) -> Result<Option<(u32, u32)>, DisplayError> {
    let mut vmm = attach_when_free(path)?;
    let memory = vmm.video_memory()?;
    vmm.grant(guest_memory())?;
    vmm.mode(640, 480)?;
    let mut display = console(path)?;
    let watch = display.backend().watch()?;
    look(&mut display)?;
    export(&mut display)?;
    vmm.flip(480)?;
    if let Some(watch) = watch {
        watch.wait(Duration::from_secs(5))?;
    }
    vmm.read_much()?;
    vmm.take_back()?;
    let size = look(&mut display);
    drop(memory);
    size
}

/// Attaches. The last VMM's connection may have no end yet: a program that another test starts at this moment has our
/// descriptors until it executes.
///
/// # Errors
/// As [`Client::connect`].
pub fn attach_when_free(path: &Path) -> Result<Vmm, ClientError> {
    let start = Instant::now();
    loop {
        match Vmm::attach(path) {
            Err(ClientError::Refused { errno: Errno::EBUSY, .. }) if start.elapsed() < FREE => {
                std::thread::sleep(Duration::from_millis(2));
            }
            attached => return attached,
        }
    }
}

/// The bytes of 32-bit fields of a message.
#[must_use]
pub fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// The bytes of 64-bit fields of a message.
#[must_use]
pub fn longs(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}
