//! What a Bochs display shows, and the numbers of the buffers it is in.

/// How many DISPI registers there are (`VBE_DISPI_INDEX_COUNT`).
pub(in super::super) const REGISTERS: usize = 11;

const XRES: usize = 1;
const YRES: usize = 2;
const BPP: usize = 3;
const ENABLE: usize = 4;
const VIRT_WIDTH: usize = 6;
const X_OFFSET: usize = 8;
const Y_OFFSET: usize = 9;
const ENABLED: u16 = 1;
/// Smallest side of a mode in pixels.
const MIN_SIDE: u64 = 64;

/// One scanout. Pixels have 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Mode {
    pub(in super::super) width: u64,
    pub(in super::super) height: u64,
    /// Bytes.
    pub(in super::super) stride: u64,
    /// Bytes from the start of the video memory.
    pub(in super::super) offset: u64,
}

impl Mode {
    /// What the registers say, if it is a mode that fits the video memory (`mbochs_check_framebuffer`).
    pub(in super::super) fn of(registers: &[u16; REGISTERS], vram_size: u64) -> Option<Self> {
        let get = |register: usize| u64::from(registers[register]);
        let (width, height) = (get(XRES), get(YRES));
        let stride = get(VIRT_WIDTH).max(width) * 4;
        let offset = get(X_OFFSET) * 4 + get(Y_OFFSET) * stride;
        let is_on = registers[ENABLE] & ENABLED != 0 && registers[BPP] == 32;
        let is_mode = width >= MIN_SIDE && height >= MIN_SIDE;
        let mode = Self { width, height, stride, offset };
        (is_on && is_mode && offset + mode.size() <= vram_size).then_some(mode)
    }

    /// Bytes.
    pub(in super::super) fn size(&self) -> u64 {
        self.stride * self.height
    }
}

/// Buffers by number: 1, 2, 3 in the order in which their modes were first asked for.
#[derive(Debug)]
pub(in super::super) struct Buffers {
    /// Most recently asked for last.
    known: Vec<(u32, Mode)>,
    issued: u32,
    /// How many are remembered.
    capacity: usize,
}

impl Buffers {
    pub(in super::super) fn new(capacity: usize) -> Self {
        Self { known: Vec::new(), issued: 0, capacity }
    }

    /// The number of a mode that has one.
    pub(in super::super) fn id(&self, mode: &Mode) -> Option<u32> {
        self.known.iter().find(|(_, known)| known == mode).map(|(id, _)| *id)
    }

    /// The number that the mode has or gets next.
    pub(in super::super) fn next_id(&self, mode: &Mode) -> u32 {
        self.id(mode).unwrap_or(self.issued + 1)
    }

    pub(in super::super) fn mode(&self, id: u32) -> Option<&Mode> {
        self.known.iter().find(|(known, _)| *known == id).map(|(_, mode)| mode)
    }

    /// The mode was asked for.
    pub(in super::super) fn ask(&mut self, mode: Mode) {
        let id = self.next_id(&mode);
        self.issued = self.issued.max(id);
        self.known.retain(|(known, _)| *known != id);
        if self.known.len() == self.capacity {
            self.known.remove(0);
        }
        self.known.push((id, mode));
    }
}
