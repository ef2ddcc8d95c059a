//! What a device author writes.

use std::time::Duration;

use crate::abi::PlaneKind;
use crate::format::{Fourcc, Modifier};
use crate::memory::{GuestBufferId, GuestMemory, Vram};
use crate::plane::Geometry;

use super::{EdidRegion, FlipEnd, Link};

/// What the framework holds for a model while it answers an access.
#[derive(Debug)]
pub struct Platform<'a> {
    /// Video memory.
    pub vram: &'a Vram,
    /// The EDID region, on devices that have one.
    pub edid: Option<&'a EdidRegion>,
    /// What the VMM lets the device reach of its guest's memory.
    pub guest: &'a GuestMemory,
    /// The link state now.
    pub link: Link,
}

/// Which memory a plane is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScanoutMemory {
    /// The device's video memory.
    #[default]
    Vram,
    /// A buffer of guest memory ([`GuestMemory::buffer`]). Such a plane is off once the buffer is revoked. The region
    /// interface, which shows video memory, refuses it. Its buffers are dma-bufs; on a host without udmabuf the VMM gets the memory
    /// itself where it is in one piece, and consoles get a copy as of the last flip.
    Guest(GuestBufferId),
}

/// A plane as a model describes it: where in its memory, and how to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanout {
    /// Pixel format.
    pub format: Fourcc,
    /// Memory layout of the format.
    pub modifier: Modifier,
    /// Size and pitch.
    pub geometry: Geometry,
    /// The memory it is in.
    pub memory: ScanoutMemory,
    /// Bytes from the start of that memory to the first pixel.
    pub offset: u64,
    /// Bytes the plane occupies from there, at least to its last pixel. The framework rounds it up to pages.
    pub size: u64,
    /// Position on the screen in pixels.
    pub position: (i32, i32),
    /// Hotspot of a cursor in pixels.
    pub hotspot: Option<(u32, u32)>,
}

impl Scanout {
    /// A linear primary plane.
    #[must_use]
    pub fn primary(format: Fourcc, geometry: Geometry, offset: u64) -> Self {
        Self {
            format,
            modifier: Modifier::LINEAR,
            geometry,
            memory: ScanoutMemory::Vram,
            offset,
            size: geometry.bytes(),
            position: (0, 0),
            hotspot: None,
        }
    }
}

/// What happens to a device without any access to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A flip that the model asked for is over. Each is told once, in the order they were asked for in; none after a reset of
    /// those before it.
    FlipOver(FlipEnd),
    /// The link state is another.
    Link(Link),
}

/// What a model asks of the framework, beyond the answer to an access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// The planes as they are now are a flip that the guest wants to know the end of.
    pub flip: bool,
    /// Message-signalled interrupts to raise: bit n is vector n of index [`pci_irq::MSI`](crate::abi::pci_irq::MSI).
    pub interrupts: u32,
}

/// A device: registers in, planes out.
///
/// The framework answers configuration space, video memory, the EDID region, interrupts and buffers itself; a model
/// sees accesses to its trapped regions only, always inside them, and turns register state into planes. Every access
/// of every width must have a result: a guest may write anything anywhere.
pub trait Model: Send {
    /// A read of a trapped region. `data` comes filled with zeros.
    fn read(&mut self, region: u32, offset: u64, data: &mut [u8], platform: &Platform<'_>);

    /// A write to a trapped region.
    fn write(&mut self, region: u32, offset: u64, data: &[u8], platform: &Platform<'_>);

    /// What a plane shows now; `None` = it is off. What does not fit its memory counts as off.
    fn scanout(&mut self, kind: PlaneKind) -> Option<Scanout>;

    /// In how much time a plane may change without any access, as far as is known now; `None` = not before the next access.
    /// The framework then looks, and tells whoever waits for display changes.
    fn changes_in(&mut self) -> Option<Duration> {
        None
    }

    /// Something happened that is no access.
    fn notice(&mut self, _: Notice) {}

    /// What the writes and notices since the last call ask of the framework. Called after each.
    fn effects(&mut self) -> Effects {
        Effects::default()
    }

    /// `VFIO_DEVICE_RESET`: back to power-on. Configuration space stays as it is, as after a PCI function reset under
    /// vfio-pci, which saves and restores it.
    fn reset(&mut self, platform: &Platform<'_>);
}
