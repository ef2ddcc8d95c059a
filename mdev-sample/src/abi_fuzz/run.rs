//! Makes a walk's calls, and notes each with its answer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

use vfio_gfx::abi::{DeviceIoctl, Errno};

use super::line::{Line, hex, word};
use super::places;
use super::steps::{BufferId, Step, Walk};
use super::target::Target;

/// Flags of a query through the dma-buf interface (`VFIO_GFX_PLANE_TYPE_DMABUF`, linux/vfio.h).
const DMABUF_QUERY: [u8; 4] = 2u32.to_le_bytes();

/// What a walk met.
#[derive(Debug, Default)]
pub struct Tally {
    /// Calls made.
    pub steps: u64,
    /// Calls left out because they are known to crash mbochs.
    pub skipped: u64,
    /// Calls made, by name.
    pub ops: BTreeMap<&'static str, u64>,
    /// Calls refused, by error.
    pub errors: BTreeMap<String, u64>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: &mut dyn Iterator<Item = (&str, u64)>| {
            counts.map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
        };
        write!(f, "{} steps ({})", self.steps, list(&mut self.ops.iter().map(|(op, n)| (*op, *n))))?;
        let refused: u64 = self.errors.values().sum();
        write!(f, "; {refused} refused")?;
        if refused > 0 {
            write!(f, " ({})", list(&mut self.errors.iter().map(|(name, n)| (name.as_str(), *n))))?;
        }
        if self.skipped > 0 {
            write!(f, "; {} left out as known crashes", self.skipped)?;
        }
        Ok(())
    }
}

/// What the calls so far leave behind for later ones.
#[derive(Debug, Default)]
struct Seen {
    /// Distinct buffer ids that the device named, oldest first.
    named: Vec<u32>,
    /// Buffers that it handed out.
    handed_out: BTreeSet<u32>,
    last: u32,
    kept: Option<OwnedFd>,
}

/// Makes the first `steps` calls of the walk with this seed, and hands each to `record`. With `skip_known_crashes` those
/// that crash the kernel's mbochs are left out.
///
/// # Errors
/// What `record` fails with, or when the device is gone.
pub fn walk(
    target: &mut dyn Target,
    seed: u64,
    steps: u64,
    skip_known_crashes: bool,
    mut record: impl FnMut(&Line) -> io::Result<()>,
) -> io::Result<Tally> {
    let mut tally = Tally::default();
    let mut seen = Seen::default();
    let device = target.name().to_owned();
    for (number, step) in (0..steps).zip(Walk::new(seed)) {
        if skip_known_crashes && seen.crashes(&step) {
            tally.skipped += 1;
            continue;
        }
        // Where the device takes its machine down with it, this line is all that is left.
        tracing::debug!(step = number, call = ?step);
        let mut line = seen.make(target, &step);
        target.check()?;
        line.device.clone_from(&device);
        line.seq = tally.steps;
        tally.steps += 1;
        *tally.ops.entry(line.op).or_default() += 1;
        match (line.errno.as_deref(), line.ret) {
            (Some("0"), _) | (None, Some(0..)) => {}
            (errno, _) => *tally.errors.entry(errno.unwrap_or("reset").to_owned()).or_default() += 1,
        }
        record(&line)?;
    }
    target.finish()?;
    Ok(tally)
}

/// Return value and error.
fn ended<T>(line: &mut Line, result: &Result<T, Errno>, value: impl Fn(&T) -> i64) {
    line.ret = Some(result.as_ref().map_or(-1, value));
    line.errno = Some(word(result));
}

fn count(bytes: &usize) -> i64 {
    i64::try_from(*bytes).unwrap_or(i64::MAX)
}

impl Seen {
    /// Whether the step is known to crash mbochs: it reaches for the last two pages of its video memory, or has the driver
    /// hand out a buffer that it handed out before (whose pages it no longer owns, or gives up twice).
    fn crashes(&self, step: &Step) -> bool {
        match step {
            Step::Read { offset, len } => places::is_lost(*offset, *len),
            Step::Write { offset, data } => places::is_lost(*offset, data.len()),
            Step::Dmabuf { id, .. } => self.handed_out.contains(&self.resolve(*id)),
            _ => false,
        }
    }

    fn resolve(&self, id: BufferId) -> u32 {
        match id {
            BufferId::Literal(id) => id,
            BufferId::Again => self.last,
            BufferId::Answered(ago) => {
                let back = usize::try_from(ago).ok().and_then(|ago| ago.checked_rem(self.named.len()));
                back.and_then(|back| self.named.iter().rev().nth(back)).copied().unwrap_or(1)
            }
        }
    }

    /// Makes one call.
    fn make(&mut self, target: &mut dyn Target, step: &Step) -> Line {
        let mut line = Line { op: step.op(), ..Line::default() };
        match step {
            Step::Ioctl { request, arg, .. } => {
                let mut memory = arg.clone();
                ended(&mut line, &target.ioctl(*request, &mut memory), |()| 0);
                line.cmd = (*request != DeviceIoctl::QueryGfxPlane.raw()).then_some(*request);
                line.arg = Some(hex(arg));
                line.out = Some(hex(&memory));
                self.note_query(&line, *request, &memory);
            }
            Step::BadPointer { request, .. } => {
                ended(&mut line, &target.ioctl_bad_pointer(request.raw()), |()| 0);
            }
            Step::Dmabuf { id, keep } => self.dmabuf(&mut line, target, *id, *keep),
            Step::Read { offset, len } => {
                let mut data = vec![0; *len];
                let result = target.pread(*offset, &mut data);
                ended(&mut line, &result, count);
                (line.offset, line.len) = (Some(*offset), Some(*len));
                line.data = result.ok().map(|len| hex(&data[..len.min(data.len())]));
            }
            Step::Write { offset, data } => {
                ended(&mut line, &target.pwrite(*offset, data), count);
                (line.offset, line.data) = (Some(*offset), Some(hex(data)));
            }
            Step::Map(request) => {
                let result = target.mmap(*request);
                line.errno = Some(word(&result));
                line.first16 = result.ok().map(|first| hex(&first));
                (line.offset, line.len) = (Some(request.offset), Some(request.len));
                (line.prot, line.flags) = (Some(request.prot), Some(request.flags));
            }
            Step::Reset => {
                let result = target.ioctl(DeviceIoctl::Reset.raw(), &mut []);
                line.ret = Some(result.map_or(-1, |()| 0));
            }
        }
        line
    }

    /// Learns the id that a query named.
    fn note_query(&mut self, line: &Line, request: u32, memory: &[u8]) {
        let is_query = request == DeviceIoctl::QueryGfxPlane.raw() && memory.get(4..8) == Some(&DMABUF_QUERY);
        let handle = memory.get(56..60).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
        if let (true, Some(0), Some(id)) = (is_query, line.ret, handle)
            && id != 0
        {
            self.named.retain(|known| *known != id);
            self.named.push(id);
        }
    }

    fn dmabuf(&mut self, line: &mut Line, target: &mut dyn Target, id: BufferId, keep: bool) {
        let id = self.resolve(id);
        let result = target.dmabuf(id);
        ended(line, &result, |_| 1);
        line.id = Some(id);
        self.last = id;
        let previous = self.kept.take();
        if let Ok(buffer) = result {
            self.handed_out.insert(id);
            line.size = Some(buffer.size);
            line.mmap_shared = Some(word(&buffer.mmap_shared));
            line.mmap_private = Some(word(&buffer.mmap_private));
            self.kept = keep.then_some(buffer.fd);
        }
        // Only now, when both were open at a time.
        drop(previous);
    }
}
