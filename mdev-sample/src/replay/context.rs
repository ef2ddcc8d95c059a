//! A field that differs, and what a rule may ask about it.

use vfio_gfx::memory::{BufferKind, PAGE_SIZE};

use super::fields::{Fields, number, split, value};
use super::history::History;
use super::originals::{Original, is_as_predicted, register};
use super::record::Record;

/// One call, with both answers and what explains them.
pub(super) struct Call<'a> {
    pub(super) record: &'a Record,
    pub(super) kernel: &'a Fields,
    pub(super) ours: &'a Fields,
    /// What our device says of its primary plane through the region interface, as fields; empty where it has none.
    pub(super) primary: &'a Fields,
    /// Kind and offset of the buffer that was asked for, and the size of our video memory.
    pub(super) buffer: Option<(BufferKind, u64)>,
    pub(super) vram_size: u64,
    /// Before the call.
    pub(super) history: &'a History,
    /// What the original answers, as its source says.
    pub(super) predicted: Option<Fields>,
    /// What we answer to a query, as our rules say.
    pub(super) expected: Fields,
    input: Fields,
}

impl<'a> Call<'a> {
    pub(super) fn new(
        record: &'a Record,
        (kernel, ours): (&'a Fields, &'a Fields),
        primary: &'a Fields,
        buffer: Option<(BufferKind, u64)>,
        vram_size: u64,
        history: &'a History,
    ) -> Self {
        let predicted = history.original.predict(record);
        let expected = history.ours.plane();
        let input = record.arg.as_ref().map(|arg| split(&record.op, &arg.0)).unwrap_or_default();
        Self { record, kernel, ours, primary, buffer, vram_size, history, predicted, expected, input }
    }
}

/// What an offset in mbochs' descriptor belongs to; mdpy has no more than the first and, for memory, the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Config,
    /// BAR2 of mbochs: the EDID window, the DISPI and qext registers, and what is left.
    Window,
    Dispi,
    Qext,
    Registers,
    Edid,
    Vram,
}

/// One field of one record that differs.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    call: &'a Call<'a>,
    pub(super) field: &'static str,
    /// What the kernel said; empty where it said nothing.
    pub(super) kernel: &'a str,
    /// What we say.
    pub(super) ours: &'a str,
    /// Of what was read, only the bytes in this part are looked at.
    only: Option<Part>,
}

impl<'a> Context<'a> {
    pub(super) fn new(call: &'a Call<'a>, field: &'static str) -> Self {
        Self { call, field, kernel: value(call.kernel, field), ours: value(call.ours, field), only: None }
    }

    /// The same, once for each part of the device that was read and differs: a long read may do so for several reasons.
    pub(super) fn split(self) -> Vec<Self> {
        if !self.is("pread", "data") || self.kernel.len() != self.ours.len() {
            return vec![self];
        }
        let mut parts: Vec<_> = self.differing().map(|(at, _)| self.part(at)).collect();
        parts.dedup();
        parts.into_iter().map(|only| Self { only, ..self }).collect()
    }

    pub(super) fn op(&self) -> &str {
        &self.call.record.op
    }

    pub(super) fn op_starts(&self, with: &str) -> bool {
        self.op().starts_with(with)
    }

    pub(super) fn is(&self, op: &str, field: &str) -> bool {
        self.op() == op && self.field == field
    }

    pub(super) fn is_mbochs(&self) -> bool {
        matches!(self.call.history.original, Original::Mbochs(_))
    }

    pub(super) fn is_mdpy(&self) -> bool {
        matches!(self.call.history.original, Original::Mdpy(_))
    }

    pub(super) fn values(&self, kernel: &str, ours: &str) -> bool {
        self.kernel == kernel && self.ours == ours
    }

    pub(super) fn argsz(&self) -> u64 {
        number(value(&self.call.input, "argsz"))
    }

    pub(super) fn index(&self) -> u64 {
        number(value(&self.call.input, "index"))
    }

    pub(super) fn plane_type(&self) -> u64 {
        number(value(&self.call.input, "drm_plane_type"))
    }

    pub(super) fn got_info(&self) -> bool {
        self.call.history.got_info
    }

