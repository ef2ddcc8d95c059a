//! What a device was like before a walk, to be put back after it.

use vfio_gfx::abi::{Errno, pci_region};

use super::wire::Wire;

/// The header's registers that take writes: COMMAND to the interrupt line (`linux/pci_regs.h`).
const CONFIG: std::ops::Range<u16> = 0x04..0x40;
/// Registers of the EDID region (`struct vfio_region_gfx_edid`, linux/vfio.h).
const EDID_OFFSET: u64 = 0x00;
const EDID_SIZE: u64 = 0x08;
const LINK_STATE: u64 = 0x14;
const LINK_DOWN: u32 = 2;
/// Longest EDID that is kept: 256 blocks, the most that can be.
const MAX_EDID: u32 = 256 * 128;

/// Configuration space, and the EDID.
#[derive(Debug)]
pub(super) struct Kept {
    config: Vec<u8>,
    edid: Option<Edid>,
}

#[derive(Debug)]
struct Edid {
    region: u32,
    /// Where its blob is.
    at: u64,
    blob: Vec<u8>,
    link: u32,
}

fn word(wire: &mut Wire, region: u32, at: u64) -> Result<u32, Errno> {
    let mut word = [0; 4];
    wire.read(region, at, &mut word)?;
    Ok(u32::from_ne_bytes(word))
}

impl Kept {
    /// Looks at the device; `edid` is the region that has one.
    pub(super) fn of(wire: &mut Wire, edid: Option<u32>) -> Result<Self, Errno> {
        let mut config = vec![0; CONFIG.len()];
        wire.read(pci_region::CONFIG, u64::from(CONFIG.start), &mut config)?;
        let edid = edid.map(|region| Edid::of(wire, region)).transpose()?;
        Ok(Self { config, edid })
    }

    /// Puts it back: registers as after a reset, configuration space and EDID as they were. Video memory keeps what the
    /// walk wrote.
    pub(super) fn restore(&self, wire: &mut Wire) -> Result<(), Errno> {
        wire.write(pci_region::CONFIG, u64::from(CONFIG.start), &self.config)?;
        wire.reset()?;
        self.edid.as_ref().map_or(Ok(()), |edid| edid.restore(wire))
    }
}

impl Edid {
    fn of(wire: &mut Wire, region: u32) -> Result<Self, Errno> {
        let at = u64::from(word(wire, region, EDID_OFFSET)?);
        let len = word(wire, region, EDID_SIZE)?.min(MAX_EDID);
        let link = word(wire, region, LINK_STATE)?;
        let mut blob = vec![0; usize::try_from(len).unwrap_or_default()];
        wire.read(region, at, &mut blob)?;
        Ok(Self { region, at, blob, link })
    }

    /// In the order that the uapi asks for; the size before the blob, because GVT-g wants it so.
    fn restore(&self, wire: &mut Wire) -> Result<(), Errno> {
        let len = u32::try_from(self.blob.len()).unwrap_or_default();
        wire.write(self.region, LINK_STATE, &LINK_DOWN.to_ne_bytes())?;
        wire.write(self.region, EDID_SIZE, &len.to_ne_bytes())?;
        wire.write(self.region, self.at, &self.blob)?;
        wire.write(self.region, LINK_STATE, &self.link.to_ne_bytes())
    }
}
