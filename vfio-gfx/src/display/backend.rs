//! What a display needs from whatever carries its questions.

use crate::abi::caps::RegionCap;
use crate::abi::{DeviceFlags, Interface, PlaneKind, RegionFlags};
use crate::memory::{BufferKind, Mapping};
use crate::plane::Plane;

use super::{DisplayError, Pace, Paced, Watch};

/// What `GET_INFO` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceSummary {
    /// What it is; bits this crate does not know are dropped.
    pub flags: DeviceFlags,
    /// Highest fixed region index plus one.
    pub num_regions: u32,
    /// Highest interrupt index plus one.
    pub num_irqs: u32,
}

/// What `GET_REGION_INFO` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionSummary {
    /// Region index.
    pub index: u32,
    /// What may be done with it.
    pub flags: RegionFlags,
    /// Bytes; 0 = the device does not have it.
    pub size: u64,
    /// Its capabilities.
    pub caps: Vec<RegionCap>,
}

/// Where the EDID region of i915's GVT-g ends (gvt/kvmgt.c: a blob of 128 bytes at 0x800).
const GVT_EDID_END: u64 = 0x880;

impl RegionSummary {
    /// Where in the region the last byte that can be reached ends: its size, but for EDID regions. GVT-g says that its
    /// EDID region has the 128 bytes of the blob, which begins at 0x800.
    #[must_use]
    pub fn reachable(&self) -> u64 {
        if self.caps.contains(&RegionCap::GFX_EDID) { self.size.max(GVT_EDID_END) } else { self.size }
    }
}

/// A buffer, mapped.
#[derive(Debug)]
pub struct BufferMapping {
    /// Dma-buf or memfd.
    pub kind: BufferKind,
    /// Its memory.
    pub mapping: Mapping,
    /// Where in it the plane's first pixel is, in bytes.
    pub offset: u64,
}

/// A device, asked by a console.
pub trait Backend: Send {
    /// `GET_INFO`.
    ///
    /// # Errors
    /// [`DisplayError`], as every method here.
    fn device(&mut self) -> Result<DeviceSummary, DisplayError>;

    /// `GET_REGION_INFO`, with its capabilities.
    ///
    /// # Errors
    /// [`DisplayError`].
    fn region(&mut self, index: u32) -> Result<RegionSummary, DisplayError>;

    /// How many interrupts an index has.
    ///
    /// # Errors
    /// [`DisplayError`].
    fn irq_count(&mut self, index: u32) -> Result<u32, DisplayError>;

    /// Whether an interface is offered.
    ///
    /// # Errors
    /// [`DisplayError`]; "no" is not an error.
    fn probe(&mut self, interface: Interface) -> Result<bool, DisplayError>;

    /// What a plane shows; `None` = it is off.
    ///
    /// # Errors
    /// [`DisplayError`].
    fn query(&mut self, interface: Interface, kind: PlaneKind) -> Result<Option<Plane>, DisplayError>;

    /// Asks to be told of display changes; `None` where the device cannot tell.
    ///
    /// # Errors
    /// [`DisplayError`].
    fn watch(&mut self) -> Result<Option<Watch>, DisplayError>;

    /// Has flips wait for this console, or tells how they stand; `None` where no flip waits for anybody.
    ///
    /// # Errors
    /// [`DisplayError`].
    fn pace(&mut self, _: Pace) -> Result<Option<Paced>, DisplayError> {
        Ok(None)
    }

    /// Maps a whole region for reading.
    ///
    /// # Errors
    /// [`DisplayError`].
    fn map_region(&mut self, index: u32) -> Result<Mapping, DisplayError>;

    /// Fetches and maps a buffer for reading.
    ///
    /// # Errors
    /// [`DisplayError`].
    fn map_buffer(&mut self, id: u32) -> Result<BufferMapping, DisplayError>;

    /// Reads a region.
    ///
    /// # Errors
    /// [`DisplayError`].
    fn read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), DisplayError>;

    /// Writes a region; consoles may write the EDID region.
    ///
    /// # Errors
    /// [`DisplayError`].
    fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), DisplayError>;
}
