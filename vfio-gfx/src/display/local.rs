//! A device in this process.

use crate::abi::caps::{self};
use crate::abi::{Interface, PlaneKind, REGION_INFO_MIN, RegionFlags};
use crate::device::{Backing, DeviceError, SharedDevice};
use crate::memory::{BufferKind, Mapping};
use crate::plane::Plane;

use super::{Backend, BufferMapping, DeviceSummary, DisplayError, RegionSummary, Watch};

/// Asks a device directly.
#[derive(Debug)]
pub struct Local(SharedDevice);

impl Local {
    /// Looks at this device.
    #[must_use]
    pub fn new(device: SharedDevice) -> Self {
        Self(device)
    }
}

impl Backend for Local {
    fn device(&mut self) -> Result<DeviceSummary, DisplayError> {
        let device = self.0.lock();
        device.check_plugged()?;
        let num_irqs = device.num_irqs();
        Ok(DeviceSummary { flags: device.flags(), num_regions: device.regions().num_regions(), num_irqs })
    }

    fn region(&mut self, index: u32) -> Result<RegionSummary, DisplayError> {
        let device = self.0.lock();
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
        let device = self.0.lock();
        device.check_plugged()?;
        Ok(device.irq_count(index).ok_or(DeviceError::NoIrq(index))?)
    }

    fn probe(&mut self, interface: Interface) -> Result<bool, DisplayError> {
        let device = self.0.lock();
        device.check_plugged()?;
        Ok(device.probe(interface))
    }

    fn query(&mut self, interface: Interface, kind: PlaneKind) -> Result<Option<Plane>, DisplayError> {
        Ok(self.0.lock().query(interface, kind)?)
    }

    fn watch(&mut self) -> Result<Option<Watch>, DisplayError> {
        let mut device = self.0.lock();
        device.check_plugged()?;
        let Some(watcher) = device.watch() else {
            return Ok(None);
        };
        drop(device);
        let watch = Watch::new()?;
        for (event, eventfd) in (0..).zip(watch.eventfds()) {
            watcher.set(event, Some(eventfd.try_clone()?));
        }
        Ok(Some(watch.of_device(self.0.clone(), watcher)?))
    }

    fn map_region(&mut self, index: u32) -> Result<Mapping, DisplayError> {
        let device = self.0.lock();
        device.check_plugged()?;
        let region = device.regions().get(index).filter(|region| region.backing == Backing::Vram);
        let size = region.ok_or(DisplayError::NotMappable { index })?.size;
        Ok(Mapping::new(device.vram().reopen_read_only()?, BufferKind::Memfd, size)?)
    }

    fn map_buffer(&mut self, id: u32) -> Result<BufferMapping, DisplayError> {
        let buffer = self.0.lock().buffer(id, true)?;
        let mapping = Mapping::new(buffer.fd, buffer.kind, buffer.size)?;
        Ok(BufferMapping { kind: buffer.kind, mapping, offset: buffer.offset })
    }

    fn read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), DisplayError> {
        Ok(self.0.lock().read(region, offset, data)?)
    }

    fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), DisplayError> {
        Ok(self.0.lock().write(region, offset, data)?)
    }
}