    pub(super) fn offset(&self) -> u64 {
        self.call.record.offset.unwrap_or(0)
    }

    /// Bytes read or written.
    pub(super) fn len(&self) -> u64 {
        let written = self.call.record.data.as_ref().map_or(0, |data| data.0.len());
        self.call.record.len.unwrap_or(written) as u64
    }

    pub(super) fn end(&self) -> u64 {
        self.offset().saturating_add(self.len())
    }

    /// What is at a place of the descriptor.
    pub(super) fn part(&self, at: u64) -> Option<Part> {
        let mbochs = self.is_mbochs();
        let vram = if mbochs { 0x3000 } else { 0x1000 };
        match at {
            ..0x100 => Some(Part::Config),
            0x1000..0x1400 if mbochs => Some(Part::Window),
            0x1500..0x1516 if mbochs => Some(Part::Dispi),
            0x1600..0x1608 if mbochs => Some(Part::Qext),
            0x1000..0x2000 if mbochs => Some(Part::Registers),
            0x2000..0x3000 if mbochs => Some(Part::Edid),
            _ => (vram..vram + self.call.vram_size).contains(&at).then_some(Part::Vram),
        }
    }

    /// Whether an access begins in one region and ends in the next.
    pub(super) fn leaves_its_region(&self) -> bool {
        let region = |at| {
            self.part(at).map(|part| match part {
                Part::Window | Part::Dispi | Part::Qext => Part::Registers,
                part => part,
            })
        };
        let (first, last) = (region(self.offset()), region(self.end().saturating_sub(1)));
        self.len() != 0 && first.is_some() && first != last
    }

    fn pair(text: &str, n: usize) -> Option<&str> {
        text.get(2 * n..2 * n + 2)
    }

    /// Places of the bytes that differ in what was read, with ours.
    fn differing(&self) -> impl Iterator<Item = (u64, Option<&str>)> {
        let bytes = (self.offset()..).zip(0..self.ours.len() / 2);
        bytes.filter_map(|(at, n)| {
            let ours = Self::pair(self.ours, n);
            let is_here = self.only.is_none() || self.part(at) == self.only;
            (is_here && ours != Self::pair(self.kernel, n)).then_some((at, ours))
        })
    }

    /// Whether what was read differs only in bytes that belong to one of these parts.
    pub(super) fn differs_only_in(&self, parts: &[Part]) -> bool {
        self.is("pread", "data")
            && self.kernel.len() == self.ours.len()
            && self.differing().all(|(at, _)| self.part(at).is_some_and(|part| parts.contains(&part)))
    }

    /// Whether we read all ones, because the function does not decode memory.
    pub(super) fn we_read_nothing(&self) -> bool {
        !self.call.history.ours.decodes() && self.differing().all(|(_, ours)| ours == Some("ff"))
    }

    /// Whether our DISPI registers read as our rules say, in each byte that differs. `special`: because of the identifier,
    /// the memory's size or limits; else because some write did not reach a register that does not decode.
    pub(super) fn dispi_reads_as_expected(&self, special: bool) -> bool {
        let ours = &self.call.history.ours;
        self.differing().all(|(at, read)| {
            let Some(index) = register(at & !1, 2) else {
                return false;
            };
            let limit = ours.reads_limits() && matches!(index, 1..=3);
            let byte = ours.registers()[index].to_le_bytes()[usize::from(at & 1 == 1)];
            (limit || read == Some(format!("{byte:02x}").as_str()))
                && special == (limit || matches!(index, 0 | 10))
        })
    }

    /// Whether our qext registers read as they should: the size, and the byte order that is little-endian throughout.
    pub(super) fn qext_reads_as_expected(&self) -> bool {
        self.differing().all(|(at, ours)| {
            let expected = match at {
                0x1600 => "08",
                0x1604..0x1608 => "1e",
                _ => "00",
            };
            ours == Some(expected)
        })
    }

    /// Whether the argument's memory ends before its argsz says.
    pub(super) fn memory_is_short(&self) -> bool {
        let memory = self.call.record.arg.as_ref().map_or(0, |arg| arg.0.len() as u64);
        memory < self.argsz()
    }

