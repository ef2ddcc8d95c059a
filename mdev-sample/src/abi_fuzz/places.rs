//! Places in a device's descriptor where something is, or ends.
//!
//! The walk knows them by heart instead of asking, so that it is the same for every device: the layouts of mdpy, mbochs
//! and our own types (`docs/src/devices.md`), and the one of vfio-pci and most others, `index << 40`.

use super::rng::Rng;

/// Registers of configuration space, the BARs and the vendor capability of mdpy among them.
const CONFIG: [u64; 20] = [
    0x00, 0x02, 0x04, 0x06, 0x08, 0x0a, 0x0e, 0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x2c, 0x30, 0x34, 0x3c,
    0x44, 0x48, 0x4c,
];
/// The DISPI registers.
pub(super) const DISPI: u64 = 0x1500;
const DISPI_REGISTERS: u64 = 11;
/// The plane registers of our own types, and where they end.
pub(super) const PLANE_REGISTERS: u64 = 0x1800;
const PLANE_REGISTERS_END: u64 = 0x1900;
/// The EDID region and the blob in it.
pub(super) const EDID: u64 = 0x2000;
pub(super) const EDID_BLOB: u64 = 0x2800;
const EDID_MAX: u64 = 0x400;
const MDPY_VRAM: u64 = 0x1000;
pub(super) const MBOCHS_VRAM: u64 = 0x3000;
/// Where parts of the layouts begin and end.
const EDGES: [u64; 17] = [
    0xff, 0x100, 0x1000, 0x1400, 0x1500, 0x1516, 0x1600, 0x1608, 0x1800, 0x1840, 0x1900, 0x2000, 0x2018,
    0x2800, 0x2880, 0x2c00, 0x3000,
];
/// Bytes of video memory of mdpy's types.
const MDPY_SIZES: [u64; 3] = [640 * 480 * 4, 1024 * 768 * 4, 1920 * 1080 * 4];
/// Megabytes of video memory of mbochs' types and ours.
const BOCHS_MEGABYTES: [u64; 5] = [4, 16, 64, 32, 128];
/// Megabytes of video memory of mbochs' types.
pub(super) const MBOCHS_MEGABYTES: [u64; 3] = [4, 16, 64];
/// How much at the end of its video memory mbochs cannot access.
pub(super) const MBOCHS_LOST: u64 = 0x2000;
/// Offsets beyond this are refused by the system before any device is asked.
const LIMIT: u64 = i64::MAX as u64 - (1 << 16);

/// A place to read or write.
pub(super) fn access(rng: &mut Rng) -> u64 {
    match rng.below(20) {
        0..4 => rng.pick(&CONFIG),
        4 => rng.below(0x110),
        5..9 => DISPI + 2 * rng.below(DISPI_REGISTERS),
        9 => DISPI + rng.below(0x120),
        10 | 11 => PLANE_REGISTERS + 4 * rng.below((PLANE_REGISTERS_END - PLANE_REGISTERS) / 4),
        12 => EDID + 4 * rng.below(7),
        13 => EDID_BLOB + rng.below(EDID_MAX + 16),
        14 => 0x1000 + rng.below(EDID_MAX + 0x40),
        15 | 16 => near(rng.pick(&EDGES), rng),
        17 => near(vram_end(rng), rng),
        18 => rng.pick(&[MDPY_VRAM, MBOCHS_VRAM]) + rng.below(1 << 16),
        _ => elsewhere(rng),
    }
}

/// A place to map: pages, as the system refuses others itself.
pub(super) fn map(rng: &mut Rng) -> u64 {
    let page = |offset: u64| offset & !0xfff;
    match rng.below(8) {
        0..3 => MDPY_VRAM,
        3..6 => MBOCHS_VRAM,
        6 => 0x1000 * rng.below(8),
        _ => page(elsewhere(rng)),
    }
}

/// How much of it: a page, the sizes of video memories, and a page more.
pub(super) fn map_len(rng: &mut Rng) -> usize {
    let size = match rng.below(4) {
        0 => 0x1000,
        1 => 0x1000 * (1 + rng.below(64)),
        _ => vram_size(rng) + rng.pick(&[0, 0, 0x1000]),
    };
    usize::try_from(size).unwrap_or(0x1000)
}

/// A place in the last two pages of an mbochs' video memory.
pub(super) fn lost(rng: &mut Rng) -> u64 {
    MBOCHS_VRAM + (rng.pick(&MBOCHS_MEGABYTES) << 20) - 1 - rng.below(MBOCHS_LOST)
}

/// Whether an access touches the last two pages of an mbochs' video memory, of any type.
pub(super) fn is_lost(offset: u64, len: usize) -> bool {
    MBOCHS_MEGABYTES.iter().any(|megabytes| {
        let end = MBOCHS_VRAM + (megabytes << 20);
        offset < end && offset.saturating_add(len as u64) > end - MBOCHS_LOST
    })
}

fn vram_size(rng: &mut Rng) -> u64 {
    if rng.one_in(2) { rng.pick(&MDPY_SIZES) } else { rng.pick(&BOCHS_MEGABYTES) << 20 }
}

fn vram_end(rng: &mut Rng) -> u64 {
    if rng.one_in(2) {
        MDPY_VRAM + rng.pick(&MDPY_SIZES)
    } else {
        MBOCHS_VRAM + (rng.pick(&BOCHS_MEGABYTES) << 20)
    }
}

/// Up to eight bytes before or behind.
fn near(place: u64, rng: &mut Rng) -> u64 {
    (place + rng.below(17)).saturating_sub(8)
}

fn elsewhere(rng: &mut Rng) -> u64 {
    if rng.one_in(2) {
        (rng.below(12) << 40) + rng.below(0x1000)
    } else {
        let bits = rng.below(64);
        (rng.u64() >> bits).min(LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_one_that_a_device_is_asked_about() {
        let mut rng = Rng::new(5);
        for _ in 0..10_000 {
            assert!(access(&mut rng) <= LIMIT);
            assert_eq!(map(&mut rng) % 0x1000, 0);
            assert_ne!(map_len(&mut rng), 0);
            let place = lost(&mut rng);
            assert!(is_lost(place, 1), "{place:#x}");
        }
    }

    #[test]
    fn the_lost_pages_are_the_last_two() {
        let end = MBOCHS_VRAM + (4 << 20);
        assert!(!is_lost(end - 0x2004, 4));
        assert!(is_lost(end - 0x2003, 4));
        assert!(is_lost(end - 1, 1));
        assert!(!is_lost(end, 4));
    }
}
