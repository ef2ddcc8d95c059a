//! Read a mediated display device.
//!
//! A [`Display`] asks a device what it shows and hands out the pixels, whatever the device is behind: a [`Backend`] for
//! a device in this process ([`Local`]), one behind a socket ([`Remote`]) or one of the kernel ([`Kernel`]). What a device offers is found by probing;
//! what it answers is not trusted: a plane's geometry is checked against the memory it is said to be in before a byte is
//! read.

mod backend;
mod edid;
mod error;
mod kernel;
mod local;
mod pace;
mod remote;
mod watch;

pub use backend::{Backend, BufferMapping, DeviceSummary, RegionSummary};
pub use error::DisplayError;
pub use kernel::{Kernel, KernelError, PlaceError};
pub use local::Local;
pub use pace::{Pace, Paced};
pub use remote::Remote;
pub use watch::Watch;

use std::ops::Range;

use crate::abi::{Errno, Interface, PlaneKind};
use crate::memory::compare::Fingerprints;
use crate::memory::{CpuAccess, Mapping};
use crate::plane::{Plane, Source};

/// How many buffers stay mapped: a guest flips between two or three.
const MAX_BUFFERS: usize = 8;
/// A buffer that was not shown for this many looks is let go: a second at 60 Hz. The device keeps its memory until then.
const FORGET_AFTER: u64 = 60;
/// How often a query is repeated when the buffer it named was gone before it could be fetched.
const RETRIES: usize = 4;

/// A device seen from a console.
pub struct Display {
    backend: Box<dyn Backend>,
    offered: Vec<Interface>,
    interface: Interface,
    region: Option<(u32, Mapping)>,
    /// Most recently used first.
    buffers: Vec<Fetched>,
    /// Counts how often pixels were asked for.
    turn: u64,
}

struct Fetched {
    id: u32,
    buffer: BufferMapping,
    /// When it was last shown.
    turn: u64,
}

impl std::fmt::Debug for Display {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Display").field("offered", &self.offered).field("interface", &self.interface).finish()
    }
}

/// The memory of a plane, checked to hold all of it.
#[derive(Debug)]
pub struct Pixels<'a> {
    plane: Plane,
    mapping: &'a Mapping,
    /// Reading has begun.
    _access: CpuAccess<'a>,
}

impl Pixels<'_> {
    /// The plane.
    #[must_use]
    pub fn plane(&self) -> &Plane {
        &self.plane
    }

    /// Copies one row of pixels, without its padding, as far as `row` has room.
    ///
    /// # Errors
    /// [`DisplayError::Mapping`] when the device took the memory away.
    pub fn read_row(&self, y: u32, row: &mut [u8]) -> Result<(), DisplayError> {
        Ok(self.mapping.read(self.row_start(y), row)?)
    }

    /// Brings rows of a picture in `0x00RRGGBB` up to date with a plane in XRGB8888, and sets the bits of the tiles that
    /// changed; see [`Mapping::update_rows`].
    ///
    /// # Errors
    /// [`DisplayError::Mapping`] when the device took the memory away.
    pub fn update_rows(
        &self,
        rows: Range<u32>,
        shown: &mut [u32],
        changed: &mut [u64],
        seen: &mut Fingerprints,
    ) -> Result<(), DisplayError> {
        let rows = rows.start as usize..rows.end as usize;
        let stride = u64::from(self.plane.geometry.stride());
        Ok(self.mapping.update_rows(self.row_start(0), stride, rows, shown, changed, seen)?)
    }

    /// Where a row starts in the memory, in bytes.
    fn row_start(&self, y: u32) -> u64 {
        let geometry = self.plane.geometry;
        self.plane.source.offset().saturating_add(u64::from(y) * u64::from(geometry.stride()))
    }
}

/// Asks a device whether it is still there; see [`Display::confirm`].
pub struct Confirm<'a> {
    backend: &'a mut dyn Backend,
    interface: Interface,
}

impl std::fmt::Debug for Confirm<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Confirm").field("interface", &self.interface).finish_non_exhaustive()
    }
}

impl Confirm<'_> {
    /// Asks.
    ///
    /// # Errors
    /// As [`Display::confirm`].
    pub fn confirm(&mut self) -> Result<(), DisplayError> {
        match self.backend.query(self.interface, PlaneKind::Primary) {
            // A plane that is in no region: a device that says so is there.
            Err(error) if error.errno() == Some(Errno::EOPNOTSUPP) => Ok(()),
            answer => answer.map(drop),
        }
    }
}

impl Display {
    /// Probes what the device offers. Where it offers both interfaces the region is taken: it is mapped once, for all
    /// planes and flips.
    ///
    /// # Errors
    /// [`DisplayError::NoInterface`] when it offers none, or what the transport failed with.
    pub fn open(mut backend: Box<dyn Backend>) -> Result<Self, DisplayError> {
        let mut offered = Vec::new();
        for interface in [Interface::Region, Interface::Dmabuf] {
            if backend.probe(interface)? {
                offered.push(interface);
            }
        }
        let interface = *offered.first().ok_or(DisplayError::NoInterface)?;
        Ok(Self { backend, offered, interface, region: None, buffers: Vec::new(), turn: 0 })
    }

