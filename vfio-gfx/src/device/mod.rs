//! Write a mediated display device.
//!
//! An author implements [`Model`] (registers in, planes out) and describes the rest in a [`DeviceSpec`]; a [`Device`]
//! then answers everything that VFIO asks of it. The operations are typed methods here; [`Device::ioctl`] and
//! [`Device::fd_read`] take the same questions as raw bytes. A vfio-user server, a preload shim, a replay of recorded
//! calls and a fuzzer all end in these methods: there is one device, whoever asks.

mod buffers;
mod config;
mod dispatch;
mod edid_region;
mod error;
mod eventfd;
mod events;
mod flip;
mod flips;
mod irq;
mod model;
mod planes;
mod region;
mod revoke;
mod rom;
mod shared;
mod timer;
mod watch;

use std::sync::Arc;

use bitflags::bitflags;

use crate::abi::{DeviceFlags, Interface, pci_irq, pci_region};
use crate::memory::{BufferKind, DmaError, GuestMemory, Udmabuf, Vram};

use buffers::BufferTable;
use events::{Planes, Watchers};
use flips::FlipRecord;
use timer::Timers;

pub use buffers::BUFFER_TABLE_SIZE;
pub use config::{CONFIG_SIZE, ConfigError, ConfigSpace, Identity};
pub use dispatch::IoctlReply;
pub use edid_region::{EDID_BLOB_MAX, EDID_BLOB_OFFSET, EDID_REGION_SIZE, EdidRegion, EdidRegionError};
pub use error::DeviceError;
pub use events::{DISPLAY_EVENTS, DisplayEvents, Watcher};
pub use flip::{FLIP_TIMEOUT, FlipEnd, Link, MAX_PACERS, PacerId};
pub use flips::FlipState;
pub use irq::{IrqError, Irqs, MAX_IRQS};
pub use model::{Effects, Model, Notice, Platform, Scanout, ScanoutMemory};
pub use region::{Backing, Region, RegionTable};
pub use rom::{ROM_MAX, ROM_MIN, Rom, RomError};
pub use shared::SharedDevice;

bitflags! {
    /// The interfaces a device offers its planes through.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Interfaces: u8 {
        /// As a region.
        const REGION = 1;
        /// As dma-bufs.
        const DMABUF = 2;
    }
}

impl Interfaces {
    /// Whether `interface` is among them.
    #[must_use]
    pub fn offers(self, interface: Interface) -> bool {
        self.contains(match interface {
            Interface::Region => Self::REGION,
            Interface::Dmabuf => Self::DMABUF,
        })
    }
}

/// Everything about a device that does not change while it lives.
#[derive(Debug)]
pub struct DeviceSpec {
    /// What it is called in logs: the type name.
    pub name: String,
    /// Configuration space at power-on.
    pub config: ConfigSpace,
    /// Its regions.
    pub regions: RegionTable,
    /// The region that shows the video memory from its start; what a region query names.
    pub display_region: u32,
    /// The interfaces it offers.
    pub interfaces: Interfaces,
    /// Interrupts per index; the five PCI indices answer in any case.
    pub irqs: Vec<u32>,
    /// The EDID region, if it has one.
    pub edid: Option<EdidRegion>,
    /// Whether it has the display interrupt: index [`DISPLAY_IRQ`], one interrupt per kind of [`DisplayEvents`].
    pub events: bool,
}

/// The interrupt index that tells of display changes, on devices that have it: the first device-specific one. It is per
/// client: whoever asks for it is told, and nobody takes it from another.
pub const DISPLAY_IRQ: u32 = pci_irq::COUNT;

/// A mediated display device.
pub struct Device {
    name: String,
    config: ConfigSpace,
    regions: RegionTable,
    display_region: u32,
    interfaces: Interfaces,
    irqs: Irqs,
    edid: Option<EdidRegion>,
    /// Who wants to know of changes, and what they know; `None` on devices without the display interrupt.
    watchers: Option<(Watchers, Planes)>,
    rom: Option<Rom>,
    /// Of whoever holds the device's descriptor.
    own_watcher: Option<Watcher>,
    /// Run while a plane is about to change by itself, and while a flip waits; `None` on devices without the display
    /// interrupt.
    timers: Option<Timers>,
    flip: FlipRecord,
    buffers: BufferTable,
    vram: Arc<Vram>,
    guest: GuestMemory,
    /// How many of its buffers were no more when the table was last looked through.
    ended_buffers: u64,
    /// The host's udmabuf driver; `None` where it has none and buffers are memfds.
    udmabuf: Option<Udmabuf>,
    /// Unplugged: nothing is answered any more.
    is_revoked: bool,
    model: Box<dyn Model>,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device")
            .field("name", &self.name)
            .field("interfaces", &self.interfaces)
            .finish_non_exhaustive()
    }
}

