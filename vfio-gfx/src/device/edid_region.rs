//! The EDID region: registers at its start, a blob behind them.
//!
//! A VMM or console that wants the guest to use another size takes the link down, writes the blob and its size, and
//! takes the link up again (vfio.h). Core tier: any access of any width has a defined result.

use thiserror::Error;
use zerocopy::{FromBytes, IntoBytes};

use crate::abi::{EdidRegisters, Errno, LinkState};

/// Where the blob starts, as in the kernel's mbochs.
pub const EDID_BLOB_OFFSET: u64 = 0x800;
/// Room for the blob in bytes: eight blocks, all that a Bochs display's register window can show.
pub const EDID_BLOB_MAX: usize = 0x400;
/// Size of the whole region in bytes.
pub const EDID_REGION_SIZE: u64 = 0x1000;

const REGISTERS: usize = size_of::<EdidRegisters>();

/// Why a write to the region is refused. Nothing of a refused write takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EdidRegionError {
    /// The write would change a read-only register.
    #[error("EDID register at offset {offset:#x} is read-only")]
    ReadOnly {
        /// From the start of the region.
        offset: u64,
    },
    /// The uapi defines 1 (up) and 2 (down).
    #[error("EDID link state {found}: must be 1 (up) or 2 (down)")]
    LinkState {
        /// What was written.
        found: u32,
    },
    /// Larger than `edid_max_size`.
    #[error("EDID size {found}: this device holds at most {EDID_BLOB_MAX} bytes")]
    Size {
        /// What was written.
        found: u32,
    },
    /// Neither registers nor blob.
    #[error("EDID region has nothing to write at {offset:#x}+{len}")]
    OutOfBounds {
        /// From the start of the region.
        offset: u64,
        /// Bytes.
        len: usize,
    },
}

impl From<EdidRegionError> for Errno {
    fn from(error: EdidRegionError) -> Self {
        match error {
            EdidRegionError::ReadOnly { .. } => Self::EPERM,
            _ => Self::EINVAL,
        }
    }
}

/// The state of an EDID region.
#[derive(Clone, Debug)]
pub struct EdidRegion {
    registers: EdidRegisters,
    blob: [u8; EDID_BLOB_MAX],
}

impl EdidRegion {
    /// A region with the link up and this blob. `max` is the largest mode in pixels, 0 = no limit. Bytes beyond
    /// [`EDID_BLOB_MAX`] are cut off.
    #[must_use]
    pub fn new(edid: &[u8], max: (u32, u32)) -> Self {
        let mut blob = [0; EDID_BLOB_MAX];
        let mut size: u32 = 0;
        for (slot, byte) in blob.iter_mut().zip(edid) {
            *slot = *byte;
            size = size.saturating_add(1);
        }
        let registers = EdidRegisters {
            edid_offset: 0x800,
            edid_max_size: 0x400,
            edid_size: size,
            max_xres: max.0,
            max_yres: max.1,
            link_state: LinkState::Up.raw(),
        };
        Self { registers, blob }
    }

    /// Whether a monitor is plugged in, as the region says.
    #[must_use]
    pub fn is_link_up(&self) -> bool {
        self.registers.link_state == LinkState::Up.raw()
    }

    /// What a guest sees: the blob while the link is up, nothing otherwise.
    #[must_use]
    pub fn visible(&self) -> &[u8] {
        if !self.is_link_up() {
            return &[];
        }
        let size = usize::try_from(self.registers.edid_size).unwrap_or(EDID_BLOB_MAX);
        self.blob.get(..size).unwrap_or(&self.blob)
    }

    /// The largest mode in pixels, 0 = no limit.
    #[must_use]
    pub fn max(&self) -> (u32, u32) {
        (self.registers.max_xres, self.registers.max_yres)
    }

