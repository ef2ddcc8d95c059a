//! PCI configuration space: 256 bytes, and which of their bits a guest may change.
//!
//! Core tier. Every register has a write mask, so an access of any width at any offset does what it does on
//! hardware: writable bits change, the rest stay. BAR sizing needs no special case: the address bits below a BAR's size
//! are simply not writable, and writing all ones reads back as the size mask.

use thiserror::Error;

use super::rom::Rom;

/// Bytes of a conventional PCI function's configuration space.
pub const CONFIG_SIZE: u64 = 256;

// Register offsets and bits: PCI Local Bus Specification 3.0, chapter 6; names as in `linux/pci_regs.h`.
const COMMAND: usize = 0x04;
const COMMAND_MEMORY: u8 = 0x02;
/// IO, MEMORY, MASTER in the low byte.
const COMMAND_WRITABLE_LOW: u8 = 0x07;
/// SERR and INTX_DISABLE in the high byte.
const COMMAND_WRITABLE_HIGH: u8 = 0x05;
const STATUS: usize = 0x06;
const STATUS_CAP_LIST: u8 = 0x10;
const CACHE_LINE_SIZE: usize = 0x0c;
const BAR0: usize = 0x10;
const ROM: usize = 0x30;
const ROM_ENABLE: u32 = 0x01;
const CAPABILITY_LIST: usize = 0x34;
const FIRST_CAPABILITY: usize = 0x40;
const INTERRUPT_LINE: usize = 0x3c;
const BAR_PREFETCHABLE: u32 = 0x08;
/// `PCI_CAP_ID_MSI`
const MSI: u8 = 0x05;
/// Message control, `PCI_MSI_FLAGS_64BIT`; as many vectors as the field of 0 says: one.
const MSI_64_BIT: u8 = 0x80;
/// Message control (its enable bit), address (a multiple of 4) and data.
const MSI_WRITABLE: [u8; 12] = [1, 0, 0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

/// Who a device says it is.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Vendor and device id.
    pub id: (u16, u16),
    /// Subsystem vendor and subsystem id.
    pub subsystem: (u16, u16),
    /// Base class, subclass, programming interface.
    pub class: (u8, u8, u8),
    /// Revision.
    pub revision: u8,
    /// COMMAND after power-on.
    pub command: u16,
}

/// Why a configuration space cannot be laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// BARs are numbered 0 to 5.
    #[error("there is no BAR {0}: a PCI function has BARs 0 to 5")]
    Bar(u32),
    /// A memory BAR is a power of two of at least 16 bytes, and below 4 GiB in 32 bits.
    #[error("a 32-bit memory BAR of {0:#x} bytes: must be a power of two from 16 to 2 GiB")]
    BarSize(u64),
    /// The capabilities leave the 256 bytes.
    #[error("a capability of {0} bytes does not fit the configuration space")]
    Capability(usize),
}

/// The configuration space of one function.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    data: [u8; 256],
    writable: [u8; 256],
    /// Where the next capability goes, and which byte will point at it.
    next_capability: (usize, usize),
}

