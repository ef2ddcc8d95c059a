//! What the registers of a plane describe.

use vfio_gfx::abi::PlaneKind;
use vfio_gfx::device::{Scanout, ScanoutMemory};
use vfio_gfx::format::{Fourcc, Modifier};
use vfio_gfx::memory::{PAGE_SIZE, page_align};
use vfio_gfx::plane::Geometry;

use super::FORMATS;

/// Registers of a plane, by number: offset / 4.
pub(super) const REGISTERS: usize = 14;
pub(super) const CONTROL: usize = 0;
pub(super) const FORMAT: usize = 1;
pub(super) const OFFSET_LOW: usize = 2;
pub(super) const OFFSET_HIGH: usize = 3;
pub(super) const STRIDE: usize = 4;
pub(super) const WIDTH: usize = 5;
pub(super) const HEIGHT: usize = 6;
pub(super) const X: usize = 7;
pub(super) const Y: usize = 8;
pub(super) const HOT_X: usize = 9;
pub(super) const HOT_Y: usize = 10;
pub(super) const SRC_X: usize = 11;
pub(super) const SRC_Y: usize = 12;
pub(super) const MEMORY: usize = 13;

pub(super) type Plane = [u32; REGISTERS];

/// A plane that can be shown, if its memory is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape<'a> {
    plane: &'a Plane,
    format: Fourcc,
    geometry: Geometry,
    /// Bytes from the start of its memory to the first pixel, and from there to behind the last.
    start: u64,
    size: u64,
}

impl<'a> Shape<'a> {
    /// What these registers describe, on a device with this much video memory. `None` when it is off or cannot be.
    pub(super) fn of(plane: &'a Plane, vram_size: u64) -> Option<Self> {
        let format = Fourcc::from_bits(plane[FORMAT]);
        if plane[CONTROL] & 1 == 0 || !FORMATS.contains(&format) {
            return None;
        }
        let bytes_per_pixel = format.bytes_per_pixel()?;
        let geometry = Geometry::new(plane[WIDTH], plane[HEIGHT], plane[STRIDE], bytes_per_pixel).ok()?;
        let base = u64::from(plane[OFFSET_HIGH]) << 32 | u64::from(plane[OFFSET_LOW]);
        let column = u64::from(plane[SRC_X]).checked_mul(u64::from(bytes_per_pixel))?;
        let row = u64::from(plane[SRC_Y]).checked_mul(u64::from(plane[STRIDE]))?;
        let start = base.checked_add(row)?.checked_add(column)?;
        // A source offset may leave the last row's padding outside the memory, but no pixel.
        let size = geometry.extent(bytes_per_pixel);
        let end = start.checked_add(size)?;
        let fits = if plane[MEMORY] & 1 == 0 { end <= vram_size } else { size <= vram_size };
        fits.then_some(Self { plane, format, geometry, start, size })
    }

    /// First byte and length of the pages that hold it.
    pub(super) fn pages(&self) -> Option<(u64, u64)> {
        let first = self.start - self.start % PAGE_SIZE;
        let len = page_align(self.start.checked_add(self.size)?.checked_sub(first)?)?;
        Some((first, len))
    }

    /// As the framework takes it, in video memory.
    pub(super) fn scanout(&self, kind: PlaneKind) -> Scanout {
        let plane = self.plane;
        let (hot_x, hot_y) = (plane[HOT_X], plane[HOT_Y]);
        let has_hotspot = kind == PlaneKind::Cursor && hot_x != u32::MAX && hot_y != u32::MAX;
        let on_screen = kind != PlaneKind::Primary;
        Scanout {
            format: self.format,
            modifier: Modifier::LINEAR,
            geometry: self.geometry,
            memory: ScanoutMemory::Vram,
            offset: self.start,
            size: self.size,
            position: if on_screen { (plane[X].cast_signed(), plane[Y].cast_signed()) } else { (0, 0) },
            hotspot: has_hotspot.then_some((hot_x, hot_y)),
        }
    }
}
