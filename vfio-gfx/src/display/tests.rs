//! What is kept of a device's memory, and for how long.

use std::sync::{Arc, Mutex};

use super::*;
use crate::format::{Fourcc, Modifier};
use crate::memory::{BufferKind, Vram};
use crate::plane::Geometry;

/// A device that shows what it is told to, and notes what is fetched.
#[derive(Clone)]
struct Device(Arc<Mutex<State>>);

struct State {
    vram: Vram,
    source: Source,
    fetched: Vec<u32>,
}

const SIZE: u64 = 0x1000;

impl Device {
    fn new() -> Self {
        let vram = Vram::new("test", SIZE).unwrap();
        let source = Source::Buffer { id: 1, offset: 0 };
        Self(Arc::new(Mutex::new(State { vram, source, fetched: Vec::new() })))
    }

    /// Shows it, and returns what was fetched for that.
    fn look(&self, display: &mut Display, source: Source) -> Vec<u32> {
        self.0.lock().unwrap().source = source;
        assert!(display.pixels(PlaneKind::Primary).unwrap().is_some());
        std::mem::take(&mut self.0.lock().unwrap().fetched)
    }

    fn show(&self, display: &mut Display, id: u32) -> Vec<u32> {
        self.look(display, Source::Buffer { id, offset: 0 })
    }

    fn memory(&self, number: u32) -> Mapping {
        let mut state = self.0.lock().unwrap();
        state.fetched.push(number);
        Mapping::new(state.vram.reopen_read_only().unwrap(), BufferKind::Memfd, SIZE).unwrap()
    }
}

impl Backend for Device {
    fn device(&mut self) -> Result<DeviceSummary, DisplayError> {
        Err(DisplayError::NoInterface)
    }
    fn region(&mut self, index: u32) -> Result<RegionSummary, DisplayError> {
        Err(DisplayError::NotMappable { index })
    }
    fn irq_count(&mut self, _: u32) -> Result<u32, DisplayError> {
        Ok(0)
    }
    fn probe(&mut self, _: Interface) -> Result<bool, DisplayError> {
        Ok(true)
    }
    fn query(&mut self, _: Interface, kind: PlaneKind) -> Result<Option<Plane>, DisplayError> {
        Ok(Some(Plane {
            kind,
            format: Fourcc::XRGB8888,
            modifier: Modifier::LINEAR,
            geometry: Geometry::new(16, 16, 64, 4).unwrap(),
            size: 0x1000,
            position: (0, 0),
            hotspot: None,
            source: self.0.lock().unwrap().source,
        }))
    }
    fn watch(&mut self) -> Result<Option<Watch>, DisplayError> {
        Ok(None)
    }
    fn map_region(&mut self, index: u32) -> Result<Mapping, DisplayError> {
        Ok(self.memory(index))
    }
    fn map_buffer(&mut self, id: u32) -> Result<BufferMapping, DisplayError> {
        Ok(BufferMapping { kind: BufferKind::Memfd, mapping: self.memory(id), offset: 0 })
    }
    fn read(&mut self, _: u32, _: u64, _: &mut [u8]) -> Result<(), DisplayError> {
        Ok(())
    }
    fn write(&mut self, _: u32, _: u64, _: &[u8]) -> Result<(), DisplayError> {
        Ok(())
    }
}

fn open() -> (Device, Display) {
    let device = Device::new();
    let display = Display::open(Box::new(device.clone())).unwrap();
    assert_eq!(display.offered(), [Interface::Region, Interface::Dmabuf]);
    (device, display)
}

#[test]
fn buffers_that_take_turns_are_fetched_once() {
    let (device, mut display) = open();
    for turn in 0..200 {
        let fetched = [1, 2, 3].map(|id| device.show(&mut display, id));
        assert_eq!(fetched.concat(), if turn == 0 { vec![1, 2, 3] } else { vec![] });
    }
}

#[test]
fn of_many_buffers_the_eight_shown_last_are_kept() {
    let (device, mut display) = open();
    for id in 1..=9 {
        assert_eq!(device.show(&mut display, id), [id]);
    }
    for id in [2, 9, 5] {
        assert_eq!(device.show(&mut display, id), [0; 0], "{id} is kept");
    }
    assert_eq!(device.show(&mut display, 1), [1]);
}

/// A second at sixty frames: memory that the guest may want back is not held for longer.
#[test]
fn a_buffer_that_is_not_shown_for_sixty_looks_is_let_go() {
    for (others, is_kept) in [(59, true), (60, false)] {
        let (device, mut display) = open();
        device.show(&mut display, 1);
        for _ in 0..others {
            device.show(&mut display, 2);
        }
        assert_eq!(device.show(&mut display, 1).is_empty(), is_kept, "{others}");
    }
}

#[test]
fn a_region_is_mapped_once_and_another_one_anew() {
    let (device, mut display) = open();
    for (index, fetched) in [(0, &[0][..]), (0, &[]), (1, &[1]), (1, &[]), (0, &[0])] {
        assert_eq!(device.look(&mut display, Source::Region { index, offset: 0 }), fetched);
    }
}

#[test]
fn what_was_released_is_fetched_again() {
    let (device, mut display) = open();
    let region = Source::Region { index: 0, offset: 0 };
    device.show(&mut display, 1);
    device.look(&mut display, region);
    display.release_buffers();
    assert_eq!(device.show(&mut display, 1), [1]);
    assert_eq!(device.look(&mut display, region), [0; 0], "a region stays");
    display.release_memory();
    assert_eq!(device.show(&mut display, 1), [1]);
    assert_eq!(device.look(&mut display, region), [0]);
}
