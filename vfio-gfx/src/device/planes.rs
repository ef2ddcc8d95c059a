//! What a device shows, and the memory it is in.

use std::os::fd::{AsFd, OwnedFd};

use crate::abi::{Interface, PlaneKind, PlaneRequest};
use crate::memory::{BufferKind, PAGE_SIZE, SharedBuffer, page_align};
use crate::plane::{Plane, Source};

use super::buffers::BufferKey;
use super::{Device, DeviceError, Scanout, ScanoutMemory};

impl Device {
    /// Whether an interface is offered.
    #[must_use]
    pub fn probe(&self, interface: Interface) -> bool {
        !self.is_revoked && self.interfaces.offers(interface)
    }

    /// What a plane shows, handed over through `interface`. `None`: it is off. Allocates nothing.
    ///
    /// # Errors
    /// [`DeviceError::Revoked`], [`DeviceError::NotOffered`], [`DeviceError::NotInRegion`], or
    /// [`DeviceError::BufferIdsExhausted`].
    pub fn query(&mut self, interface: Interface, kind: PlaneKind) -> Result<Option<Plane>, DeviceError> {
        self.check_plugged()?;
        if !self.probe(interface) {
            return Err(DeviceError::NotOffered(interface));
        }
        let scanout = self.scanout(kind);
        self.tell_if_new(kind, scanout);
        let Some(scanout) = scanout else {
            return Ok(None);
        };
        // The last row needs no padding.
        let extent = scanout.geometry.extent(scanout.format.bytes_per_pixel().unwrap_or(0));
        // The memory is whole pages from the page the plane starts in.
        let inside = scanout.offset % PAGE_SIZE;
        let start = scanout.offset.saturating_sub(inside);
        let size = inside.checked_add(scanout.size.max(extent)).and_then(page_align);
        let memory = self.memory_size(scanout.memory).unwrap_or(0);
        let Some(size) = size.filter(|size| start.checked_add(*size).is_some_and(|end| end <= memory)) else {
            return Ok(None);
        };
        let Ok(size32) = u32::try_from(size) else {
            return Ok(None);
        };
        let source = match interface {
            Interface::Region if scanout.memory != ScanoutMemory::Vram => {
                return Err(DeviceError::NotInRegion);
            }
            Interface::Region => Source::Region { index: self.display_region, offset: scanout.offset },
            Interface::Dmabuf => {
                let Scanout { format, modifier, geometry, memory, offset, .. } = scanout;
                let copy_of = self.copied_flip(memory);
                let key = BufferKey { format, modifier, geometry, memory, offset, size, copy_of };
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
        self.check_plugged()?;
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
    /// (`read_only`: a descriptor that cannot be written, for consoles; of guest memory, a copy made when the first asks).
    ///
    /// # Errors
    /// [`DeviceError::Revoked`]; [`DeviceError::NoBuffer`] for an id never issued, forgotten, or of guest memory that was taken back;
    /// [`DeviceError::PrivateMemory`] for a console that wants guest memory on a host without udmabuf; or what the system
    /// refused.
    pub fn buffer(&mut self, id: u32, read_only: bool) -> Result<SharedBuffer, DeviceError> {
        self.check_plugged()?;
        if !self.probe(Interface::Dmabuf) {
            return Err(DeviceError::NotOffered(Interface::Dmabuf));
        }
        let entry = self.buffers.get(id).ok_or(DeviceError::NoBuffer(id))?;
        let BufferKey { memory, offset, size, copy_of, .. } = entry.key;
        let inside = offset % PAGE_SIZE;
        let start = offset.saturating_sub(inside);
        let pieces = match memory {
            ScanoutMemory::Vram => None,
            // Revoked, perhaps not through this device.
            ScanoutMemory::Guest(buffer) => {
                Some(self.guest.buffer_part(buffer, start, size).ok_or(DeviceError::NoBuffer(id))?)
            }
        };
        let Some(udmabuf) = &self.udmabuf else {
            return match pieces {
                None => self.vram_memfd(offset, read_only),
                Some(pieces) if read_only => {
                    if copy_of == 0 || size > self.vram.size() {
                        return Err(DeviceError::PrivateMemory(id));
                    }
                    let copy = match &mut entry.copy {
                        Some(copy) => copy,
                        none => none.insert(pieces.copy()?),
                    };
                    let fd = copy.reopen_read_only()?;
                    Ok(SharedBuffer { kind: BufferKind::Memfd, fd, offset: inside, size })
                }
                Some(pieces) => {
                    let whole = pieces.export(None)?;
                    Ok(SharedBuffer { offset: whole.offset.saturating_add(inside), ..whole })
                }
            };
        };
        let dmabuf: &OwnedFd = match &mut entry.dmabuf {
            Some(dmabuf) => dmabuf,
            none => none.insert(match pieces {
                None => udmabuf.create(self.vram.as_fd(), start, size)?,
                Some(pieces) => pieces.export(Some(udmabuf))?.fd,
            }),
        };
        let fd = dmabuf.try_clone()?;
        self.buffers.note_dmabuf();
        Ok(SharedBuffer { kind: BufferKind::Dmabuf, fd, offset: inside, size })
    }

    /// Where guest memory cannot be handed out, consoles get copies: one for each flip, which the guest asks for when the frame is
    /// whole. 0 where they get the memory itself, or where nothing says when a frame is whole.
    fn copied_flip(&self, memory: ScanoutMemory) -> u64 {
        match memory {
            ScanoutMemory::Guest(_) if self.udmabuf.is_none() => self.flip.guests_last,
            ScanoutMemory::Guest(_) | ScanoutMemory::Vram => 0,
        }
    }

    fn vram_memfd(&self, offset: u64, read_only: bool) -> Result<SharedBuffer, DeviceError> {
        let fd = if read_only { self.vram.reopen_read_only()? } else { self.vram.file().try_clone()?.into() };
        Ok(SharedBuffer { kind: BufferKind::Memfd, fd, offset, size: self.vram.size() })
    }

    /// Bytes of the memory that a plane is in; `None` when that is gone.
    fn memory_size(&self, memory: ScanoutMemory) -> Option<u64> {
        match memory {
            ScanoutMemory::Vram => Some(self.vram.size()),
            ScanoutMemory::Guest(buffer) => self.guest.buffer_size(buffer),
        }
    }

    /// What the model says a plane shows, unless the memory is gone.
    pub(super) fn scanout(&mut self, kind: PlaneKind) -> Option<Scanout> {
        if self.is_revoked {
            return None;
        }
        let scanout = self.model.scanout(kind)?;
        self.memory_size(scanout.memory).map(|_| scanout)
    }
}
