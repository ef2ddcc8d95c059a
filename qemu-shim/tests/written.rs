//! Writes of a KVM guest, seen in the page tables of the process that runs it.
#![expect(
    unsafe_code,
    reason = "giving memory to a KVM guest is unsafe by nature: the kernel keeps the address"
)]

use std::ops::Range;

use kvm_bindings::{kvm_regs, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use vfio_gfx::memory::{PAGE_SIZE, Vram, WriteTracker};

/// Where the program is.
const PROGRAM: u64 = 0x1000;
/// `mov [0x5123], al`, `mov [0x8fff], ax`, `hlt`, and once more from the start: real mode.
const CODE: [u8; 9] = [0xa2, 0x23, 0x51, 0xa3, 0xff, 0x8f, 0xf4, 0xeb, 0xf7];
const MEMORY: u64 = 64 << 10;

/// A virtual machine of one CPU whose memory is all of the given one.
fn machine(vram: &Vram) -> Result<(VmFd, VcpuFd), kvm_ioctls::Error> {
    let vm = Kvm::new()?.create_vm()?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: MEMORY,
        userspace_addr: vram.memory().ptr_guard_mut().as_ptr() as u64,
    };
    // SAFETY: `vram` maps this much there, outlives the virtual machine, and is touched by volatile access only.
    unsafe { vm.set_user_memory_region(region) }?;
    let vcpu = vm.create_vcpu(0)?;
    let mut sregs = vcpu.get_sregs()?;
    for segment in [&mut sregs.cs, &mut sregs.ds] {
        (segment.base, segment.selector) = (0, 0);
    }
    vcpu.set_sregs(&sregs)?;
    // Bit 1 of the flags is always 1.
    vcpu.set_regs(&kvm_regs { rip: PROGRAM, rflags: 2, rax: 0xabcd, ..Default::default() })?;
    Ok((vm, vcpu))
}

/// First page, and the one behind the last, of each part that was written.
fn pages(tracker: &mut WriteTracker) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    let mut add = |part: Range<u64>| found.push((part.start / PAGE_SIZE, part.end / PAGE_SIZE));
    tracker.take(0..MEMORY, &mut add).unwrap();
    found
}

#[test]
fn a_guest_writes_and_its_pages_are_told() {
    let vram = Vram::new("test", MEMORY).unwrap();
    vram.fill(0, MEMORY, 0x90);
    vram.write(PROGRAM, &CODE).unwrap();
    let mut tracker = match WriteTracker::new(&vram.memory()) {
        Ok(tracker) => tracker,
        Err(error) => return println!("SKIPPED: {error}"),
    };
    let (_vm, mut vcpu) = match machine(&vram) {
        Ok(machine) => machine,
        Err(error) => return println!("SKIPPED: no KVM: {error}"),
    };
    let mut run = || match vcpu.run() {
        Ok(VcpuExit::Hlt) => {}
        other => panic!("{other:?}"),
    };
    assert_eq!(pages(&mut tracker), [(0, 16)], "all that was there before");
    for round in 0..3 {
        run();
        assert_eq!(pages(&mut tracker), [(5, 6), (8, 10)], "round {round}");
        assert_eq!(pages(&mut tracker), [], "round {round}");
    }
    vram.write(0x3000, &[1]).unwrap();
    run();
    assert_eq!(pages(&mut tracker), [(3, 4), (5, 6), (8, 10)], "ours and the guest's");
    let mut byte = [0];
    vram.read(0x5123, &mut byte).unwrap();
    assert_eq!(byte, [0xcd]);
}