impl ConfigSpace {
    /// A type 0 header with nothing in it but the identity.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        let mut config =
            Self { data: [0; 256], writable: [0; 256], next_capability: (FIRST_CAPABILITY, CAPABILITY_LIST) };
        config.put(0x00, &identity.id.0.to_le_bytes());
        config.put(0x02, &identity.id.1.to_le_bytes());
        config.put(COMMAND, &identity.command.to_le_bytes());
        config.put(0x08, &[identity.revision, identity.class.2, identity.class.1, identity.class.0]);
        config.put(0x2c, &identity.subsystem.0.to_le_bytes());
        config.put(0x2e, &identity.subsystem.1.to_le_bytes());
        config.allow(COMMAND, &[COMMAND_WRITABLE_LOW, COMMAND_WRITABLE_HIGH]);
        config.allow(CACHE_LINE_SIZE, &[0xff]);
        config.allow(INTERRUPT_LINE, &[0xff]);
        config
    }

    /// Adds a 32-bit memory BAR.
    ///
    /// # Errors
    /// [`ConfigError`] when there is no such BAR or its size is none.
    pub fn with_memory_bar(mut self, bar: u32, size: u64, prefetchable: bool) -> Result<Self, ConfigError> {
        let register = match bar {
            0..=5 => usize::try_from(bar).ok().and_then(|n| n.checked_mul(4)?.checked_add(BAR0)),
            _ => None,
        }
        .ok_or(ConfigError::Bar(bar))?;
        let size32 = u32::try_from(size).map_err(|_| ConfigError::BarSize(size))?;
        if !size32.is_power_of_two() || size32 < 16 {
            return Err(ConfigError::BarSize(size));
        }
        // A power of two's negation is the mask of the address bits at and above it.
        let mask = size32.wrapping_neg();
        self.put(register, &(if prefetchable { BAR_PREFETCHABLE } else { 0 }).to_le_bytes());
        self.allow(register, &mask.to_le_bytes());
        Ok(self)
    }

    /// Adds the base address register of an expansion ROM.
    #[must_use]
    pub fn with_rom(mut self, rom: &Rom) -> Self {
        self.allow(ROM, &(rom.size().wrapping_neg() | ROM_ENABLE).to_le_bytes());
        self
    }

    /// Vendor and device id.
    #[must_use]
    pub fn id(&self) -> (u16, u16) {
        let [a, b, c, d, ..] = self.data;
        (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))
    }

    /// Appends a read-only capability: id, then (after the pointer, which is filled in here) its body.
    ///
    /// # Errors
    /// [`ConfigError::Capability`] when it does not fit.
    pub fn with_capability(mut self, id: u8, body: &[u8]) -> Result<Self, ConfigError> {
        let too_large = ConfigError::Capability(body.len());
        let (at, pointer) = self.next_capability;
        let body_at = at.checked_add(2).ok_or(too_large)?;
        let end = body_at.checked_add(body.len()).ok_or(too_large)?;
        let next = end.checked_next_multiple_of(4).ok_or(too_large)?;
        if end > self.data.len() {
            return Err(too_large);
        }
        self.put(pointer, &[u8::try_from(at).map_err(|_| too_large)?]);
        self.put(at, &[id, 0]);
        self.put(body_at, body);
        self.put(STATUS, &[STATUS_CAP_LIST]);
        self.next_capability = (next, at.saturating_add(1));
        Ok(self)
    }

    /// Appends the capability of one message-signalled interrupt with a 64-bit address (PCI 3.0, 6.8.1). A guest's kernel
    /// writes address and data; VFIO delivers through an eventfd all the same.
    ///
    /// # Errors
    /// As [`ConfigSpace::with_capability`].
    pub fn with_msi(self) -> Result<Self, ConfigError> {
        let (at, _) = self.next_capability;
        let mut body = [0; 12];
        if let Some(control) = body.first_mut() {
            *control = MSI_64_BIT;
        }
        let mut config = self.with_capability(MSI, &body)?;
        config.allow(at.saturating_add(2), &MSI_WRITABLE);
        Ok(config)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (slot, byte) in self.data.iter_mut().skip(at).zip(bytes) {
            *slot = *byte;
        }
    }

    fn allow(&mut self, at: usize, mask: &[u8]) {
        for (slot, byte) in self.writable.iter_mut().skip(at).zip(mask) {
            *slot |= byte;
        }
    }

    /// Reads any bytes. What lies beyond the 256 reads as all ones, as an absent register does.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut source = self.data.iter().skip(start);
        for byte in data {
            *byte = source.next().copied().unwrap_or(0xff);
        }
    }

    /// Writes any bytes; only writable bits change, and nothing beyond the 256.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let registers = self.data.iter_mut().zip(&self.writable).skip(start);
        for ((slot, mask), byte) in registers.zip(data) {
            *slot = (*slot & !mask) | (byte & mask);
        }
    }

    /// Whether the function decodes memory accesses (COMMAND bit 1). While it does not, its BARs are inert.
    #[must_use]
    pub fn memory_enabled(&self) -> bool {
        self.data.get(COMMAND).is_some_and(|command| command & COMMAND_MEMORY != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::rom::tests::image;
    use super::*;
    use proptest::prelude::*;

    fn config() -> ConfigSpace {
        ConfigSpace::new(Identity {
            id: (0x1234, 0x1111),
            subsystem: (0x1af4, 0x1100),
            class: (3, 0x80, 0),
            revision: 2,
            command: 3,
        })
        .with_memory_bar(0, 16 << 20, true)
        .unwrap()
        .with_memory_bar(2, 4096, false)
        .unwrap()
        .with_capability(9, &[0x10, 0, b'X', b'R'])
        .unwrap()
    }

    fn read32(config: &ConfigSpace, offset: u64) -> u32 {
        let mut data = [0; 4];
        config.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    #[test]
    fn identity_is_where_pci_has_it() {
        let config = config();
        assert_eq!(read32(&config, 0), 0x1111_1234);
        assert_eq!(read32(&config, 8), 0x0380_0002);
        assert_eq!(read32(&config, 0x2c), 0x1100_1af4);
        assert_eq!(read32(&config, 4), 0x0010_0003);
        assert_eq!(read32(&config, 0x34), 0x40);
        assert_eq!(read32(&config, 0x40), 0x0010_0009);
    }

    #[test]
    fn bars_can_be_sized_by_dword_word_and_byte() {
        let mut by_dword = config();
        by_dword.write(0x10, &[0xff; 4]);
        by_dword.write(0x18, &[0xff; 4]);
        by_dword.write(0x14, &[0xff; 4]);
        assert_eq!(read32(&by_dword, 0x10), 0xff00_0008);
        assert_eq!(read32(&by_dword, 0x18), 0xffff_f000);
        assert_eq!(read32(&by_dword, 0x14), 0, "no BAR, no bits");
        let mut by_byte = config();
        for offset in 0x10..0x14 {
            by_byte.write(offset, &[0xff]);
        }
        assert_eq!(read32(&by_byte, 0x10), 0xff00_0008);
        by_byte.write(0x12, &[0x00, 0xe0]);
        assert_eq!(read32(&by_byte, 0x10), 0xe000_0008);
    }

    #[test]
    fn a_message_signalled_interrupt_is_where_a_kernel_looks_for_it() {
        let mut config = config().with_msi().unwrap();
        assert_eq!((read32(&config, 0x34), read32(&config, 0x40)), (0x40, 0x0010_4809));
        assert_eq!(read32(&config, 0x48), 0x0080_0005);
        config.write(0x48, &[0xff; 16]);
        assert_eq!(read32(&config, 0x48), 0x0081_0005, "one vector, which can be enabled");
        assert_eq!((read32(&config, 0x4c), read32(&config, 0x50)), (0xffff_fffc, u32::MAX));
        assert_eq!(read32(&config, 0x54), 0x0000_ffff);
    }

    #[test]
    fn a_rom_is_sized_like_a_bar_and_is_absent_otherwise() {
        let mut none = config();
        none.write(0x30, &[0xff; 4]);
        assert_eq!(read32(&none, 0x30), 0);
        let rom = Rom::new(image(40, (0x1234, 0x1111), true), (0x1234, 0x1111)).unwrap();
        let mut config = config().with_rom(&rom);
        assert_eq!(read32(&config, 0x30), 0, "disabled at power-on");
        config.write(0x30, &0xffff_f800u32.to_le_bytes());
        assert_eq!(read32(&config, 0x30), 0xffff_8000);
        config.write(0x30, &0xfeb0_0001u32.to_le_bytes());
        assert_eq!(read32(&config, 0x30), 0xfeb0_0001);
        assert_eq!(config.id(), (0x1234, 0x1111));
    }

    #[test]
    fn command_decides_whether_memory_is_decoded() {
        let mut config = config();
        assert!(config.memory_enabled());
        config.write(4, &[0, 0]);
        assert!(!config.memory_enabled());
        config.write(4, &[0xff, 0xff]);
        assert_eq!(read32(&config, 4), 0x0010_0507);
    }

    #[test]
    fn what_does_not_exist_reads_as_ones() {
        let mut data = [0; 4];
        config().read(254, &mut data);
        assert_eq!(data, [0, 0, 0xff, 0xff]);
        config().read(u64::MAX, &mut data);
        assert_eq!(data, [0xff; 4]);
    }

    #[test]
    fn impossible_bars_and_capabilities_are_refused() {
        assert_eq!(config().with_memory_bar(6, 4096, false).err(), Some(ConfigError::Bar(6)));
        for size in [0, 8, 4095, 1 << 32] {
            assert_eq!(config().with_memory_bar(1, size, false).err(), Some(ConfigError::BarSize(size)));
        }
        assert!(config().with_capability(9, &[0; 200]).is_err());
    }

    #[test]
    fn the_smallest_bar_and_the_longest_capability_are_possible() {
        let mut bar = config().with_memory_bar(1, 16, false).unwrap();
        bar.write(0x14, &[0xff; 4]);
        assert_eq!(read32(&bar, 0x14), 0xffff_fff0);
        // Behind the header and the eight bytes of the first one; two bytes are its own.
        let longest = config().with_capability(9, &[7; 256 - 0x48 - 2]).unwrap();
        assert_eq!(read32(&longest, 252), 0x0707_0707);
        assert!(config().with_capability(9, &[7; 256 - 0x48 - 1]).is_err());
    }

    proptest! {
        #[test]
        fn read_only_bits_never_change(writes in proptest::collection::vec((any::<u64>(), proptest::collection::vec(any::<u8>(), 0..300)), 0..20)) {
            let fresh = config();
            let mut written = fresh.clone();
            for (offset, data) in writes {
                written.write(offset % 300, &data);
                written.write(offset, &data);
            }
            for i in 0..256 {
                prop_assert_eq!(written.data[i] & !fresh.writable[i], fresh.data[i] & !fresh.writable[i]);
            }
        }
    }
}
