//! What the kernel's drivers answer, faults and all.
//!
//! A deviation is allowed only where the kernel answered exactly what its source says it would. These small models of mdpy.c
//! and mbochs.c (Linux 6.12, samples/vfio-mdev) predict that from the calls alone; no recorded answer is looked at, so a
//! falsified one cannot make the next look right.

mod config;
mod edid;
mod mbochs;
mod mdpy;
mod mode;
mod region_info;

use super::fields::{Fields, outcome};
use super::record::Record;
use crate::pieces::pieces;

use mbochs::Mbochs;
use mdpy::Mdpy;

pub(super) use mbochs::{power_on_registers, register};
pub(super) use mode::{Buffers, Mode, REGISTERS};

/// Stands for a byte that cannot be known: what was on the kernel's stack.
const UNKNOWN: &str = "??";

/// A byte that the driver returns; `None` where it returns stack that it never wrote.
type Byte = Option<u8>;

/// One of the originals, in the state that the calls so far have put it into.
#[derive(Debug)]
pub(super) enum Original {
    /// mdpy.c
    Mdpy(Box<Mdpy>),
    /// mbochs.c
    Mbochs(Box<Mbochs>),
    /// A driver that is not modelled, so nothing it does otherwise is known to be a fault of its own.
    Unknown,
}

/// What the models take from our device of the same type, where the two are alike.
#[derive(Clone, Copy, Debug)]
pub(super) struct PowerOn<'a> {
    /// Configuration space; the originals' differs in the revision.
    pub(super) config: &'a [u8],
    /// The registers of the EDID region; the originals start without a size and without a link state.
    pub(super) edid: &'a [u8],
    /// Bytes of video memory.
    pub(super) vram_size: u64,
}

impl Original {
    /// The original of a recording's device, just made.
    pub(super) fn new(device: &str, power_on: PowerOn<'_>) -> Self {
        match device.split_once('-') {
            Some(("mdpy", _)) => Self::Mdpy(Box::new(Mdpy::new(power_on))),
            Some(("mbochs", _)) => Self::Mbochs(Box::new(Mbochs::new(power_on))),
            _ => Self::Unknown,
        }
    }

    fn read(&self, at: u64, len: usize) -> Option<Vec<Byte>> {
        let mut data = Vec::with_capacity(len);
        for (place, range) in pieces(at, len) {
            data.extend(match self {
                Self::Mdpy(mdpy) => mdpy.read(place, range.len())?,
                Self::Mbochs(mbochs) => mbochs.read(place, range.len())?,
                Self::Unknown => return None,
            });
        }
        Some(data)
    }

    fn accepts(&self, at: u64, len: usize) -> bool {
        pieces(at, len).all(|(place, range)| match self {
            Self::Mdpy(mdpy) => mdpy.reaches(place, range.len()),
            Self::Mbochs(mbochs) => mbochs.reaches(place, range.len()),
            Self::Unknown => false,
        })
    }

    /// What a mapping of the video memory shows from byte `at` on.
    fn mapped(&self, at: u64, len: usize) -> Vec<Byte> {
        (at..).take(len).map(|at| self.mapped_byte(at)).collect()
    }

    fn mapped_byte(&self, at: u64) -> Byte {
        match self {
            Self::Mdpy(mdpy) => mdpy.mapped(at),
            Self::Mbochs(mbochs) => Some(mbochs.mapped(at)),
            Self::Unknown => None,
        }
    }