    /// Reads any bytes; what is neither register nor blob is zero.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        let registers = self.registers.as_bytes();
        for (n, byte) in data.iter_mut().enumerate() {
            let at = u64::try_from(n).ok().and_then(|n| offset.checked_add(n)).unwrap_or(u64::MAX);
            let in_blob = at.checked_sub(EDID_BLOB_OFFSET).and_then(|at| usize::try_from(at).ok());
            let in_registers = usize::try_from(at).ok().and_then(|at| registers.get(at));
            *byte = in_registers.or_else(|| self.blob.get(in_blob?)).copied().unwrap_or(0);
        }
    }

    /// Writes registers or blob, in pieces of any width.
    ///
    /// # Errors
    /// [`EdidRegionError`]: a read-only register would change, a value is not defined, or there is nothing to write.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), EdidRegionError> {
        let out_of_bounds = EdidRegionError::OutOfBounds { offset, len: data.len() };
        let start = usize::try_from(offset).map_err(|_| out_of_bounds)?;
        if start < REGISTERS {
            return self.write_registers(start, data).ok_or(out_of_bounds)?;
        }
        let start = offset
            .checked_sub(EDID_BLOB_OFFSET)
            .and_then(|at| usize::try_from(at).ok())
            .ok_or(out_of_bounds)?;
        let end = start.checked_add(data.len()).ok_or(out_of_bounds)?;
        let slots = self.blob.get_mut(start..end).ok_or(out_of_bounds)?;
        slots.copy_from_slice(data);
        Ok(())
    }

    fn write_registers(&mut self, start: usize, data: &[u8]) -> Option<Result<(), EdidRegionError>> {
        let mut bytes = [0; REGISTERS];
        bytes.copy_from_slice(self.registers.as_bytes());
        bytes.get_mut(start..start.checked_add(data.len())?)?.copy_from_slice(data);
        let new = EdidRegisters::read_from_bytes(&bytes).ok()?;
        let old = self.registers;
        let read_only = [
            (0x00, old.edid_offset != new.edid_offset),
            (0x04, old.edid_max_size != new.edid_max_size),
            (0x0c, old.max_xres != new.max_xres),
            (0x10, old.max_yres != new.max_yres),
        ];
        if let Some(&(offset, _)) = read_only.iter().find(|(_, changed)| *changed) {
            return Some(Err(EdidRegionError::ReadOnly { offset }));
        }
        if new.edid_size > new.edid_max_size {
            return Some(Err(EdidRegionError::Size { found: new.edid_size }));
        }
        if LinkState::from_raw(new.link_state).is_none() {
            return Some(Err(EdidRegionError::LinkState { found: new.link_state }));
        }
        self.registers = new;
        Some(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read32(region: &EdidRegion, offset: u64) -> u32 {
        let mut data = [0; 4];
        region.read(offset, &mut data);
        u32::from_ne_bytes(data)
    }

    #[test]
    fn the_update_protocol_works_as_qemu_speaks_it() {
        let mut region = EdidRegion::new(&[1; 128], (800, 600));
        assert_eq!((read32(&region, 0), read32(&region, 4), read32(&region, 8)), (0x800, 0x400, 128));
        assert_eq!((read32(&region, 12), read32(&region, 16), read32(&region, 20)), (800, 600, 1));
        assert_eq!(region.visible(), [1; 128]);
        region.write(0x14, &2u32.to_ne_bytes()).unwrap();
        assert!(region.visible().is_empty(), "link down: no monitor");
        for size in [256, 1024] {
            region.write(0x14, &2u32.to_ne_bytes()).unwrap();
            region.write(0x08, &u32::try_from(size).unwrap().to_ne_bytes()).unwrap();
            region.write(0x800, &vec![7; size]).unwrap();
            region.write(0x14, &1u32.to_ne_bytes()).unwrap();
            assert_eq!(region.visible(), vec![7; size]);
        }
    }

    #[test]
    fn refused_writes_change_nothing() {
        let mut region = EdidRegion::new(&[1; 128], (0, 0));
        assert_eq!(region.write(0x14, &0u32.to_ne_bytes()), Err(EdidRegionError::LinkState { found: 0 }));
        assert_eq!(region.write(0x08, &1025u32.to_ne_bytes()), Err(EdidRegionError::Size { found: 1025 }));
        assert_eq!(region.write(0x0c, &1u32.to_ne_bytes()), Err(EdidRegionError::ReadOnly { offset: 0x0c }));
        assert!(region.write(0x18, &[0]).is_err());
        assert!(region.write(0xbff, &[0, 0]).is_err());
        assert!(region.write(0x10, &[0; 9]).is_err());
        assert!(region.write(u64::MAX, &[0]).is_err());
        assert_eq!(region.visible(), [1; 128]);
    }

    #[test]
    fn what_is_read_only_is_not_permitted_and_the_rest_is_wrong() {
        let mut region = EdidRegion::new(&[], (0, 0));
        let mut refused =
            |offset, value: u32| Errno::from(region.write(offset, &value.to_ne_bytes()).unwrap_err());
        assert_eq!(
            [(0x0c, 1), (0x14, 3), (0x18, 0)].map(|(at, value)| refused(at, value)),
            [Errno::EPERM, Errno::EINVAL, Errno::EINVAL]
        );
    }

    #[test]
    fn every_width_works() {
        let mut region = EdidRegion::new(&[], (0, 0));
        region.write(0x09, &[1]).unwrap();
        assert_eq!(read32(&region, 8), 256);
        region.write(0x08, &[0x80, 0]).unwrap();
        assert_eq!(read32(&region, 8), 128);
        let mut whole = [0xee; 4096];
        region.read(0, &mut whole);
        assert_eq!(whole[24..0x800], [0; 0x800 - 24]);
        assert_eq!(whole[0xc00..], [0; 0x400]);
    }

    proptest! {
        #[test]
        fn any_access_keeps_the_region_sane(accesses in proptest::collection::vec((0..0x1100u64, proptest::collection::vec(any::<u8>(), 0..32)), 0..40)) {
            let mut region = EdidRegion::new(&[3; 256], (1920, 1440));
            for (offset, data) in accesses {
                let _ = region.write(offset, &data);
                prop_assert!(region.visible().len() <= EDID_BLOB_MAX);
                prop_assert_eq!(region.max(), (1920, 1440));
                prop_assert!(LinkState::from_raw(read32(&region, 20)).is_some());
            }
        }
    }
}
