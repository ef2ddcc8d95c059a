//! The demo guest on a vCPU: one CPU, 64 KiB of RAM, the display's two BARs, no firmware and no interrupt controller.
//!
//! The vCPU starts in flat 32-bit protected mode, so the guest needs no boot code. It leaves guest mode for each register
//! access and each finished frame, all handled on the calling thread.

#![expect(
    unsafe_code,
    reason = "giving memory to a KVM guest is unsafe by nature: the kernel keeps the address"
)]

use std::fs::File;
use std::io;

use kvm_bindings::{KVM_API_VERSION, kvm_regs, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, Kvm, VcpuExit, VcpuFd, VmFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use super::guest::{self, FAILURE_PORT, FRAME_PORT, LOAD_ADDRESS};
pub use super::kvm_error::KvmError;
use super::{BAR2_BASE, Bars, DriverError, map_vram};

/// Guest RAM in bytes, from address 0: what the program, its variables and its stack need.
const RAM_SIZE: usize = 64 << 10;

/// Size of BAR2 in bytes.
const BAR2_SIZE: u64 = 0x1000;

/// Three pages Intel CPUs need for themselves, out of the guest's way: below the BIOS, where every VMM puts them.
const TSS_ADDRESS: usize = 0xfffb_d000;

/// Most exits one frame may take. The longest takes 17: the first, with a mode set.
const MAX_EXITS_PER_FRAME: u32 = 1000;

/// Whether [`run`] can work here. Creates a VM and throws it away, which takes about a millisecond.
///
/// # Errors
/// The reason why not.
pub fn available() -> Result<(), KvmError> {
    create_vm().map(drop)
}

/// Runs the guest until [`Bars::frame`] says to stop.
///
/// # Errors
/// See [`KvmError`]. A guest that hangs without accessing the device at all is not noticed here; the caller may have a
/// signal sent to this thread and stop it in [`Bars::interrupted`].
pub fn run(vram: &File, vram_size: u64, bars: &mut dyn Bars) -> Result<(), KvmError> {
    Machine::new(guest::image(), vram, vram_size)?.run(bars)
}

/// A virtual machine ready to run. The order of the fields is that of their end: the VM before its memory.
struct Machine {
    vcpu: VcpuFd,
    _vm: VmFd,
    _ram: GuestMemoryMmap,
    _vram: GuestMemoryMmap,
}

impl Machine {
    fn new(image: &[u8], vram: &File, vram_size: u64) -> Result<Self, KvmError> {
        let ram = load(image)?;
        let vram = map_vram(vram, vram_size)?;
        let vm = create_vm()?;
        vm.set_tss_address(TSS_ADDRESS).map_err(ioctl("KVM_SET_TSS_ADDR"))?;
        for (slot, memory) in (0..).zip([&ram, &vram]) {
            add_memory(&vm, slot, memory)?;
        }
        let vcpu = vm.create_vcpu(0).map_err(ioctl("KVM_CREATE_VCPU"))?;
        enter_protected_mode(&vcpu)?;
        Ok(Self { vcpu, _vm: vm, _ram: ram, _vram: vram })
    }

    fn run(&mut self, bars: &mut dyn Bars) -> Result<(), KvmError> {
        let mut exits = 0;
        while exits < MAX_EXITS_PER_FRAME {
            match self.vcpu.run() {
                Ok(VcpuExit::MmioRead(address, data)) if in_bar2(address, data) => {
                    bars.read(address - BAR2_BASE, data);
                }
                Ok(VcpuExit::MmioWrite(address, data)) if in_bar2(address, data) => {
                    bars.write(address - BAR2_BASE, data);
                }
                Ok(VcpuExit::IoOut(FRAME_PORT, &[a, b, c, d])) => {
                    if !bars.frame(u32::from_le_bytes([a, b, c, d])) {
                        return Ok(());
                    }
                    exits = 0;
                }
                Ok(VcpuExit::IoOut(FAILURE_PORT, &[guest::NO_DISPLAY])) => {
                    return Err(DriverError::NoDisplay.into());
                }
                Ok(VcpuExit::IoOut(FAILURE_PORT, &[guest::TOO_LITTLE_MEMORY])) => {
                    return Err(DriverError::TooLittleMemory.into());
                }
                Ok(VcpuExit::Shutdown) => return Err(KvmError::TripleFault { eip: self.eip() }),
                Ok(exit) => {
                    let exit = format!("{exit:x?}");
                    return Err(KvmError::UnexpectedExit { exit, eip: self.eip() });
                }
                Err(error) => {
                    let error = io::Error::from(error);
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(KvmError::Ioctl { call: "KVM_RUN", source: error });
                    }
                    if !bars.interrupted() {
                        return Err(KvmError::Interrupted { eip: self.eip() });
                    }
                    continue; // a signal says nothing about the guest
                }
            }
            exits += 1;
        }
        Err(KvmError::Stuck { exits, eip: self.eip() })
    }

    /// The instruction pointer, for messages; 0 if even that cannot be had.
    fn eip(&self) -> u64 {
        self.vcpu.get_regs().map_or(0, |regs| regs.rip)
    }
}

