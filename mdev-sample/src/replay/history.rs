//! What happened in a recording so far.

use std::collections::BTreeMap;

use super::fields::{Fields, number, value};
use super::originals::{Mode, Original, PowerOn};
use super::ours::Ours;
use super::record::Record;

/// The flags of a query through the dma-buf interface, as they stand in memory.
const DMABUF_QUERY: &str = "02000000";
/// The smallest argsz of `GET_INFO`.
const DEVICE_INFO_MIN: u64 = 16;
/// An id that no device issues so early.
const NEVER_ISSUED: u32 = u32::MAX - 1;

#[derive(Debug)]
pub(super) struct History {
    pub(super) original: Original,
    pub(super) ours: Ours,
    /// Whether `GET_INFO` was called, which mdpy needs for others.
    pub(super) got_info: bool,
    /// Our id of each buffer that the recording has an id for.
    ids: BTreeMap<u32, u32>,
}

impl History {
    /// `power_on` is how our device starts, which the original's does too but for what the model knows.
    pub(super) fn new(device: &str, power_on: PowerOn<'_>) -> Self {
        Self {
            original: Original::new(device, power_on),
            ours: Ours::new(power_on.vram_size),
            got_info: false,
            ids: BTreeMap::new(),
        }
    }

    /// The modes of the original and of ours, where both are known to show one.
    fn modes(&self) -> (Option<Mode>, Option<Mode>) {
        let Original::Mbochs(mbochs) = &self.original else {
            return (None, None);
        };
        (mbochs.mode(), self.ours.mode())
    }

    /// Our id for a recorded one. Ids are tokens: each device issues its own, so what the recording names is asked for by
    /// the number that ours has for it. A number without a counterpart must not meet one of ours by chance.
    pub(super) fn our_id(&self, recorded: u32) -> u32 {
        match self.ids.get(&recorded) {
            Some(ours) => *ours,
            None if self.ids.values().any(|ours| *ours == recorded) => NEVER_ISSUED,
            None => recorded,
        }
    }

    /// Whether the recording has named this buffer, and we did not, as the plane was off.
    pub(super) fn is_never_shown(&self, recorded: u32) -> bool {
        let Original::Mbochs(mbochs) = &self.original else {
            return false;
        };
        mbochs.buffers().mode(recorded).is_some() && !self.ids.contains_key(&recorded)
    }

    fn note_id(&mut self, kernel: &Fields, ours: &Fields) {
        if value(ours, "flags") != DMABUF_QUERY || value(ours, "ret") != "0" {
            return;
        }
        let id = |fields: &Fields| u32::try_from(number(value(fields, "handle"))).unwrap_or(0);
        let our_id = id(ours);
        let (theirs, here) = self.modes();
        let recorded = match (&self.original, value(kernel, "errno")) {
            (_, "0") if id(kernel) == our_id => our_id,
            // The id that the query which failed has issued.
            (Original::Mbochs(mbochs), "0" | "ENOMEM") if theirs == here => {
                theirs.map_or(0, |mode| mbochs.buffers().next_id(&mode))
            }
            _ => 0,
        };
        if our_id != 0 && recorded != 0 {
            self.ids.insert(recorded, our_id);
        }
    }

    /// Takes note of a call after it has been judged. `decodes` is what our configuration space says of memory.
    pub(super) fn observe(&mut self, record: &Record, kernel: &Fields, ours: &Fields, decodes: bool) {
        match record.op.as_str() {
            "get_info" => {
                let argsz = record.arg.as_ref().and_then(|arg| arg.0.first_chunk().copied());
                self.got_info |=
                    argsz.is_some_and(|argsz| u64::from(u32::from_le_bytes(argsz)) >= DEVICE_INFO_MIN);
            }
            "query_gfx_plane" => self.note_id(kernel, ours),
            _ => {}
        }
        self.original.observe(record);
        if matches!(value(ours, "errno"), "0" | "") {
            self.ours.observe(record, decodes);
        }
    }
}
