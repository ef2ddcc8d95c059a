//! A guest on KVM that writes to as many pages of a display's video memory as it is told, and KVM's log of them.
#![expect(
    unsafe_code,
    reason = "giving memory to a KVM guest is unsafe by nature: the kernel keeps the address"
)]

use std::error::Error;
use std::io;
use std::sync::Arc;

use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, kvm_regs, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use vfio_gfx::device::SharedDevice;
use vfio_gfx::memory::Vram;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

/// Memory slots.
const RAM_SLOT: u32 = 0;
const VRAM_SLOT: u32 = 1;
/// Guest RAM in bytes, from address 0, and where in it the program is.
const RAM_SIZE: usize = 64 << 10;
const PROGRAM: u64 = 0x1000;
/// Where the guest has the video memory.
const VRAM_BASE: u64 = 0xe000_0000;
/// Three pages that Intel's CPUs need, out of the guest's way.
const TSS_ADDRESS: usize = 0xfffb_d000;

/// Writes eax to ecx pages from edi on, and halts.
///
/// ```text
/// 1: mov [edi], eax
///    add edi, 4096
///    dec ecx
///    jnz 1b
///    hlt
/// ```
const CODE: [u8; 12] = [0x89, 0x07, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, 0x49, 0x75, 0xf5, 0xf4];

/// The guest. The order of the fields is that of their end: the VM before its memory.
pub(crate) struct Guest {
    vcpu: VcpuFd,
    vm: Arc<VmFd>,
    _ram: GuestMemoryMmap,
    vram: Arc<Vram>,
}

impl Guest {
    /// A guest that has this device's video memory.
    pub(crate) fn new(device: &SharedDevice) -> Result<Self, Box<dyn Error>> {
        let kvm = Kvm::new().map_err(|error| format!("cannot open /dev/kvm: {error}"))?;
        let vm = Arc::new(kvm.create_vm()?);
        vm.set_tss_address(TSS_ADDRESS)?;
        let ram = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), RAM_SIZE)])?;
        ram.write_slice(&CODE, GuestAddress(PROGRAM))?;
        let vram = device.lock().vram().clone();
        let vcpu = vm.create_vcpu(0)?;
        let guest = Self { vcpu, vm, _ram: ram.clone(), vram };
        let region = ram.iter().next().ok_or("no RAM")?;
        // SAFETY: a live mapping of that size, which the guest keeps until after the VM is gone.
        unsafe { guest.give(RAM_SLOT, 0, 0, region.len(), region.as_ptr()) }?;
        let memory = guest.vram.memory();
        let (flags, host) = (KVM_MEM_LOG_DIRTY_PAGES, memory.ptr_guard().as_ptr());
        // SAFETY: the device's own mapping of its video memory, which the guest keeps until after the VM is gone.
        unsafe { guest.give(VRAM_SLOT, flags, VRAM_BASE, guest.vram.size(), host) }?;
        let mut sregs = guest.vcpu.get_sregs()?;
        // All segments from 0 to 4 GiB, protected mode, no paging.
        for segment in [&mut sregs.cs, &mut sregs.ds, &mut sregs.es, &mut sregs.ss] {
            (segment.base, segment.limit, segment.g, segment.db) = (0, u32::MAX, 1, 1);
        }
        sregs.cr0 |= 1; // PE
        guest.vcpu.set_sregs(&sregs)?;
        Ok(guest)
    }

    /// Makes memory visible to the guest.
    ///
    /// # Safety
    /// `host` is where so many bytes are mapped as long as the VM lives. This process touches them by volatile access only.
    unsafe fn give(
        &self,
        slot: u32,
        flags: u32,
        guest: u64,
        memory_size: u64,
        host: *const u8,
    ) -> Result<(), kvm_ioctls::Error> {
        let userspace_addr = host as u64;
        let region =
            kvm_userspace_memory_region { slot, flags, guest_phys_addr: guest, memory_size, userspace_addr };
        // SAFETY: as the caller says.
        unsafe { self.vm.set_user_memory_region(region) }
    }

    /// Fetches KVM's log of the video memory.
    pub(crate) fn log(&self) -> impl FnMut() -> io::Result<Vec<u64>> + Send + 'static {
        let (vm, vram) = (Arc::clone(&self.vm), Arc::clone(&self.vram));
        move || {
            let size = usize::try_from(vram.size()).map_err(io::Error::other)?;
            Ok(vm.get_dirty_log(VRAM_SLOT, size)?)
        }
    }

    /// Has the guest write to so many pages, at least one, from the first on.
    pub(crate) fn draw(&mut self, pages: u64, colour: u32) -> Result<(), Box<dyn Error>> {
        // Bit 1 of the flags is always 1.
        let regs = kvm_regs {
            rip: PROGRAM,
            rflags: 2,
            rax: colour.into(),
            rcx: pages,
            rdi: VRAM_BASE,
            ..Default::default()
        };
        self.vcpu.set_regs(&regs)?;
        match self.vcpu.run()? {
            VcpuExit::Hlt => Ok(()),
            exit => Err(format!("the guest did what nobody expected: {exit:x?}").into()),
        }
    }
}
