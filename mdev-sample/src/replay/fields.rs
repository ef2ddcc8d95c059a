//! What a call returned, field by field.

use super::record::{Record, encode};

/// Named results of a call, in the order they are told.
pub(super) type Fields = Vec<(&'static str, String)>;

/// How a call ended: what it returned, or the name of its error.
pub(super) fn outcome(result: Result<i64, &str>) -> Fields {
    let (ret, errno) = match result {
        Ok(ret) => (ret, "0"),
        Err(errno) => (-1, errno),
    };
    vec![("ret", ret.to_string()), ("errno", errno.to_owned())]
}

/// A field's value; empty where there is no such field.
pub(super) fn value<'a>(fields: &'a Fields, name: &str) -> &'a str {
    fields.iter().find(|(field, _)| *field == name).map_or("", |(_, value)| value)
}

/// The number whose little-endian bytes these digits are.
pub(super) fn number(hex: &str) -> u64 {
    let digits: Option<Vec<u64>> = hex.chars().map(|digit| digit.to_digit(16).map(u64::from)).collect();
    let (pairs, _) = digits.as_deref().unwrap_or(&[]).as_chunks::<2>();
    pairs.iter().rev().take(8).fold(0, |value, [high, low]| value << 8 | high << 4 | low)
}

/// Name and length of each part of an ioctl's memory. What lies behind the last is `guard`: memory that the call must not
/// touch.
fn layout(op: &str) -> &'static [(&'static str, usize)] {
    match op {
        "query_gfx_plane" => &[
            ("argsz", 4),
            ("flags", 4),
            ("drm_plane_type", 4),
            ("drm_format", 4),
            ("drm_format_mod", 8),
            ("width", 4),
            ("height", 4),
            ("stride", 4),
            ("size", 4),
            ("x_pos", 4),
            ("y_pos", 4),
            ("x_hot", 4),
            ("y_hot", 4),
            ("handle", 4),
            ("reserved", 4),
        ],
        "get_info" => {
            &[("argsz", 4), ("flags", 4), ("num_regions", 4), ("num_irqs", 4), ("cap_offset", 4), ("pad", 4)]
        }
        "get_region_info" => &[
            ("argsz", 4),
            ("flags", 4),
            ("index", 4),
            ("cap_offset", 4),
            ("size", 8),
            ("offset", 8),
            ("caps", 16),
        ],
        "get_irq_info" | "get_irq_info_before_get_info" => {
            &[("argsz", 4), ("flags", 4), ("index", 4), ("count", 4)]
        }
        _ => &[],
    }
}

/// Splits an ioctl's memory into its fields.
pub(super) fn split(op: &str, bytes: &[u8]) -> Fields {
    split_digits(op, &encode(bytes))
}

/// The same from its digits, two for each byte.
pub(super) fn split_digits(op: &str, digits: &str) -> Fields {
    let mut rest = digits;
    let mut fields = Fields::new();
    for (name, len) in layout(op) {
        let (field, behind) = rest.split_at_checked(2 * len).unwrap_or((rest, ""));
        if !field.is_empty() {
            fields.push((name, field.to_owned()));
        }
        rest = behind;
    }
    if !rest.is_empty() {
        fields.push(("guard", rest.to_owned()));
    }
    fields
}

impl Record {
    /// What the kernel returned.
    pub(super) fn kernel_fields(&self) -> Fields {
        let mut fields = Fields::new();
        if let Some(ret) = self.ret {
            fields.push(("ret", ret.to_string()));
        }
        let texts = [
            ("errno", &self.errno),
            ("mmap_shared", &self.mmap_shared),
            ("mmap_private", &self.mmap_private),
        ];
        for (name, text) in texts {
            fields.extend(text.as_ref().map(|text| (name, text.clone())));
        }
        fields.extend(self.size.map(|size| ("size", size.to_string())));
        let data = if self.op == "pread" { &self.data } else { &None };
        let bytes = [
            ("data", data),
            ("first16", &self.first16),
            ("at_0x3000", &self.at_0x3000),
            ("at_0", &self.at_0),
            ("at_0x5000", &self.at_0x5000),
        ];
        for (name, bytes) in bytes {
            fields.extend(bytes.as_ref().map(|bytes| (name, encode(&bytes.0))));
        }
        if let Some(out) = &self.out {
            fields.extend(split(&self.op, &out.0));
        }
        fields
    }
}
