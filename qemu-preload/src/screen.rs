//! What QEMU shows: the composed picture, in a region of the library's own.
//!
//! QEMU maps a display region once and reads the plane from its first byte; it can be told neither where else a plane starts
//! nor that anything about it changed, and takes no memory's end into account. So the picture is copied, tile by changed tile,
//! into memory that is always large enough, just before QEMU reads it: QEMU asks and reads in one thread.
//!
//! A QEMU with OpenGL can be offered a dma-buf instead: it is of the same memory. QEMU takes a buffer's size and format to be what
//! they were when it first saw its id, so that each size of the picture is a buffer of its own, with an id that never comes back.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use qemu_shim::damage::Rect;
use qemu_shim::{Console, Frame, Refresh};
use vfio_gfx::abi::{Errno, Interface, PlaneInfo, RegionFlags, RegionInfo};
use vfio_gfx::display::{Display, DisplayError, Remote};
use vfio_gfx::format::{Fourcc, Modifier};
use vfio_gfx::memory::{PAGE_SIZE, Udmabuf, Vram, VramError};
use vfio_gfx::vfio_user::ClientError;
use zerocopy::IntoBytes;

use crate::report;

/// Bytes of the region: 8192 x 8192 pixels, the largest screen of Linux' drivers for such displays. Memory is used where a
/// picture was.
pub(crate) const SIZE: u64 = 8192 * 8192 * 4;

/// Why there is no screen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScreenError {
    /// The device cannot be reached a second time.
    #[error(transparent)]
    Connect(#[from] ClientError),
    /// It is no display.
    #[error(transparent)]
    Display(#[from] DisplayError),
    /// No memory.
    #[error(transparent)]
    Memory(#[from] VramError),
}

/// A console whose picture is in memory that QEMU maps.
#[derive(Debug)]
pub(crate) struct Screen {
    console: Console,
    memory: Vram,
    region: u32,
    /// Width and height of the picture in the memory, in pixels; zero before the first.
    shown: (u32, u32),
    /// The id of the buffer that such a picture is in; counts up with each new size.
    buffer: u32,
    /// The device is gone: the picture that says so stays.
    is_gone: bool,
    /// What went wrong last, to be said once.
    complaint: Option<String>,
}

impl Screen {
    /// A screen that looks at the device at `socket`, to be region `region`.
    ///
    /// # Errors
    /// [`ScreenError`].
    pub(crate) fn new(socket: &Path, region: u32) -> Result<Self, ScreenError> {
        let display = Display::open(Box::new(Remote::connect(socket)?))?;
        let memory = Vram::new("vfio-gfx-screen", SIZE)?;
        Ok(Self {
            console: Console::new(display),
            memory,
            region,
            shown: (0, 0),
            buffer: 0,
            is_gone: false,
            complaint: None,
        })
    }

    /// What `VFIO_DEVICE_GET_REGION_INFO` says of region `index`, when it is a screen's.
    pub(crate) fn region_info(index: u32, offset: u64) -> RegionInfo {
        let flags = RegionFlags::READ | RegionFlags::MMAP;
        RegionInfo { argsz: 32, flags: flags.bits(), index, cap_offset: 0, size: SIZE, offset }
    }

    /// The memory, to be mapped.
    ///
    /// # Errors
    /// What `dup(2)` says, or `open(2)`.
    pub(crate) fn memory(&self) -> Result<OwnedFd, Errno> {
        self.memory.reopen_read_only().map_err(|error| Errno::from(&error))
    }

    /// The picture's memory as a dma-buf; on a host without `/dev/udmabuf` its memfd, which Mesa's software renderer takes for one.
    ///
    /// # Errors
    /// `EINVAL` for another id than that of the last query; what udmabuf or `dup(2)` says.
    pub(crate) fn buffer(&self, id: u32) -> Result<OwnedFd, Errno> {
        let size = plane_size(self.shown);
        if id != self.buffer || size == 0 {
            return Err(Errno::EINVAL);
        }
        match Udmabuf::open() {
            Ok(udmabuf) => {
                let made = udmabuf.create(self.memory.file().as_fd(), 0, size.into());
                made.map_err(|error| {
                    report::error("no dma-buf", &error);
                    error.errno().into()
                })
            }
            Err(_) => Ok(self.memory.file().try_clone().map_err(|error| Errno::from(&error))?.into()),
        }
    }

    /// Copies bytes of the picture.
    ///
    /// # Errors
    /// `EINVAL` beyond the end.
    pub(crate) fn read(&self, offset: u64, data: &mut [u8]) -> Result<usize, Errno> {
        self.memory.read(offset, data).map_err(|_| Errno::EINVAL)?;
        Ok(data.len())
    }

    /// Looks at the device, brings the memory up to date, and describes what is in it. Never fails: QEMU would say so at each
    /// look. `interface` decides whether a region or a buffer is named.
    pub(crate) fn query(&mut self, interface: Interface, info: &mut PlaneInfo) {
        if !self.is_gone {
            self.refresh();
        }
        let (width, height) = self.shown;
        let size = plane_size(self.shown);
        *info = PlaneInfo {
            drm_format: if size == 0 { 0 } else { Fourcc::XRGB8888.bits() },
            drm_format_mod: Modifier::LINEAR.bits(),
            width,
            height,
            stride: width * 4,
            size,
            x_pos: 0,
            y_pos: 0,
            x_hot: 0,
            y_hot: 0,
            handle: match interface {
                Interface::Region => self.region,
                Interface::Dmabuf => self.buffer,
            },
            ..*info
        };
    }

    fn refresh(&mut self) {
        match self.console.refresh() {
            // Half of one picture and half of another: the last whole one stays.
            Ok(Refresh::Torn) => return,
            Ok(_) => self.complaint = None,
            Err(error) => {
                self.is_gone = error.is_gone();
                let text = error.to_string();
                if self.complaint.as_ref() != Some(&text) {
                    report::error("no picture", &error);
                    self.complaint = Some(text);
                }
            }
        }
        let update = self.console.update(false);
        let (width, height) = (update.frame.width(), update.frame.height());
        let whole = [Rect::new(0, 0, width, height)];
        let is_new = (width, height) != self.shown;
        if u64::from(width) * u64::from(height) * 4 > SIZE {
            if is_new {
                report::line(format_args!("no picture: {width}x{height} is more than 8192x8192 pixels"));
            }
            self.shown = (0, 0);
            return;
        }
        let changed = update.damage.rects();
        copy(update.frame, if is_new { &whole } else { &changed }, &self.memory);
        self.shown = (width, height);
        self.buffer += u32::from(is_new);
    }
}

/// Bytes of a plane of this width and height, in whole pages.
fn plane_size((width, height): (u32, u32)) -> u32 {
    let size = u64::from(width) * u64::from(height) * 4;
    u32::try_from(size.next_multiple_of(PAGE_SIZE)).unwrap_or(0)
}

/// Copies rectangles of a picture to where the plane has them.
fn copy(frame: &Frame, rects: &[Rect], memory: &Vram) {
    for rect in rects {
        let columns = rect.x as usize..(rect.x + rect.width) as usize;
        for y in rect.y..rect.y + rect.height {
            let Some(pixels) = frame.row(y).and_then(|row| row.get(columns.clone())) else { continue };
            let start = (u64::from(y) * u64::from(frame.width()) + u64::from(rect.x)) * 4;
            // Inside: the whole frame is.
            let _ = memory.write(start, pixels.as_bytes());
        }
    }
}