    fn input(&self) -> &str {
        value(&self.call.input, self.field)
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

    /// How much of the capabilities the argsz covers, in bytes; `None` where it does not even cover the struct.
    pub(super) fn room_for_caps(&self) -> Option<u64> {
        self.argsz().checked_sub(32)
    }

    /// Whether the kernel wrote as much of `with` over the field as the argsz covers, and left the rest.
    pub(super) fn kernel_overwrote(&self, with: &str) -> bool {
        let Some(room) = self.room_for_caps() else {
            return false;
        };
        let covered = usize::try_from(room).unwrap_or(usize::MAX).saturating_mul(2);
        self.kernel.get(..covered) == with.get(..covered) && self.kernel_left_input_behind(room)
    }

    /// Whether the kernel refused the call with this error and touched nothing.
    pub(super) fn kernel_refused(&self, errno: &str) -> bool {
        let Call { record, kernel, .. } = self.call;
        (value(kernel, "ret"), value(kernel, "errno")) == ("-1", errno)
            && record.out.as_ref().is_none_or(|out| Some(out) == record.arg.as_ref())
            && (self.field != "data" || self.kernel.is_empty())
    }

    /// Whether the kernel answered what the original's source says, in this field and in how the call ended.
    pub(super) fn kernel_as_predicted(&self) -> bool {
        self.call.predicted.as_ref().is_some_and(|predicted| {
            let ended = |field| value(self.call.kernel, field) == value(predicted, field);
            let answer = is_as_predicted(self.kernel, value(predicted, self.field));
            ended("ret") && ended("errno") && answer
        })
    }

    /// The error that the original's source says.
    pub(super) fn predicts(&self, errno: &str) -> bool {
        self.call.predicted.as_ref().is_some_and(|predicted| value(predicted, "errno") == errno)
    }

    pub(super) fn we_accepted(&self) -> bool {
        value(self.call.ours, "errno") == "0"
    }

    pub(super) fn we_refused(&self, errno: &str) -> bool {
        value(self.call.ours, "errno") == errno
    }

    /// Whether we answer a query for the primary plane as our rules say.
    pub(super) fn we_show_as_expected(&self) -> bool {
        self.ours == value(&self.call.expected, self.field)
    }

    /// Whether both show the same mode, under whatever id.
    pub(super) fn modes_are_equal(&self) -> bool {
        match &self.call.history.original {
            Original::Mbochs(mbochs) => {
                mbochs.mode().is_some() && mbochs.mode() == self.call.history.ours.mode()
            }
            _ => false,
        }
    }

    /// Whether the registers that decide the mode differ, as writes do not reach ours while memory is not decoded.
    pub(super) fn registers_differ(&self) -> bool {
        match &self.call.history.original {
            Original::Mbochs(mbochs) => {
                mbochs.registers()[1..10] != self.call.history.ours.registers()[1..10]
            }
            _ => false,
        }
    }

    pub(super) fn we_are_blank(&self) -> bool {
        self.call.history.ours.is_blank()
    }

    /// Whether the original knows the buffer that is asked for, and ours never showed it.
    pub(super) fn is_never_shown(&self) -> bool {
        self.call.record.id.is_some_and(|id| self.call.history.is_never_shown(id))
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
            field => !self.call.primary.is_empty() && self.kernel == value(self.call.primary, field),
        }
    }

    pub(super) fn we_said_off(&self) -> bool {
        self.we_accepted() && self.ours.bytes().all(|digit| digit == b'0')
    }

    pub(super) fn buffer_is_memfd(&self) -> bool {
        matches!(self.call.buffer, Some((BufferKind::Memfd, _)))
    }

    pub(super) fn buffer_is_memfd_at_an_offset(&self) -> bool {
        matches!(self.call.buffer, Some((BufferKind::Memfd, 1..)))
    }

    pub(super) fn our_buffer_size_is_right(&self) -> bool {
        let pages = self.kernel.parse().ok().and_then(vfio_gfx::memory::page_align);
        match self.call.buffer {
            Some((BufferKind::Memfd, _)) => self.ours == self.call.vram_size.to_string(),
            Some((BufferKind::Dmabuf, _)) => pages.is_some_and(|size| self.ours == size.to_string()),
            None => false,
        }
    }
}