    /// The fields that the driver answers a call with; `None` where the model has no opinion.
    pub(super) fn predict(&self, record: &Record) -> Option<Fields> {
        if matches!(self, Self::Unknown) {
            return None;
        }
        match (record.op.as_str(), self) {
            ("pread", _) => {
                let len = record.len?;
                let data = self.read(record.offset?, len);
                let mut fields = outcome(data.as_ref().map(|_| count(len)).ok_or("EFAULT"));
                fields.extend(data.map(|data| ("data", digits(&data))));
                Some(fields)
            }
            ("pwrite", _) => {
                let len = record.data.as_ref()?.0.len();
                let accepted = self.accepts(record.offset?, len);
                Some(outcome(accepted.then_some(count(len)).ok_or("EFAULT")))
            }
            ("mmap", _) => Some(vec![("errno", "0".to_owned()), ("first16", digits(&self.mapped(0, 16)))]),
            ("mapped_after_pwrite_0x3000", _) => {
                let at = |place| digits(&self.mapped(place, 4));
                Some(vec![("at_0x3000", at(0x3000)), ("at_0", at(0)), ("at_0x5000", at(0x5000))])
            }
            ("get_region_info", Self::Mbochs(mbochs)) => {
                Some(mbochs.predict_region_info(&record.arg.as_ref()?.0))
            }
            ("query_gfx_plane", Self::Mbochs(mbochs)) => Some(mbochs.predict_query(&record.arg.as_ref()?.0)),
            ("get_gfx_dmabuf", Self::Mbochs(mbochs)) => Some(mbochs.predict_buffer(record.id?)),
            _ => None,
        }
    }

    /// Takes note of a call, as far as the driver carries it out.
    pub(super) fn observe(&mut self, record: &Record) {
        match (record.op.as_str(), record.offset, &record.data) {
            ("pwrite", Some(at), Some(data)) => self.write(at, &data.0),
            ("reset", ..) => match self {
                Self::Mdpy(mdpy) => mdpy.reset(),
                Self::Mbochs(mbochs) => mbochs.reset(),
                Self::Unknown => {}
            },
            ("query_gfx_plane", ..) => {
                if let (Self::Mbochs(mbochs), Some(arg)) = (self, &record.arg) {
                    mbochs.query(&arg.0);
                }
            }
            _ => {}
        }
    }

    /// A piece that is refused ends the write; what came before it stays.
    fn write(&mut self, at: u64, data: &[u8]) {
        for (place, range) in pieces(at, data.len()) {
            let piece = &data[range];
            let accepted = match self {
                Self::Mdpy(mdpy) => mdpy.write(place, piece),
                Self::Mbochs(mbochs) => mbochs.write(place, piece),
                Self::Unknown => false,
            };
            if !accepted {
                return;
            }
        }
    }
}

