//! A field that differs, and what a rule may ask about it.

use std::collections::BTreeMap;

use vfio_gfx::memory::{BufferKind, PAGE_SIZE};

use super::fields::{Fields, split};
use super::originals::Original;
use super::record::Record;

/// The flags of a query through the dma-buf interface, as they stand in memory.
const DMABUF_QUERY: &str = "02000000";

/// What happened in a recording so far.
#[derive(Debug)]
pub(super) struct History {
    pub(super) original: Original,
    got_info: bool,
    /// The highest buffer id that we have named.
    newest_buffer: u64,
    /// The size that the kernel gave for each buffer id.
    kernel_sizes: BTreeMap<u32, u64>,
}

impl History {
    /// `config` is our configuration space at power-on, which is the original's but for the revision.
    pub(super) fn new(device: &str, config: &[u8]) -> Self {
        Self {
            original: Original::new(device, config),
            got_info: false,
            newest_buffer: 0,
            kernel_sizes: BTreeMap::new(),
        }
    }

    /// Takes note of a call after it has been judged.
    pub(super) fn observe(&mut self, record: &Record, kernel: &Fields, ours: &Fields) {
        self.original.observe(record);
        match record.op.as_str() {
            "get_info" => self.got_info |= value(kernel, "ret") == "0",
            "query_gfx_plane" if value(ours, "flags") == DMABUF_QUERY => {
                if value(ours, "ret") == "0" {
                    self.newest_buffer = self.newest_buffer.max(number(value(ours, "handle")));
                }
                let id = u32::try_from(number(value(kernel, "handle")));
                if let (Ok(id), "0") = (id, value(kernel, "ret")) {
                    self.kernel_sizes.insert(id, number(value(kernel, "size")));
                }
            }
            _ => {}
        }
    }
}

pub(super) fn value<'a>(fields: &'a Fields, name: &str) -> &'a str {
    fields.iter().find(|(field, _)| *field == name).map_or("", |(_, value)| value)
}

/// The number whose little-endian bytes these digits are.
fn number(hex: &str) -> u64 {
    let digits: Option<Vec<u64>> = hex.chars().map(|digit| digit.to_digit(16).map(u64::from)).collect();
    let (pairs, _) = digits.as_deref().unwrap_or(&[]).as_chunks::<2>();
    pairs.iter().rev().take(8).fold(0, |value, [high, low]| value << 8 | high << 4 | low)
}

/// One field of one record that differs.
pub(super) struct Context<'a> {
    pub(super) record: &'a Record,
    pub(super) field: &'static str,
    /// What the kernel said; empty where it said nothing.
    pub(super) kernel: &'a str,
    /// What we say.
    pub(super) ours: &'a str,
    pub(super) kernel_fields: &'a Fields,
    pub(super) our_fields: &'a Fields,
    /// What our device says of its primary plane through the region interface, as fields; empty where it has none.
    pub(super) primary: &'a Fields,
    /// Kind and offset of the buffer that was asked for, and the size of our video memory.
    pub(super) buffer: Option<(BufferKind, u64)>,
    pub(super) vram_size: u64,
    pub(super) got_info: bool,
    history: &'a History,
    input: Fields,
}

impl<'a> Context<'a> {
    #[expect(clippy::too_many_arguments, reason = "one caller, which has all of these at hand")]
    pub(super) fn new(
        record: &'a Record,
        field: &'static str,
        kernel_fields: &'a Fields,
        our_fields: &'a Fields,
        primary: &'a Fields,
        buffer: Option<(BufferKind, u64)>,
        vram_size: u64,
        history: &'a History,
    ) -> Self {
        Self {
            record,
            field,
            kernel: value(kernel_fields, field),
            ours: value(our_fields, field),
            kernel_fields,
            our_fields,
            primary,
            buffer,
            vram_size,
            got_info: history.got_info,
            history,
            input: record.arg.as_ref().map(|arg| split(&record.op, &arg.0)).unwrap_or_default(),
        }
    }

    pub(super) fn op(&self) -> &str {
        &self.record.op
    }

    pub(super) fn op_starts(&self, with: &str) -> bool {
        self.record.op.starts_with(with)
    }

    pub(super) fn is(&self, op: &str, field: &str) -> bool {
        self.record.op == op && self.field == field
    }

    pub(super) fn is_mbochs(&self) -> bool {
        self.history.original.is_mbochs()
    }

    pub(super) fn is_mdpy(&self) -> bool {
        !self.is_mbochs()
    }

    pub(super) fn values(&self, kernel: &str, ours: &str) -> bool {
        self.kernel == kernel && self.ours == ours
    }

    pub(super) fn argsz(&self) -> u64 {
        number(value(&self.input, "argsz"))
    }

    pub(super) fn index(&self) -> u64 {
        number(value(&self.input, "index"))
    }

    pub(super) fn plane_type(&self) -> u64 {
        number(value(&self.input, "drm_plane_type"))
    }

    pub(super) fn offset(&self) -> u64 {
        self.record.offset.unwrap_or(0)
    }

    /// Bytes read or written.
    pub(super) fn len(&self) -> u64 {
        let written = self.record.data.as_ref().map_or(0, |data| data.0.len());
        self.record.len.unwrap_or(written) as u64
    }

    pub(super) fn access_ends(&self, end: u64) -> bool {
        self.offset().saturating_add(self.len()) == end
    }