impl Device {
    /// Puts a device together. It is complete when this returns, so it can be published at once.
    #[must_use]
    pub fn new(spec: DeviceSpec, vram: Arc<Vram>, model: Box<dyn Model>) -> Self {
        Self {
            name: spec.name,
            config: spec.config,
            regions: spec.regions,
            display_region: spec.display_region,
            interfaces: spec.interfaces,
            irqs: Irqs::new(&spec.irqs),
            edid: spec.edid,
            rom: None,
            watchers: spec.events.then(Default::default),
            own_watcher: None,
            // A process without a descriptor left learns of such changes at the next access, and has flips wait for nobody.
            timers: spec.events.then(|| Timers::new().ok()).flatten(),
            flip: FlipRecord::default(),
            buffers: BufferTable::new(),
            udmabuf: Udmabuf::open().ok(),
            vram,
            guest: GuestMemory::default(),
            ended_buffers: 0,
            is_revoked: false,
            model,
        }
    }

    /// The same with an expansion ROM: base address register and region [`pci_region::ROM`], which is read only.
    /// Firmware of the machine runs it, as far as it is meant for that.
    ///
    /// # Errors
    /// [`RomError`] when the file is no ROM of this device.
    pub fn with_rom(mut self, file: Vec<u8>) -> Result<Self, RomError> {
        let rom = Rom::new(file, self.config.id())?;
        self.config = self.config.with_rom(&rom);
        self.regions = self.regions.with_rom(rom.size().into());
        self.rom = Some(rom);
        Ok(self)
    }

    /// Its type name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What `GET_INFO` says it is: a PCI device that can be reset.
    #[must_use]
    pub fn flags(&self) -> DeviceFlags {
        DeviceFlags::PCI | DeviceFlags::RESET
    }

    /// Its regions.
    #[must_use]
    pub fn regions(&self) -> &RegionTable {
        &self.regions
    }

    /// Its interrupts.
    pub fn irqs(&mut self) -> &mut Irqs {
        &mut self.irqs
    }

    /// Its video memory.
    #[must_use]
    pub fn vram(&self) -> &Arc<Vram> {
        &self.vram
    }

    /// What the VMM lets it reach of its guest's memory: announced with [`GuestMemory::map`], taken back with
    /// [`Device::unmap_guest_memory`].
    #[must_use]
    pub fn guest_memory(&self) -> &GuestMemory {
        &self.guest
    }

    /// Takes ranges of guest memory back ([`GuestMemory::unmap`]), with the buffers that had a part there: planes that show
    /// them go off, their ids are no longer known.
    ///
    /// # Errors
    /// [`DmaError`]; nothing has changed then.
    pub fn unmap_guest_memory(&mut self, address: u64, size: u64) -> Result<u64, DmaError> {
        let unmapped = self.guest.unmap(address, size)?;
        self.forget_revoked();
        Ok(unmapped)
    }

    /// Takes all guest memory back ([`GuestMemory::unmap_all`]), as when the VMM goes.
    pub fn unmap_all_guest_memory(&mut self) -> u64 {
        let unmapped = self.guest.unmap_all();
        self.forget_revoked();
        unmapped
    }

    /// The owner wants memory back. Consoles are told; one that paces flips and does not say within [`FLIP_TIMEOUT`] that it has
    /// looked is named in the log. Nobody is waited for here.
    fn forget_revoked(&mut self) {
        if self.forget_ended() {
            self.begin_flip(false);
        }
        self.tell_watchers();
    }

    /// Forgets buffers of guest memory that are no more. Returns whether there was one that somebody had asked for.
    fn forget_ended(&mut self) -> bool {
        let guest = &self.guest;
        self.ended_buffers = guest.ended_buffers();
        self.buffers.retain(|key| match key.memory {
            ScanoutMemory::Vram => true,
            ScanoutMemory::Guest(id) => guest.buffer_size(id).is_some(),
        })
    }

    /// The EDID that a guest sees now; empty while the link is down or on a device without one.
    #[must_use]
    pub fn visible_edid(&self) -> &[u8] {
        self.edid.as_ref().map_or(&[], |edid| edid.visible())
    }