fn ioctl(call: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> KvmError {
    move |error| KvmError::Ioctl { call, source: error.into() }
}

fn create_vm() -> Result<VmFd, KvmError> {
    let kvm = Kvm::new().map_err(|error| KvmError::Open(error.into()))?;
    let found = kvm.get_api_version();
    if u32::try_from(found) != Ok(KVM_API_VERSION) {
        return Err(KvmError::Version { found });
    }
    if !kvm.check_extension(Cap::UserMemory) {
        return Err(KvmError::NoUserMemory);
    }
    kvm.create_vm().map_err(ioctl("KVM_CREATE_VM"))
}

/// Guest RAM with the program in it.
fn load(image: &[u8]) -> Result<GuestMemoryMmap, KvmError> {
    let failed = |reason: String| KvmError::Ram { size: RAM_SIZE, reason };
    let ram = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), RAM_SIZE)])
        .map_err(|error| failed(error.to_string()))?;
    ram.write_slice(image, GuestAddress(LOAD_ADDRESS)).map_err(|error| failed(error.to_string()))?;
    Ok(ram)
}

/// Gives the VM the memory, where the memory says it is. It has one region.
fn add_memory(vm: &VmFd, slot: u32, memory: &GuestMemoryMmap) -> Result<(), KvmError> {
    for region in memory.iter() {
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: region.as_ptr() as u64,
        };
        // SAFETY: address and size are those of a live mapping, which outlives the VM (`Machine::new` creates it first,
        // `Machine` drops it last), and which this process touches only through vm-memory, that is by volatile access.
        // The two regions do not overlap: RAM ends at 64 KiB, VRAM starts at 3.5 GiB.
        let added = unsafe { vm.set_user_memory_region(region) };
        added.map_err(ioctl("KVM_SET_USER_MEMORY_REGION"))?;
    }
    Ok(())
}

/// Flat 32-bit protected mode without paging, at the program's first instruction.
fn enter_protected_mode(vcpu: &VcpuFd) -> Result<(), KvmError> {
    let mut sregs = vcpu.get_sregs().map_err(ioctl("KVM_GET_SREGS"))?;
    // Types (Intel SDM vol. 3, table 3-1): 0xb code, readable, accessed; 0x3 data, writable, accessed.
    sregs.cs = flat_segment(0x08, 0xb);
    let data = flat_segment(0x10, 0x3);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.cr0 |= 1; // PE
    vcpu.set_sregs(&sregs).map_err(ioctl("KVM_SET_SREGS"))?;
    // Bit 1 of the flags is always 1.
    let regs = kvm_regs { rip: LOAD_ADDRESS, rflags: 2, ..Default::default() };
    vcpu.set_regs(&regs).map_err(ioctl("KVM_SET_REGS"))
}

/// A 32-bit segment from 0 to 4 GiB.
fn flat_segment(selector: u16, type_: u8) -> kvm_segment {
    kvm_segment { limit: u32::MAX, selector, type_, present: 1, db: 1, s: 1, g: 1, ..Default::default() }
}

