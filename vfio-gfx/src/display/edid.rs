//! The monitor that a device tells its guest about: reading it, and exchanging it.
//!
//! A console that wants the guest to use another size unplugs the monitor, writes another EDID and plugs it in again
//! (vfio.h, `struct vfio_region_gfx_edid`). Drivers differ in what they take, so everything is read and written in the
//! one way that all of them do: aligned pieces of four bytes, the size before the blob (i915's GVT-g takes only as much
//! blob as the size says). Some ignore what they do not like (mbochs), so what was written is read back.

use zerocopy::{FromBytes, IntoBytes};

use crate::abi::{EdidRegisters, LinkState, caps::RegionCap, pci_region};

use super::{Display, DisplayError, RegionSummary};

/// Largest EDID that is read: 256 blocks, as many as the format can count.
const MAX_EDID: u32 = 256 * BLOCK;
/// Bytes in a block of an EDID.
const BLOCK: u32 = 128;
/// Most regions of a device that are looked at.
const MAX_REGIONS: u32 = 64;

// Offsets of the registers that can be written.
const EDID_SIZE: u64 = 8;
const LINK_STATE: u64 = 20;

impl Display {
    /// The region with the EDID, if the device has one.
    ///
    /// # Errors
    /// What the transport failed with.
    pub fn edid_region(&mut self) -> Result<Option<RegionSummary>, DisplayError> {
        let count = self.backend.device()?.num_regions.min(MAX_REGIONS);
        for index in pci_region::COUNT..count {
            let region = self.backend.region(index)?;
            if region.caps.contains(&RegionCap::GFX_EDID) {
                return Ok(Some(region));
            }
        }
        Ok(None)
    }

    /// The EDID, as a guest sees it: `None` when the device has no EDID region, empty while the link is not up.
    ///
    /// # Errors
    /// What the transport failed with, or [`DisplayError::EdidRegion`] when its registers contradict the region.
    pub fn edid(&mut self) -> Result<Option<Vec<u8>>, DisplayError> {
        let Some(region) = self.edid_region()? else {
            return Ok(None);
        };
        let registers = self.edid_registers(&region)?;
        if LinkState::from_raw(registers.link_state) != Some(LinkState::Up) {
            return Ok(Some(Vec::new()));
        }
        let mut blob = vec![0; registers.edid_size as usize];
        self.edid_read(&region, u64::from(registers.edid_offset), &mut blob)?;
        Ok(Some(blob))
    }

    /// Exchanges the monitor for the one that `edid` describes: link down, size, blob, link up.
    ///
    /// # Errors
    /// [`DisplayError::NoEdidRegion`], [`DisplayError::EdidSize`], [`DisplayError::EdidNotKept`] when the device took
    /// the writes without effect, or what the transport failed with. Unless nothing was written (the first two), the
    /// link may be left down.
    pub fn set_edid(&mut self, edid: &[u8]) -> Result<(), DisplayError> {
        let region = self.edid_region()?.ok_or(DisplayError::NoEdidRegion)?;
        let registers = self.edid_registers(&region)?;
        let (offset, max) = (u64::from(registers.edid_offset), registers.edid_max_size);
        let size = u32::try_from(edid.len()).unwrap_or(u32::MAX);
        if size == 0 || size % BLOCK != 0 || size > max {
            return Err(DisplayError::EdidSize { found: edid.len(), max });
        }
        if offset + u64::from(size) > region.reachable() {
            return Err(DisplayError::EdidRegion { region: region.index });
        }
        self.edid_write(&region, LINK_STATE, LinkState::Down.raw().as_bytes())?;
        self.edid_write(&region, EDID_SIZE, size.as_bytes())?;
        self.edid_write(&region, offset, edid)?;
        self.edid_write(&region, LINK_STATE, LinkState::Up.raw().as_bytes())?;

        kept("size of the EDID", size, self.edid_word(&region, EDID_SIZE)?)?;
        kept("link state", LinkState::Up.raw(), self.edid_word(&region, LINK_STATE)?)?;
        for (at, written) in (offset..).step_by(4).zip(edid.as_chunks().0) {
            kept("EDID", u32::from_ne_bytes(*written), self.edid_word(&region, at)?)?;
        }
        Ok(())
    }

    /// Plugs the monitor in or unplugs it; its EDID stays what it is.
    ///
    /// # Errors
    /// [`DisplayError::NoEdidRegion`], [`DisplayError::EdidNotKept`], or what the transport failed with.
    pub fn set_link(&mut self, state: LinkState) -> Result<(), DisplayError> {
        let region = self.edid_region()?.ok_or(DisplayError::NoEdidRegion)?;
        self.edid_write(&region, LINK_STATE, state.raw().as_bytes())?;
        kept("link state", state.raw(), self.edid_word(&region, LINK_STATE)?)
    }

    /// The registers, such that the blob they describe is in the region.
    fn edid_registers(&mut self, region: &RegionSummary) -> Result<EdidRegisters, DisplayError> {
        let mut registers = [0; size_of::<EdidRegisters>()];
        self.edid_read(region, 0, &mut registers)?;
        let malformed = || DisplayError::EdidRegion { region: region.index };
        let registers = EdidRegisters::read_from_bytes(&registers).map_err(|_| malformed())?;
        let end = u64::from(registers.edid_offset) + u64::from(registers.edid_size);
        if registers.edid_offset % 4 != 0
            || registers.edid_size > registers.edid_max_size
            || registers.edid_size > MAX_EDID
            || end > region.reachable()
        {
            return Err(malformed());
        }
        Ok(registers)
    }

    fn edid_word(&mut self, region: &RegionSummary, offset: u64) -> Result<u32, DisplayError> {
        let mut word = [0; 4];
        self.backend.read(region.index, offset, &mut word)?;
        Ok(u32::from_ne_bytes(word))
    }

    fn edid_read(
        &mut self,
        region: &RegionSummary,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), DisplayError> {
        for (at, piece) in (offset..).step_by(4).zip(data.chunks_mut(4)) {
            // A blob may end within a word; the region does not.
            let word = self.edid_word(region, at)?.to_ne_bytes();
            piece.copy_from_slice(&word[..piece.len()]);
        }
        Ok(())
    }

    fn edid_write(&mut self, region: &RegionSummary, offset: u64, data: &[u8]) -> Result<(), DisplayError> {
        for (at, piece) in (offset..).step_by(4).zip(data.chunks(4)) {
            self.backend.write(region.index, at, piece)?;
        }
        Ok(())
    }
}

fn kept(what: &'static str, written: u32, found: u32) -> Result<(), DisplayError> {
    if written == found { Ok(()) } else { Err(DisplayError::EdidNotKept { what, written, found }) }
}