    /// Whether exported buffers are dma-bufs or memfds on this host.
    #[must_use]
    pub fn buffer_kind(&self) -> BufferKind {
        if self.udmabuf.is_some() { BufferKind::Dmabuf } else { BufferKind::Memfd }
    }

    /// Reads a region as the host sees it.
    ///
    /// # Errors
    /// [`DeviceError::Revoked`], [`DeviceError::NoRegion`] or [`DeviceError::OutOfBounds`]; `data` is unspecified then.
    pub fn read(&mut self, index: u32, offset: u64, data: &mut [u8]) -> Result<(), DeviceError> {
        match self.check(index, offset, data.len())? {
            Backing::Config => self.config.read(offset, data),
            Backing::Vram => self.vram.read(offset, data).map_err(|_| DeviceError::NoRegion(index))?,
            Backing::Edid => self.edid.as_ref().ok_or(DeviceError::NoRegion(index))?.read(offset, data),
            Backing::Rom => self.rom.as_ref().ok_or(DeviceError::NoRegion(index))?.read(offset, data),
            Backing::Trapped => {
                data.fill(0);
                self.end_what_is_due();
                let link = self.link();
                let platform =
                    Platform { vram: &self.vram, edid: self.edid.as_ref(), guest: &self.guest, link };
                self.model.read(index, offset, data, &platform);
            }
        }
        Ok(())
    }

    /// Writes a region as the host sees it.
    ///
    /// # Errors
    /// [`DeviceError::Revoked`], [`DeviceError::NoRegion`], [`DeviceError::OutOfBounds`], [`DeviceError::ReadOnly`], or what the
    /// EDID region refused.
    pub fn write(&mut self, index: u32, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        match self.check(index, offset, data.len())? {
            Backing::Config => self.config.write(offset, data),
            Backing::Vram => self.vram.write(offset, data).map_err(|_| DeviceError::NoRegion(index))?,
            Backing::Edid => {
                self.edid.as_mut().ok_or(DeviceError::NoRegion(index))?.write(offset, data)?;
                self.update_link();
            }
            Backing::Rom => return Err(DeviceError::ReadOnly(index)),
            Backing::Trapped => {
                self.end_what_is_due();
                let link = self.link();
                let platform =
                    Platform { vram: &self.vram, edid: self.edid.as_ref(), guest: &self.guest, link };
                self.model.write(index, offset, data, &platform);
                self.carry_out();
                self.tell_watchers();
            }
        }
        Ok(())
    }

    /// Reads a region as the guest does: a BAR reads as all ones while memory decoding is off.
    ///
    /// # Errors
    /// As [`Device::read`]. `data` of a device that is unplugged is all ones, as on a bus where nobody answers.
    pub fn guest_read(&mut self, index: u32, offset: u64, data: &mut [u8]) -> Result<(), DeviceError> {
        if self.is_revoked {
            data.fill(0xff);
        }
        if index <= pci_region::BAR5 && !self.config.memory_enabled() {
            self.check(index, offset, data.len())?;
            data.fill(0xff);
            return Ok(());
        }
        self.read(index, offset, data)
    }

    /// Writes a region as the guest does: a BAR ignores writes while memory decoding is off.
    ///
    /// # Errors
    /// As [`Device::write`].
    pub fn guest_write(&mut self, index: u32, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        if index <= pci_region::BAR5 && !self.config.memory_enabled() {
            self.check(index, offset, data.len())?;
            return Ok(());
        }
        self.write(index, offset, data)
    }

    fn check(&self, index: u32, offset: u64, len: usize) -> Result<Backing, DeviceError> {
        self.check_plugged()?;
        let region = self.regions.get(index).ok_or(DeviceError::NoRegion(index))?;
        if !region.contains(offset, len) {
            return Err(DeviceError::OutOfBounds { region: index, offset, len, size: region.size });
        }
        Ok(region.backing)
    }

    /// `VFIO_DEVICE_RESET`. Nothing is left to reset of a device that is unplugged.
    pub fn reset(&mut self) {
        if self.is_revoked {
            return;
        }
        self.cancel_flip();
        let link = self.link();
        let platform = Platform { vram: &self.vram, edid: self.edid.as_ref(), guest: &self.guest, link };
        self.model.reset(&platform);
        self.forget_ended();
        self.tell_watchers();
    }
}