/// Whether an access lies in BAR2 as a whole.
fn in_bar2(address: u64, data: &[u8]) -> bool {
    (BAR2_BASE..=BAR2_BASE + BAR2_SIZE - data.len() as u64).contains(&address)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::testing::{self, Display};
    use super::super::{VramError, painter};
    use super::*;

    /// Whether there is a KVM to test with; says why not.
    fn usable() -> bool {
        available().inspect_err(|error| println!("SKIPPED: {error}")).is_ok()
    }

    #[test]
    fn shows_the_painters_pictures() {
        if !usable() {
            return;
        }
        // Two runs of every mode, and with less VRAM without the largest.
        for (vram_size, frames) in [(8 << 20, 40), (4 << 20, 26)] {
            let mut expected = Display::new(vram_size, frames);
            painter::run(&expected.vram(), vram_size, &mut expected).unwrap();
            let mut display = Display::new(vram_size, frames);
            run(&display.vram(), vram_size, &mut display).unwrap();
            assert_eq!(display.shots.len(), frames as usize);
            for (shot, expected) in display.shots.iter().zip(&expected.shots) {
                assert_eq!(shot, expected);
            }
            assert!(contents(&display) == contents(&expected), "VRAM beyond the screen differs");
        }
    }

    fn contents(display: &Display) -> Vec<u8> {
        let mut bytes = Vec::new();
        display.vram().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_drivers_complaints_arrive() {
        if !usable() {
            return;
        }
        let cases = [
            (testing::alien(), DriverError::NoDisplay),
            (Display::new(2 << 20, 1), DriverError::TooLittleMemory),
        ];
        for (mut display, expected) in cases {
            let error = run(&display.vram(), 2 << 20, &mut display).unwrap_err();
            assert!(matches!(error, KvmError::Driver(found) if found == expected), "{error}");
        }
    }

    #[test]
    fn vram_must_fit_the_file_and_the_address_map() {
        if !usable() {
            return;
        }
        let mut display = Display::new(4 << 20, 1);
        for size in [0, 4095, 6144, 512 << 20] {
            let error = run(&display.vram(), size, &mut display).unwrap_err();
            assert!(matches!(error, KvmError::Vram(VramError::Size { .. })), "{size}: {error}");
        }
        let error = run(&display.vram(), 8 << 20, &mut display).unwrap_err();
        assert!(matches!(error, KvmError::Vram(VramError::Short { .. })), "{error}");
    }

    /// Runs another program than ours.
    fn run_program(program: &[u8]) -> KvmError {
        let mut display = Display::new(4 << 20, 1);
        let mut machine = Machine::new(program, &display.vram(), 4 << 20).unwrap();
        machine.run(&mut display).unwrap_err()
    }

    #[test]
    fn a_broken_guest_ends_in_an_error() {
        if !usable() {
            return;
        }
        // ud2: there is no interrupt table.
        let error = run_program(&[0x0f, 0x0b]);
        assert!(matches!(error, KvmError::TripleFault { .. }), "{error}");
        // hlt; out 0x81, al; mov eax, [0xd0000000]; out 0xf4, al with an unknown code; in al, 0x80
        let programs: [(&[u8], &str); 5] = [
            (&[0xf4], "Hlt"),
            (&[0xe6, 0x81], "IoOut(81, [0])"),
            (&[0xa1, 0, 0, 0, 0xd0], "MmioRead(d0000000, "),
            (&[0xb0, 0x77, 0xe6, 0xf4], "IoOut(f4, [77])"),
            (&[0xe4, 0x80], "IoIn(80, "),
        ];
        for (program, expected) in programs {
            match run_program(program) {
                KvmError::UnexpectedExit { exit, .. } => assert!(exit.starts_with(expected), "{exit}"),
                other => panic!("expected {expected}, found: {other}"),
            }
        }
        // 1: mov ax, [0xf0000500]; jmp 1b
        let error = run_program(&[0x66, 0xa1, 0, 5, 0, 0xf0, 0xeb, 0xf8]);
        assert!(matches!(error, KvmError::Stuck { exits: 1000, .. }), "{error}");
    }

    /// Wants no frame and stops at the first signal.
    struct Watched;

    impl Bars for Watched {
        fn read(&mut self, _: u64, _: &mut [u8]) {}
        fn write(&mut self, _: u64, _: &[u8]) {}
        fn frame(&mut self, _: u32) -> bool {
            true
        }
        fn interrupted(&mut self) -> bool {
            false
        }
    }

    #[test]
    fn a_signal_ends_an_endless_loop() {
        if !usable() {
            return;
        }
        let display = Display::new(4 << 20, 1);
        // jmp to itself
        let mut machine = Machine::new(&[0xeb, 0xfe], &display.vram(), 4 << 20).unwrap();
        // The one signal that needs no handler and no unsafe code to come back from: stop, and be continued soon. More than once,
        // lest the first comes before the guest runs.
        let script = format!(
            "for i in 1 2 3; do sleep 0.2; kill -STOP {0}; sleep 0.1; kill -CONT {0}; done",
            std::process::id()
        );
        let mut shell = std::process::Command::new("sh").args(["-c", &script]).spawn().unwrap();
        let error = machine.run(&mut Watched).unwrap_err();
        assert!(matches!(error, KvmError::Interrupted { eip: LOAD_ADDRESS }), "{error}");
        assert!(shell.wait().unwrap().success());
    }

    #[test]
    fn bar2_ends_where_it_ends() {
        assert!(in_bar2(0xf000_0000, &[0; 8]) && in_bar2(0xf000_0ffe, &[0; 2]));
        assert!(!in_bar2(0xf000_0fff, &[0; 2]) && !in_bar2(0xefff_ffff, &[0; 1]));
    }
}
