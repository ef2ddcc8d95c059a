//! What the answers of kernel drivers mean: the rules that hold for all of them, mdpy, mbochs, i915's GVT-g and
//! vfio-pci, in one place and without a device.

use rustix::io::Errno;

use crate::abi::{REGION_INFO_MIN, RegionFlags, RegionInfo, caps, pci_region};
use crate::display::{DisplayError, RegionSummary};

use super::calls::MAX_REGION_INFO;

/// An answer that may be "no such thing".
pub(super) fn absent_is_none<T>(answer: Result<T, Errno>, absent: &[Errno]) -> Result<Option<T>, Errno> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(errno) if absent.contains(&errno) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Whether a probe said yes. `EINVAL` is the uapi's "no"; drivers without a display do not know the ioctl.
pub(super) fn offered<T>(answer: Result<T, Errno>) -> Result<bool, Errno> {
    absent_is_none(answer, &[Errno::INVAL, Errno::NOTTY]).map(|answer| answer.is_some())
}

/// The errors that mean "the device has no such region", for this index: vfio-pci says `EINVAL` of the VGA region of
/// everything that is no graphics card, although it counts it.
pub(super) fn absent_region(index: u32) -> &'static [Errno] {
    if index == pci_region::VGA { &[Errno::INVAL] } else { &[] }
}

/// Asks again, once, where the answer was `ENOMEM`: mbochs up to Linux 6.12 says so at the first query of every new
/// mode, although it could allocate what it needed.
pub(super) fn retry_no_memory<T>(mut ask: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    match ask() {
        Err(Errno::NOMEM) => ask(),
        answer => answer,
    }
}

/// How many bytes to ask for again, after `first` was asked for with [`REGION_INFO_MIN`] bytes and had more to say.
/// Exactly as many as it wants: mbochs up to Linux 6.18 refuses more than 48.
pub(super) fn second_argsz(first: &RegionInfo) -> Option<u32> {
    let caps = RegionFlags::from_bits_truncate(first.flags).contains(RegionFlags::CAPS);
    (caps && first.argsz > REGION_INFO_MIN).then_some(first.argsz.min(MAX_REGION_INFO))
}

/// Reads a region's info out of the last reply. A reply of [`REGION_INFO_MIN`] bytes has no room for capabilities,
/// whatever it says of them (mbochs says that they are there).
pub(super) fn summary(info: &RegionInfo, reply: &[u8]) -> Result<RegionSummary, DisplayError> {
    let chain = if reply.len() > REGION_INFO_MIN as usize { info.cap_offset } else { 0 };
    let caps =
        caps::parse(reply, chain).map_err(|source| DisplayError::Caps { region: info.index, source })?;
    Ok(RegionSummary {
        index: info.index,
        flags: RegionFlags::from_bits_truncate(info.flags),
        size: info.size,
        caps,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::caps::RegionCap;
    use zerocopy::IntoBytes;

    const MBOCHS_EDID: RegionInfo =
        RegionInfo { argsz: 48, flags: 0xb, index: 9, cap_offset: 32, size: 0x1000, offset: 0x2000 };

    #[test]
    fn the_window_is_what_the_reply_asks_for() {
        assert_eq!(second_argsz(&MBOCHS_EDID), Some(48));
        assert_eq!(second_argsz(&RegionInfo { argsz: 32, ..MBOCHS_EDID }), None);
        // A size without the flag is what the caller passed, or noise.
        assert_eq!(second_argsz(&RegionInfo { flags: 3, ..MBOCHS_EDID }), None);
        assert_eq!(second_argsz(&RegionInfo { argsz: u32::MAX, ..MBOCHS_EDID }), Some(MAX_REGION_INFO));
    }

    #[test]
    fn capabilities_are_read_only_where_there_is_room_for_them() {
        let mut reply = MBOCHS_EDID.as_bytes().to_vec();
        assert_eq!(summary(&MBOCHS_EDID, &reply).unwrap().caps, []);
        reply.extend_from_slice(&caps::encode(&[RegionCap::GFX_EDID]));
        let found = summary(&MBOCHS_EDID, &reply).unwrap();
        assert_eq!((found.index, found.size, found.caps), (9, 0x1000, vec![RegionCap::GFX_EDID]));
        let lie = RegionInfo { cap_offset: 47, ..MBOCHS_EDID };
        assert!(matches!(summary(&lie, &reply), Err(DisplayError::Caps { region: 9, .. })));
    }

    #[test]
    fn only_the_known_refusals_mean_no() {
        assert_eq!(offered(Ok(())), Ok(true));
        assert_eq!(offered::<()>(Err(Errno::INVAL)), Ok(false));
        assert_eq!(offered::<()>(Err(Errno::NOTTY)), Ok(false));
        assert_eq!(offered::<()>(Err(Errno::IO)), Err(Errno::IO));
        let refused = Err::<(), _>(Errno::INVAL);
        assert_eq!(absent_is_none(refused, absent_region(pci_region::VGA)), Ok(None));
        assert_eq!(absent_is_none(refused, absent_region(pci_region::BAR0)), Err(Errno::INVAL));
    }

    #[test]
    fn no_memory_is_asked_about_once_more() {
        let mut answers = vec![Ok(1), Err(Errno::NOMEM)];
        assert_eq!(retry_no_memory(|| answers.pop().unwrap()), Ok(1));
        let mut answers = vec![Ok(1), Err(Errno::NOMEM), Err(Errno::NOMEM)];
        assert_eq!(retry_no_memory(|| answers.pop().unwrap()), Err(Errno::NOMEM));
        let mut answers = vec![Ok(1), Err(Errno::INVAL)];
        assert_eq!(retry_no_memory(|| answers.pop().unwrap()), Err(Errno::INVAL));
    }
}