    fn input(&self) -> &str {
        value(&self.input, self.field)
    }

    pub(super) fn kernel_left_input(&self) -> bool {
        self.kernel == self.input()
    }

    pub(super) fn we_left_input(&self) -> bool {
        self.ours == self.input()
    }

    /// Whether the kernel left the field's bytes from `start` on as they were.
    pub(super) fn kernel_left_input_behind(&self, start: u64) -> bool {
        let start = usize::try_from(start).unwrap_or(usize::MAX).saturating_mul(2);
        match (self.kernel.get(start..), self.input().get(start..)) {
            (Some(kernel), Some(input)) => kernel == input && self.kernel.len() == self.input().len(),
            _ => false,
        }
    }

    /// Whether the kernel wrote as much of `with` over the field as the argsz covers, and left the rest.
    pub(super) fn kernel_overwrote(&self, with: &str) -> bool {
        let covered = usize::try_from(self.argsz().saturating_sub(32)).unwrap_or(0).saturating_mul(2);
        self.kernel.get(..covered) == with.get(..covered) && self.kernel_left_input_behind(self.argsz() - 32)
    }

    /// Whether the kernel refused the call with this error and touched nothing. True for each field of the record.
    pub(super) fn kernel_refused(&self, errno: &str) -> bool {
        let untouched = self.kernel_left_input();
        value(self.kernel_fields, "errno") == errno
            && match self.field {
                "ret" => self.kernel == "-1",
                "errno" => self.kernel == errno,
                "data" => self.kernel.is_empty(),
                _ => untouched,
            }
    }

    pub(super) fn we_accepted(&self) -> bool {
        value(self.our_fields, "errno") == "0"
    }

    /// Whether the query's answer names a buffer that we had not named before.
    pub(super) fn is_new_buffer(&self) -> bool {
        number(value(self.our_fields, "handle")) > self.history.newest_buffer
    }

    pub(super) fn kernel_size_is_exact(&self) -> bool {
        let kernel = |name| number(value(self.kernel_fields, name));
        kernel("size") == kernel("stride") * kernel("height")
    }

    /// Whether our size is the kernel's in whole pages, from the page that the plane starts in.
    pub(super) fn our_size_is_pages(&self) -> bool {
        let (kernel, ours) = (number(self.kernel), number(self.ours));
        ours.is_multiple_of(PAGE_SIZE) && (kernel..kernel + 2 * PAGE_SIZE).contains(&ours)
    }

    /// Whether the kernel answered as to a query for the primary plane (which we answer in the same way, but for the
    /// hotspot).
    pub(super) fn kernel_showed_primary(&self) -> bool {
        match self.field {
            "x_hot" | "y_hot" => self.kernel == "00000000",
            field => !self.primary.is_empty() && self.kernel == value(self.primary, field),
        }
    }

    pub(super) fn we_said_off(&self) -> bool {
        self.we_accepted() && self.ours.bytes().all(|digit| digit == b'0')
    }

    pub(super) fn buffer_is_memfd(&self) -> bool {
        matches!(self.buffer, Some((BufferKind::Memfd, _)))
    }

    pub(super) fn buffer_is_memfd_at_an_offset(&self) -> bool {
        matches!(self.buffer, Some((BufferKind::Memfd, 1..)))
    }

    /// Whether the kernel's buffer has the size that its query gave.
    pub(super) fn kernel_buffer_size_is_exact(&self) -> bool {
        let queried = self.record.id.and_then(|id| self.history.kernel_sizes.get(&id));
        queried.is_some_and(|size| size.to_string() == self.kernel)
    }

    pub(super) fn our_buffer_size_is_right(&self) -> bool {
        let pages = self.kernel.parse().ok().and_then(vfio_gfx::memory::page_align);
        match self.buffer {
            Some((BufferKind::Memfd, _)) => self.ours == self.vram_size.to_string(),
            Some((BufferKind::Dmabuf, _)) => pages.is_some_and(|size| self.ours == size.to_string()),
            None => false,
        }
    }

    /// Whether the kernel read what its source says it would, in every byte where we read something else.
    pub(super) fn kernel_read_as_predicted(&self) -> bool {
        let Ok(len) = usize::try_from(self.len()) else {
            return false;
        };
        self.predicted(&self.history.original.read(self.offset(), len))
    }

    pub(super) fn kernel_mapped_as_predicted(&self) -> bool {
        let at = match self.field {
            "at_0x3000" => 0x3000,
            "at_0x5000" => 0x5000,
            _ => 0,
        };
        // What mdpy's gradient shows is not the model's to know; there only what was written is judged.
        let gradient = self.is_mdpy() && self.field == "at_0x3000" && self.ours == "ccbbaa99";
        gradient || self.predicted(&self.history.original.mapped(at))
    }

    fn predicted(&self, prediction: &[Option<u8>]) -> bool {
        let digits = |text: &str| -> Vec<String> {
            text.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).into_owned()).collect()
        };
        let (kernel, ours) = (digits(self.kernel), digits(self.ours));
        kernel.len() == prediction.len()
            && kernel.len() == ours.len()
            && kernel.iter().zip(&ours).zip(prediction).all(|((kernel, ours), predicted)| {
                kernel == ours || predicted.is_none_or(|byte| *kernel == format!("{byte:02x}"))
            })
    }
}
