//! A descriptor for a device that has none: where its regions would be.

use vfio_gfx::abi::pci_region;

/// Regions begin at multiples of this, as those of the samples do.
const ALIGNMENT: u64 = 0x1000;

/// One region of a device behind a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) index: u32,
    /// Bytes.
    pub(super) size: u64,
    /// Place in the descriptor.
    pub(super) at: u64,
}

/// Where a descriptor would have regions of these sizes (index and bytes): configuration space at 0, then the others by
/// index, BAR0 behind them, and a ROM last. That is where mdpy, mbochs and our own types have them, so a walk means the same.
pub(super) fn lay_out(sizes: &[(u32, u64)]) -> Vec<Region> {
    let order = |index: u32| match index {
        pci_region::CONFIG => (0, 0),
        pci_region::BAR0 => (2, 0),
        pci_region::ROM => (3, 0),
        other => (1, other),
    };
    let mut sizes: Vec<_> = sizes.iter().copied().filter(|(_, size)| *size != 0).collect();
    sizes.sort_by_key(|(index, _)| order(*index));
    let mut next = 0;
    let mut regions = Vec::new();
    for (index, size) in sizes {
        if index != pci_region::CONFIG {
            next = next.max(ALIGNMENT);
        }
        regions.push(Region { index, size, at: next });
        // A device may say anything; what lies beyond every offset is never found.
        next = next.saturating_add(size).checked_next_multiple_of(ALIGNMENT).unwrap_or(u64::MAX);
    }
    regions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TYPES;

    #[test]
    fn our_types_are_laid_out_as_their_descriptors_are() {
        for device_type in TYPES {
            let device = device_type.create(None).unwrap();
            let within = 0..device.regions().num_regions();
            let there: Vec<_> =
                device.regions().iter().filter(|region| within.contains(&region.index)).collect();
            let sizes: Vec<_> = there.iter().map(|region| (region.index, region.size)).collect();
            let laid_out = lay_out(&sizes);
            assert_eq!(laid_out.len(), there.len());
            for region in there {
                let expected = Region { index: region.index, size: region.size, at: region.fd_offset };
                assert!(laid_out.contains(&expected), "{}: {region:?}: {laid_out:?}", device_type.name());
            }
        }
    }

    #[test]
    fn sizes_may_be_anything() {
        let regions = lay_out(&[(0, u64::MAX), (1, 0), (2, u64::MAX - 5), (7, 256), (40, 1)]);
        let places: Vec<_> = regions.iter().map(|region| (region.index, region.at)).collect();
        assert_eq!(places, [(7, 0), (2, 0x1000), (40, u64::MAX), (0, u64::MAX)]);
    }
}
