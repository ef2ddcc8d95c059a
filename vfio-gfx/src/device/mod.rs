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
mod events;
mod irq;
mod model;
mod region;

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitflags::bitflags;

use crate::abi::{
    DeviceFlags, Errno, Interface, IrqAction, IrqData, IrqSet, PlaneKind, PlaneRequest, pci_irq, pci_region,
};
use crate::memory::{BufferKind, PAGE_SIZE, SharedBuffer, Udmabuf, Vram, page_align};
use crate::plane::{Plane, Source};

use buffers::{BufferKey, BufferTable};
use events::{Planes, Watchers};

pub use buffers::BUFFER_TABLE_SIZE;
pub use config::{CONFIG_SIZE, ConfigError, ConfigSpace, Identity};
pub use dispatch::IoctlReply;
pub use edid_region::{EDID_BLOB_MAX, EDID_BLOB_OFFSET, EDID_REGION_SIZE, EdidRegion, EdidRegionError};
pub use error::DeviceError;
pub use events::{DISPLAY_EVENTS, DisplayEvents, Watcher};
pub use irq::{IrqError, Irqs, MAX_IRQS};
pub use model::{Model, Platform, Scanout};
pub use region::{Backing, Region, RegionTable};

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
    /// Of whoever holds the device's descriptor.
    own_watcher: Option<Watcher>,
    buffers: BufferTable,
    vram: Arc<Vram>,
    /// The host's udmabuf driver; `None` where it has none and buffers are memfds.
    udmabuf: Option<Udmabuf>,
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
            watchers: spec.events.then(Default::default),
            own_watcher: None,
            buffers: BufferTable::new(),
            udmabuf: Udmabuf::open().ok(),
            vram,
            model,
        }
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
    /// [`DeviceError::NoRegion`] or [`DeviceError::OutOfBounds`]; `data` is unspecified then.
    pub fn read(&mut self, index: u32, offset: u64, data: &mut [u8]) -> Result<(), DeviceError> {
        match self.check(index, offset, data.len())? {
            Backing::Config => self.config.read(offset, data),
            Backing::Vram => self.vram.read(offset, data).map_err(|_| DeviceError::NoRegion(index))?,
            Backing::Edid => self.edid.as_ref().ok_or(DeviceError::NoRegion(index))?.read(offset, data),
            Backing::Trapped => {
                data.fill(0);
                let platform = Platform { vram: &self.vram, edid: self.edid.as_ref() };
                self.model.read(index, offset, data, &platform);
            }
        }
        Ok(())
    }

    /// Writes a region as the host sees it.
    ///
    /// # Errors
    /// [`DeviceError::NoRegion`], [`DeviceError::OutOfBounds`], or what the EDID region refused.
    pub fn write(&mut self, index: u32, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        match self.check(index, offset, data.len())? {
            Backing::Config => self.config.write(offset, data),
            Backing::Vram => self.vram.write(offset, data).map_err(|_| DeviceError::NoRegion(index))?,
            Backing::Edid => self.edid.as_mut().ok_or(DeviceError::NoRegion(index))?.write(offset, data)?,
            Backing::Trapped => {
                let platform = Platform { vram: &self.vram, edid: self.edid.as_ref() };
                self.model.write(index, offset, data, &platform);
                self.tell_watchers();
            }
        }
        Ok(())
    }

    fn planes(&mut self) -> Planes {
        PlaneKind::ALL.map(|kind| self.model.scanout(kind))
    }

    /// Signals what changed since the last time. Costs nothing while nobody waits.
    fn tell_watchers(&mut self) {
        if self.watchers.as_ref().is_none_or(|(watchers, _)| watchers.is_empty()) {
            return;
        }
        let new = self.planes();
        if let Some((watchers, known)) = &mut self.watchers {
            let events = events::differences(known, &new);
            *known = new;
            if !events.is_empty() {
                watchers.tell(events);
            }
        }
    }

    /// Waits for display changes, from now on: the returned [`Watcher`] takes an eventfd per kind of [`DisplayEvents`].
    /// `None` on a device without the display interrupt.
    pub fn watch(&mut self) -> Option<Watcher> {
        self.tell_watchers();
        let planes = self.planes();
        let (watchers, known) = self.watchers.as_mut()?;
        *known = planes;
        Some(watchers.add())
    }

    /// Sets the eventfds of one party's display interrupt: `SET_IRQS` on index [`DISPLAY_IRQ`], with `ACTION_TRIGGER` and
    /// either one eventfd per interrupt of the range or none, which takes them away. `DATA_NONE` with a count of 0 ends it.
    ///
    /// # Errors
    /// `EINVAL` where the request is malformed or the device has no such interrupt, `ENOTTY` for masking and the like.
    pub fn set_display_irq(
        &mut self,
        watcher: &mut Option<Watcher>,
        set: &IrqSet,
        fds: Vec<OwnedFd>,
    ) -> Result<(), Errno> {
        let request = set.parse(self.has_events().then_some(DISPLAY_EVENTS), false)?;
        match (request.data, request.action) {
            (IrqData::None, IrqAction::Trigger) if request.count == 0 => *watcher = None,
            (IrqData::Eventfd, IrqAction::Trigger) => {
                if !fds.is_empty() && fds.len() != request.count as usize {
                    return Err(Errno::EINVAL);
                }
                if watcher.is_none() {
                    *watcher = self.watch();
                }
                let watcher = watcher.as_ref().ok_or(Errno::EINVAL)?;
                let mut fds = fds.into_iter();
                for event in request.start..request.start + request.count {
                    watcher.set(event, fds.next());
                }
            }
            _ => return Err(Errno::ENOTTY),
        }
        Ok(())
    }

    /// What `GET_INFO` says: the highest interrupt index plus one.
    #[must_use]
    pub fn num_irqs(&self) -> u32 {
        if self.has_events() { self.irqs.num_irqs().max(DISPLAY_IRQ + 1) } else { self.irqs.num_irqs() }
    }

    /// How many interrupts an index has, `None` where there is no such index.
    #[must_use]
    pub fn irq_count(&self, index: u32) -> Option<u32> {
        if self.has_events() && index == DISPLAY_IRQ { Some(DISPLAY_EVENTS) } else { self.irqs.count(index) }
    }

    /// Whether it has the display interrupt.
    #[must_use]
    pub fn has_events(&self) -> bool {
        self.watchers.is_some()
    }

    /// Reads a region as the guest does: a BAR reads as all ones while memory decoding is off.
    ///
    /// # Errors
    /// As [`Device::read`].
    pub fn guest_read(&mut self, index: u32, offset: u64, data: &mut [u8]) -> Result<(), DeviceError> {
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
        let region = self.regions.get(index).ok_or(DeviceError::NoRegion(index))?;
        if !region.contains(offset, len) {
            return Err(DeviceError::OutOfBounds { region: index, offset, len, size: region.size });
        }
        Ok(region.backing)
    }

    /// Whether an interface is offered.
    #[must_use]
    pub fn probe(&self, interface: Interface) -> bool {
        self.interfaces.offers(interface)
    }

    /// What a plane shows, handed over through `interface`. `None`: it is off. Allocates nothing.
    ///
    /// # Errors
    /// [`DeviceError::NotOffered`], or [`DeviceError::BufferIdsExhausted`].
    pub fn query(&mut self, interface: Interface, kind: PlaneKind) -> Result<Option<Plane>, DeviceError> {
        if !self.probe(interface) {
            return Err(DeviceError::NotOffered(interface));
        }
        let Some(scanout) = self.model.scanout(kind) else {
            return Ok(None);
        };
        // The memory is whole pages from the page the plane starts in.
        let start = scanout.offset - scanout.offset % PAGE_SIZE;
        let inside = scanout.offset - start;
        let size = inside.checked_add(scanout.size.max(scanout.geometry.bytes())).and_then(page_align);
        let Some(size) =
            size.filter(|size| start.checked_add(*size).is_some_and(|end| end <= self.vram.size()))
        else {
            return Ok(None);
        };
        let Ok(size32) = u32::try_from(size) else {
            return Ok(None);
        };
        let source = match interface {
            Interface::Region => Source::Region { index: self.display_region, offset: scanout.offset },
            Interface::Dmabuf => {
                let Scanout { format, modifier, geometry, offset, .. } = scanout;
                let key = BufferKey { format, modifier, geometry, offset, size };
                let id = self.buffers.id(&key).ok_or(DeviceError::BufferIdsExhausted)?;
                Source::Buffer { id, offset: inside }
            }
        };
        Ok(Some(Plane {
            kind,
            format: scanout.format,
            modifier: scanout.modifier,
            geometry: scanout.geometry,
            size: size32,
            position: scanout.position,
            hotspot: scanout.hotspot,
            source,
        }))
    }

    /// A plane query as the ABI asks it; see [`PlaneRequest`]. A probe that succeeds returns `None`, and so does a plane
    /// type that DRM does not define: no such plane is on.
    ///
    /// # Errors
    /// As [`Device::query`].
    pub fn request(&mut self, request: PlaneRequest) -> Result<Option<Plane>, DeviceError> {
        let (PlaneRequest::Probe(interface) | PlaneRequest::Query(interface, _)) = request;
        if !self.probe(interface) {
            return Err(DeviceError::NotOffered(interface));
        }
        match request {
            PlaneRequest::Query(_, raw) => {
                PlaneKind::from_raw(raw).map_or(Ok(None), |kind| self.query(interface, kind))
            }
            PlaneRequest::Probe(_) => Ok(None),
        }
    }

    /// A new descriptor of the buffer that a query named. A dma-buf where the host has udmabuf, else the memfd
    /// (`read_only`: a descriptor that cannot be written, for consoles).
    ///
    /// # Errors
    /// [`DeviceError::NoBuffer`] for an id never issued or forgotten, or what the system refused.
    pub fn buffer(&mut self, id: u32, read_only: bool) -> Result<SharedBuffer, DeviceError> {
        if !self.probe(Interface::Dmabuf) {
            return Err(DeviceError::NotOffered(Interface::Dmabuf));
        }
        let entry = self.buffers.get(id).ok_or(DeviceError::NoBuffer(id))?;
        let inside = entry.key.offset % PAGE_SIZE;
        let Some(udmabuf) = &self.udmabuf else {
            let fd =
                if read_only { self.vram.reopen_read_only()? } else { self.vram.file().try_clone()?.into() };
            return Ok(SharedBuffer {
                kind: BufferKind::Memfd,
                fd,
                offset: entry.key.offset,
                size: self.vram.size(),
            });
        };
        let dmabuf: &OwnedFd = match &mut entry.dmabuf {
            Some(dmabuf) => dmabuf,
            none => none.insert(udmabuf.create(
                std::os::fd::AsFd::as_fd(self.vram.as_ref()),
                entry.key.offset - inside,
                entry.key.size,
            )?),
        };
        Ok(SharedBuffer {
            kind: BufferKind::Dmabuf,
            fd: dmabuf.try_clone()?,
            offset: inside,
            size: entry.key.size,
        })
    }

    /// `VFIO_DEVICE_RESET`.
    pub fn reset(&mut self) {
        let platform = Platform { vram: &self.vram, edid: self.edid.as_ref() };
        self.model.reset(&platform);
        self.tell_watchers();
    }
}

/// A device that several parties hold: its server, a console in this process, a control thread.
#[derive(Clone, Debug)]
pub struct SharedDevice(Arc<Mutex<Device>>);

impl SharedDevice {
    /// Shares a device.
    #[must_use]
    pub fn new(device: Device) -> Self {
        Self(Arc::new(Mutex::new(device)))
    }

    /// Exclusive use of the device. A party that panicked while it held the device leaves it usable: every operation
    /// keeps it valid at each step.
    pub fn lock(&self) -> MutexGuard<'_, Device> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
