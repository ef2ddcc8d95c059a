//! One recorded call: a line of the recording.

use serde::{Deserialize, Deserializer};
use thiserror::Error;

/// Longest line of a recording; the longest call has a few hundred bytes.
pub(super) const MAX_LINE: usize = 1 << 16;
/// Longest read that is repeated.
const MAX_LEN: usize = 1 << 16;

/// A call and what the kernel answered. Which fields are there depends on `op`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The device's type.
    pub device: String,
    /// Place in the recording.
    pub seq: u64,
    /// What was called.
    pub op: String,
    /// ioctl number.
    #[serde(default)]
    pub cmd: Option<u32>,
    /// The argument's memory before the call.
    #[serde(default, rename = "in")]
    pub arg: Option<Hex>,
    /// The argument's memory after the call.
    #[serde(default)]
    pub out: Option<Hex>,
    /// Return value; 1 stands for any descriptor.
    #[serde(default)]
    pub ret: Option<i64>,
    /// Name of the error, "0" for none.
    #[serde(default)]
    pub errno: Option<String>,
    /// Buffer id.
    #[serde(default)]
    pub id: Option<u32>,
    /// Bytes of a dma-buf.
    #[serde(default)]
    pub size: Option<u64>,
    /// Error of a shared read-only mapping of a dma-buf.
    #[serde(default)]
    pub mmap_shared: Option<String>,
    /// Error of a private read-only mapping of a dma-buf.
    #[serde(default)]
    pub mmap_private: Option<String>,
    /// Place in the device's descriptor.
    #[serde(default)]
    pub offset: Option<u64>,
    /// Bytes to read or map.
    #[serde(default)]
    pub len: Option<usize>,
    /// Bytes read or written.
    #[serde(default)]
    pub data: Option<Hex>,
    /// mmap protection.
    #[serde(default)]
    pub prot: Option<u32>,
    /// mmap flags.
    #[serde(default)]
    pub flags: Option<u32>,
    /// What the mapping shows first.
    #[serde(default)]
    pub first16: Option<Hex>,
    /// What the mapping shows at 0x3000 after a `pwrite` to the same place of BAR0.
    #[serde(default, rename = "at0x3000")]
    pub at_0x3000: Option<Hex>,
    /// The same at 0.
    #[serde(default, rename = "at0")]
    pub at_0: Option<Hex>,
    /// The same at 0x5000.
    #[serde(default, rename = "at0x5000")]
    pub at_0x5000: Option<Hex>,
}

/// Bytes, written as hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hex(pub Vec<u8>);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        decode(&text)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("not an even number of hexadecimal digits"))
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// Hexadecimal digits of bytes.
pub(super) fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why a line is no record.
#[derive(Debug, Error)]
pub enum RecordError {
    /// Not a record in JSON.
    #[error("not a recorded call: {0}")]
    Json(#[from] serde_json::Error),
    /// Longer than any call.
    #[error("line of {0} bytes: at most {MAX_LINE} are read")]
    TooLong(usize),
    /// A length beyond what is repeated.
    #[error("{op}: length {len} is more than the {MAX_LEN} that are replayed")]
    Length {
        /// The call.
        op: String,
        /// Bytes.
        len: usize,
    },
}

impl Record {
    /// Reads a line.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn parse(line: &str) -> Result<Self, RecordError> {
        if line.len() > MAX_LINE {
            return Err(RecordError::TooLong(line.len()));
        }
        let record: Self = serde_json::from_str(line)?;
        match record.len {
            // A mapping is judged, not read, so its length has no bound.
            Some(len) if len > MAX_LEN && record.op != "mmap" => {
                Err(RecordError::Length { op: record.op, len })
            }
            _ => Ok(record),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_is_read() {
        let line = r#"{"device":"mdpy-vga","seq":3,"op":"pread","offset":0,"len":4,"ret":4,"errno":"0","data":"361b0f00"}"#;
        let record = Record::parse(line).unwrap();
        assert_eq!((record.seq, record.data), (3, Some(Hex(vec![0x36, 0x1b, 0x0f, 0x00]))));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for line in [
            "",
            "{}",
            r#"{"device":"x","seq":1,"op":"pread","data":"0"}"#,
            r#"{"device":"x","seq":1,"op":"pread","data":"zz"}"#,
            r#"{"device":"x","seq":1,"op":"pread","surprise":1}"#,
            r#"{"device":"x","seq":1,"op":"pread","len":4294967296}"#,
        ] {
            assert!(Record::parse(line).is_err(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn hex_survives_a_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }
    }
}
