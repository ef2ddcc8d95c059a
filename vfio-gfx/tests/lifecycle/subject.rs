//! A device whose pages say which device they are of.

use std::sync::Arc;

use vfio_gfx::abi::PlaneKind;
use vfio_gfx::abi::caps::RegionCap;
use vfio_gfx::device::{
    Backing, ConfigSpace, Device, DeviceSpec, EdidRegion, Identity, Interfaces, Model, Platform, Region,
    RegionTable, Scanout,
};
use vfio_gfx::format::Fourcc;
use vfio_gfx::memory::Vram;
use vfio_gfx::plane::Geometry;

pub(crate) const VRAM: u32 = 0;
pub(crate) const REGISTERS: u32 = 2;
pub(crate) const CONFIG: u32 = 7;
pub(crate) const EDID: u32 = 9;
/// Where the regions are in the device's descriptor.
pub(crate) const FD_OFFSETS: [(u32, u64); 4] =
    [(CONFIG, 0), (REGISTERS, 0x1000), (EDID, 0x2000), (VRAM, 0x10_0000)];
pub(crate) const VRAM_SIZE: u64 = 256 << 10;

pub(crate) const WIDTH: u32 = 32;
pub(crate) const HEIGHT: u32 = 8;
pub(crate) const STRIDE: u32 = WIDTH * 4;

/// One register: 0 = off, else the plane starts in this row.
#[derive(Default)]
struct Row([u8; 4]);

impl Model for Row {
    fn read(&mut self, _: u32, _: u64, data: &mut [u8], _: &Platform<'_>) {
        data.iter_mut().zip(self.0).for_each(|(to, from)| *to = from);
    }

    fn write(&mut self, _: u32, _: u64, data: &[u8], _: &Platform<'_>) {
        self.0.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
    }

    fn scanout(&mut self, kind: PlaneKind) -> Option<Scanout> {
        let row = u32::from_le_bytes(self.0);
        let geometry = Geometry::new(WIDTH, HEIGHT, STRIDE, 4).unwrap();
        let offset = u64::from(row) * u64::from(STRIDE);
        (kind == PlaneKind::Primary && row != 0).then(|| Scanout::primary(Fourcc::XRGB8888, geometry, offset))
    }

    fn reset(&mut self, _: &Platform<'_>) {
        *self = Self::default();
    }
}

/// A device every byte of whose video memory is `mark`.
pub(crate) fn device(mark: u8) -> Device {
    let identity =
        Identity { id: (0x1234, 0x5678), subsystem: (0, 0), class: (3, 0x80, 0), revision: 1, command: 3 };
    let config = ConfigSpace::new(identity).with_memory_bar(VRAM, VRAM_SIZE, true).unwrap();
    let vram = Vram::new("lifecycle", VRAM_SIZE).unwrap();
    vram.fill(0, VRAM_SIZE, mark);
    let [config_at, registers_at, edid_at, vram_at] = FD_OFFSETS.map(|(_, offset)| offset);
    let spec = DeviceSpec {
        name: "lifecycle".into(),
        config: config.with_memory_bar(REGISTERS, 4096, false).unwrap(),
        regions: RegionTable::new(
            EDID + 1,
            vec![
                Region::new(VRAM, VRAM_SIZE, vram_at, Backing::Vram),
                Region::new(REGISTERS, 4096, registers_at, Backing::Trapped),
                Region::new(CONFIG, 256, config_at, Backing::Config),
                Region::new(EDID, 4096, edid_at, Backing::Edid).with_caps(&[RegionCap::GFX_EDID]),
            ],
        ),
        display_region: VRAM,
        interfaces: Interfaces::all(),
        irqs: vec![0, 1],
        edid: Some(EdidRegion::new(&[0xed; 128], (0, 0))),
        events: true,
    };
    let mut device = Device::new(spec, Arc::new(vram), Box::new(Row::default()));
    device.offer_release_request();
    device
}