    /// The interfaces that the device offered.
    #[must_use]
    pub fn offered(&self) -> &[Interface] {
        &self.offered
    }

    /// The interface in use.
    #[must_use]
    pub fn interface(&self) -> Interface {
        self.interface
    }

    /// The device behind it.
    pub fn backend(&mut self) -> &mut dyn Backend {
        self.backend.as_mut()
    }

    /// Whether the device is still there. Memory of a device that was unplugged stays mapped and reads as zeros: who has
    /// copied pixels asks this before he shows them, and what he copied before the answer was the device's.
    ///
    /// # Errors
    /// What the transport failed with; [`DisplayError::is_gone`] tells.
    pub fn confirm(&mut self) -> Result<(), DisplayError> {
        Confirm { backend: self.backend.as_mut(), interface: self.interface }.confirm()
    }

    /// Forgets all memory of the device: it is gone.
    pub fn release_memory(&mut self) {
        self.region = None;
        self.buffers.clear();
    }

    /// Forgets the buffers that were fetched: the guest that showed them has turned its screen off.
    pub fn release_buffers(&mut self) {
        self.buffers.clear();
    }

    /// What a plane shows now; `None` = it is off. One that is in no region is asked for as a buffer.
    ///
    /// # Errors
    /// What the transport failed with, or [`DisplayError::Plane`] for a plane that cannot be.
    pub fn plane(&mut self, kind: PlaneKind) -> Result<Option<Plane>, DisplayError> {
        let may_be_elsewhere =
            self.interface == Interface::Region && self.offered.contains(&Interface::Dmabuf);
        match self.backend.query(self.interface, kind) {
            Err(error) if may_be_elsewhere && error.errno() == Some(Errno::EOPNOTSUPP) => {
                self.backend.query(Interface::Dmabuf, kind)
            }
            found => found,
        }
    }

    /// What a plane shows now, with its memory. A buffer that is gone between the query and the fetch (the guest
    /// flipped on) is looked for again.
    ///
    /// # Errors
    /// As [`Display::plane`], and what mapping failed with.
    pub fn pixels(&mut self, kind: PlaneKind) -> Result<Option<Pixels<'_>>, DisplayError> {
        Ok(self.pixels_to_confirm(kind)?.map(|(pixels, _)| pixels))
    }

    /// The same, with something to ask while the memory is borrowed whether the device is still there: for who passes on what
    /// he reads, row by row.
    ///
    /// # Errors
    /// As [`Display::pixels`].
    pub fn pixels_to_confirm(
        &mut self,
        kind: PlaneKind,
    ) -> Result<Option<(Pixels<'_>, Confirm<'_>)>, DisplayError> {
        self.turn += 1;
        let mut attempt = 0;
        let plane = loop {
            let Some(plane) = self.plane(kind)? else {
                return Ok(None);
            };
            match self.map(&plane) {
                Ok(()) => break plane,
                Err(error) if error.is_stale_buffer() && attempt < RETRIES => attempt += 1,
                Err(error) => return Err(error),
            }
        };
        let (mapping, plane) = match plane.source {
            Source::Region { index, .. } => {
                let mapping = self.region.as_ref().filter(|(mapped, _)| *mapped == index);
                (mapping.map(|(_, mapping)| mapping), plane)
            }
            Source::Buffer { id, .. } => {
                let buffer = self.buffers.first().filter(|fetched| fetched.id == id);
                let offset = buffer.map_or(0, |fetched| fetched.buffer.offset);
                (
                    buffer.map(|fetched| &fetched.buffer.mapping),
                    Plane { source: Source::Buffer { id, offset }, ..plane },
                )
            }
        };
        let mapping = mapping.ok_or(DisplayError::NoInterface)?;
        plane.check_within(mapping.size())?;
        let pixels = Pixels { plane, mapping, _access: mapping.begin_read()? };
        Ok(Some((pixels, Confirm { backend: self.backend.as_mut(), interface: self.interface })))
    }

    /// Makes the memory of a plane the mapped region or the first of the mapped buffers.
    fn map(&mut self, plane: &Plane) -> Result<(), DisplayError> {
        match plane.source {
            Source::Region { index, .. } => {
                if self.region.as_ref().is_none_or(|(mapped, _)| *mapped != index) {
                    self.region = Some((index, self.backend.map_region(index)?));
                }
            }
            Source::Buffer { id, .. } => {
                let turn = self.turn;
                self.buffers.retain(|fetched| fetched.id == id || turn - fetched.turn < FORGET_AFTER);
                match self.buffers.iter().position(|fetched| fetched.id == id) {
                    Some(at) => {
                        self.buffers[..=at].rotate_right(1);
                        self.buffers[0].turn = turn;
                    }
                    None => {
                        let buffer = self.backend.map_buffer(id)?;
                        self.buffers.truncate(MAX_BUFFERS - 1);
                        self.buffers.insert(0, Fetched { id, buffer, turn });
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
