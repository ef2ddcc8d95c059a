//! A device in this process.

use crate::abi::caps::{self};
use crate::abi::{Interface, PlaneKind, REGION_INFO_MIN, RegionFlags};
use crate::device::{Backing, DeviceError, PacerId, SharedDevice};
use crate::memory::{BufferKind, Mapping};
use crate::plane::Plane;

use super::{Backend, BufferMapping, DeviceSummary, DisplayError, Pace, Paced, RegionSummary, Watch};

/// Asks a device directly.
#[derive(Debug)]
pub struct Local {
    device: SharedDevice,
    /// Flips wait for it.
    pacer: Option<PacerId>,
}

impl Local {
    /// Looks at this device. Not to be dropped by who holds the lock of the device.
    #[must_use]
    pub fn new(device: SharedDevice) -> Self {
        Self { device, pacer: None }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if let Some(pacer) = self.pacer.take() {
            self.device.lock().stop_pacing(pacer);
        }
    }
}

impl Backend for Local {
    fn device(&mut self) -> Result<DeviceSummary, DisplayError> {
        let device = self.device.lock();
        device.check_plugged()?;
        let num_irqs = device.num_irqs();
        Ok(DeviceSummary { flags: device.flags(), num_regions: device.regions().num_regions(), num_irqs })
    }

    fn region(&mut self, index: u32) -> Result<RegionSummary, DisplayError> {
        let device = self.device.lock();
        device.check_plugged()?;
        let Some(region) = device.regions().get(index) else {
            if !device.regions().answers(index) {
                return Err(DeviceError::NoRegion(index).into());
            }
            return Ok(RegionSummary { index, flags: RegionFlags::empty(), size: 0, caps: Vec::new() });
        };
        let mut reply = vec![0; REGION_INFO_MIN as usize];
        reply.extend_from_slice(region.caps());
        let chain = if region.caps().is_empty() { 0 } else { REGION_INFO_MIN };
        let caps =
            caps::parse(&reply, chain).map_err(|source| DisplayError::Caps { region: index, source })?;
        Ok(RegionSummary { index, flags: region.flags(), size: region.size, caps })
    }

    fn irq_count(&mut self, index: u32) -> Result<u32, DisplayError> {
        let device = self.device.lock();
        device.check_plugged()?;
        Ok(device.irq_count(index).ok_or(DeviceError::NoIrq(index))?)
    }

    fn probe(&mut self, interface: Interface) -> Result<bool, DisplayError> {
        let device = self.device.lock();
        device.check_plugged()?;
        Ok(device.probe(interface))
    }

    fn query(&mut self, interface: Interface, kind: PlaneKind) -> Result<Option<Plane>, DisplayError> {
        Ok(self.device.lock().query(interface, kind)?)
    }

    fn watch(&mut self) -> Result<Option<Watch>, DisplayError> {
        let mut device = self.device.lock();
        device.check_plugged()?;
        let Some(watcher) = device.watch() else {
            return Ok(None);
        };
        drop(device);
        let watch = Watch::new()?;
        for (event, eventfd) in (0..).zip(watch.eventfds()) {
            watcher.set(event, Some(eventfd.try_clone()?));
        }
        Ok(Some(watch.of_device(self.device.clone(), watcher)?))
    }

    fn pace(&mut self, pace: Pace) -> Result<Option<Paced>, DisplayError> {
        let mut device = self.device.lock();
        device.check_plugged()?;
        if !device.has_events() {
            return Ok(None);
        }
        match (pace, self.pacer) {
            (Pace::Join, None) => match device.pace("a console in this process") {
                None => return Ok(None),
                joined => self.pacer = joined,
            },
            (Pace::Taken(flip), Some(pacer)) => device.frame_taken(pacer, flip),
            (Pace::Leave, Some(pacer)) => {
                device.stop_pacing(pacer);
                self.pacer = None;
            }
            (Pace::Look | Pace::Join | Pace::Taken(_) | Pace::Leave, _) => {}
        }
        let late = self.pacer.is_some_and(|pacer| device.is_late(pacer));
        Ok(Some(Paced { state: device.flip_state(), late }))
    }

    fn map_region(&mut self, index: u32) -> Result<Mapping, DisplayError> {
        let device = self.device.lock();
        device.check_plugged()?;
        let region = device.regions().get(index).filter(|region| region.backing == Backing::Vram);
        let size = region.ok_or(DisplayError::NotMappable { index })?.size;
        Ok(Mapping::new(device.vram().reopen_read_only()?, BufferKind::Memfd, size)?)
    }

    fn map_buffer(&mut self, id: u32) -> Result<BufferMapping, DisplayError> {
        let buffer = self.device.lock().buffer(id, true)?;
        let mapping = Mapping::new(buffer.fd, buffer.kind, buffer.size)?;
        Ok(BufferMapping { kind: buffer.kind, mapping, offset: buffer.offset })
    }

    fn read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), DisplayError> {
        Ok(self.device.lock().read(region, offset, data)?)
    }

    fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), DisplayError> {
        Ok(self.device.lock().write(region, offset, data)?)
    }
}