fn count(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

fn digits(data: &[Byte]) -> String {
    data.iter().map(|byte| byte.map_or_else(|| UNKNOWN.to_owned(), |byte| format!("{byte:02x}"))).collect()
}

/// Whether an answer is the one predicted.
pub(super) fn is_as_predicted(answer: &str, predicted: &str) -> bool {
    let pairs = |text: &str| text.as_bytes().chunks(2).map(<[u8]>::to_vec).collect::<Vec<_>>();
    answer.len() == predicted.len()
        && pairs(answer).iter().zip(pairs(predicted)).all(|(a, p)| *a == p || p == UNKNOWN.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::fields::value;
    use proptest::prelude::*;

    const CONFIG: [u8; 256] = {
        let mut config = [0; 256];
        (config[0x10], config[0x48], config[0x4c]) = (8, 100, 200);
        config
    };

    fn original(device: &str) -> Original {
        Original::new(device, PowerOn { config: &CONFIG, edid: &[7; 24], vram_size: 1 << 20 })
    }

    fn call(op: &str, offset: u64, data: &[u8]) -> Record {
        let hex = crate::replay::record::encode(data);
        let line = format!(
            r#"{{"device":"","seq":0,"op":"{op}","offset":{offset},"len":{},"data":"{hex}","in":"{hex}","id":1}}"#,
            data.len()
        );
        Record::parse(&line).unwrap()
    }

    #[track_caller]
    fn reads(original: &Original, at: u64, len: usize, expected: &str) {
        let fields = original.predict(&call("pread", at, &vec![0; len])).unwrap();
        assert_eq!(value(&fields, "data"), expected);
    }

    #[test]
    fn mdpy_reaches_the_first_bytes_only() {
        let mut mdpy = original("mdpy-vga");
        mdpy.observe(&call("pwrite", 0x9004, &[1, 2, 3, 4]));
        mdpy.observe(&call("pwrite", 0x2003, &[9]));
        reads(&mdpy, 0x1001, 7, "09090209020304");
        assert_eq!(digits(&mdpy.mapped(2, 4)), "03040000");
        assert_eq!(digits(&mdpy.mapped(400 * 199, 4)), "fdfdfdfd");
        mdpy.observe(&call("reset", 0, &[]));
        reads(&mdpy, 0x1000, 4, "00000000");
        assert!(!mdpy.accepts(0x1000 + (1 << 20) - 2, 3) && !mdpy.accepts(0xff, 1));
    }

    #[test]
    fn mbochs_is_two_pages_off_and_shows_stack() {
        let mut mbochs = original("mbochs-small");
        mbochs.observe(&call("pwrite", 0x3000, &[1, 2, 3, 4]));
        assert_eq!(digits(&mbochs.mapped(0x2000, 4)), "01020304");
        reads(&mbochs, 0x3000 + (1 << 20) - 0x2002, 4, "0000????");
        mbochs.observe(&call("pwrite", 0x10, &[0xff, 0xff]));
        reads(&mbochs, 0x10, 4, "????????");
        mbochs.observe(&call("pwrite", 0x12, &[1, 2]));
        mbochs.observe(&call("pwrite", 0x10, &[0x35, 0xff]));
        reads(&mbochs, 0x10, 4, "38ff????");
        mbochs.observe(&call("pwrite", 0x10, &[0xff; 4]));
        reads(&mbochs, 0x10, 4, "0800f0ff");
        reads(&mbochs, 0x2004, 4, "07070707");
        reads(&mbochs, 0x2005, 4, "????????");
        reads(&mbochs, 0x1501, 4, "00000000");
        reads(&mbochs, 0x14fe, 4, "0000c5b0");
    }

    #[test]
    fn mbochs_fails_the_first_query_of_a_mode() {
        let mut mbochs = original("mbochs-small");
        for (register, value) in [(1, 256u16), (2, 128), (3, 32), (4, 1), (8, 1)] {
            mbochs.observe(&call("pwrite", 0x1500 + 2 * register, &value.to_le_bytes()));
        }
        let mut arg = [0; 64];
        (arg[0], arg[4], arg[8]) = (64, 2, 1);
        let query = call("query_gfx_plane", 0, &arg);
        let answer = |mbochs: &Original, field| value(&mbochs.predict(&query).unwrap(), field).to_owned();
        assert_eq!(
            (answer(&mbochs, "errno"), answer(&mbochs, "handle")),
            ("ENOMEM".into(), "00000000".into())
        );
        mbochs.observe(&query);
        assert_eq!((answer(&mbochs, "errno"), answer(&mbochs, "handle")), ("0".into(), "01000000".into()));
        assert_eq!(answer(&mbochs, "size"), "00000200");
        let buffer = mbochs.predict(&call("get_gfx_dmabuf", 0, &[])).unwrap();
        assert_eq!(value(&buffer, "errno"), "EINVAL", "it starts at the second pixel");
    }

    proptest! {
        #[test]
        fn any_call_can_be_predicted_and_observed(calls in proptest::collection::vec(
            (0..4usize, prop_oneof![0..0x3100u64, 0x10_2f00..0x10_3100u64, any::<u64>()],
             proptest::collection::vec(any::<u8>(), 0..80)), 0..40)) {
            for device in ["mdpy-hd", "mbochs-large", "i915-GVTg_V5_4"] {
                let mut original = original(device);
                for (op, at, data) in &calls {
                    let record = call(["pread", "pwrite", "query_gfx_plane", "get_gfx_dmabuf"][*op], *at, data);
                    prop_assert!(device.starts_with('m') || original.predict(&record).is_none());
                    let _ = original.predict(&record);
                    original.observe(&record);
                }
            }
        }
    }

    #[test]
    fn unknown_bytes_match_any_byte_and_nothing_else() {
        assert!(is_as_predicted("12ab", "12??"));
        assert!(!is_as_predicted("13ab", "12??"));
        assert!(!is_as_predicted("12", "12??"));
        assert!(is_as_predicted("EFAULT", "EFAULT") && !is_as_predicted("EFAULT", "EINVAL"));
    }
}
