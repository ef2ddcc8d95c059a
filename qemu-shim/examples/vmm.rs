//! A VMM in one file, with a display of this project in the same process: `cargo run -p qemu-shim --example vmm -- OUT.png`
//!
//! A PC as small as one can be: a CPU, 64 KiB of RAM and the device. The guest finds nothing in place: it sets the BARs through
//! configuration space, sets a mode, draws, flips, and moves the video memory elsewhere. Two threads:
//!
//! * The *CPU* thread runs the guest and carries out what it traps on: configuration space and registers go to the
//!   device, which is the very [`SharedDevice`] that a server would offer over a socket.
//! * The *console* thread sleeps on an ioeventfd until the guest says that a picture is complete, and refreshes. Where the
//!   guest wrote it knows from KVM's dirty log.
//!
//! Needs x86-64 and `/dev/kvm`; says so and ends well where there is none.

#![expect(
    unsafe_code,
    reason = "giving memory to a KVM guest is unsafe by nature: the kernel keeps the address"
)]

use std::error::Error;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, kvm_regs, kvm_userspace_memory_region};
use kvm_ioctls::{IoEventAddress, Kvm, NoDatamatch, VcpuExit, VcpuFd, VmFd};
use mdev_sample::DeviceType;
use qemu_shim::Console;
use qemu_shim::console::DirtyLog;
use qemu_shim::image::write_png;
use vfio_gfx::abi::{PlaneKind, pci_region};
use vfio_gfx::device::{Interfaces, SharedDevice};
use vfio_gfx::display::{Display, Local};
use vfio_gfx::memory::Vram;
use vfio_gfx::plane::Source;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};
use vmm_sys_util::eventfd::EventFd;

/// Memory slots of the virtual machine.
const RAM_SLOT: u32 = 0;
const VRAM_SLOT: u32 = 1;
/// Guest RAM in bytes, from address 0; where in it the program is; and where the console says how many pictures it has seen.
const RAM_SIZE: usize = 64 << 10;
const PROGRAM: u64 = 0x8000;
const SEEN: u64 = 0x1000;
/// Size of BAR2 in bytes.
const BAR2_SIZE: u64 = 0x1000;
/// Ports of PCI configuration (PCI Local Bus 3.0, 3.2.2.3.2), and bus 0, device 2, function 0 as one is addressed there.
const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;
const CONFIG_DATA_END: u16 = CONFIG_DATA + 3;
const OUR_FUNCTION: u32 = 1 << 31 | 2 << 11;
/// Port the guest writes to when a picture is complete (the PC's POST code port).
const DOORBELL: u64 = 0x80;
/// Three pages that Intel's CPUs need, out of the guest's way.
const TSS_ADDRESS: usize = 0xfffb_d000;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let out = std::env::args().nth(1).unwrap_or_else(|| "vmm.png".to_owned());
    match Kvm::new() {
        Ok(kvm) => run(&kvm, &out),
        Err(error) => {
            println!("SKIPPED: cannot open /dev/kvm: {error}");
            Ok(())
        }
    }
}

fn run(kvm: &Kvm, out: &str) -> Result<()> {
    // ANCHOR: device
    let device = SharedDevice::new(DeviceType::find("mbochs-medium")?.create(Some(Interfaces::REGION))?);
    // ANCHOR_END: device
    let mut machine = Machine::new(kvm, device.clone())?;
    let mut viewer = Viewer::new(&machine)?;
    let stop = AtomicBool::new(false);
    let out = File::create(out).map_err(|error| format!("{out}: {error}"))?;
    thread::scope(|scope| {
        let console = scope.spawn(|| viewer.run(&stop, out));
        let guest = machine.run();
        stop.store(true, Ordering::Release);
        let rung = machine.doorbell.write(1);
        rung?;
        let seen = console.join().unwrap_or_else(|_| Err("the console thread panicked".into()));
        guest.and(seen) // a guest that failed is why there is nothing to see
    })
}

/// The virtual machine. The order of the fields is that of their end: the VM before its memory.
struct Machine {
    vcpu: VcpuFd,
    vm: Arc<VmFd>,
    ram: GuestMemoryMmap,
    vram: Arc<Vram>,
    device: SharedDevice,
    /// What the guest last wrote to [`CONFIG_ADDRESS`].
    config_address: u32,
    /// Where the guest has put the BARs, if it sees them.
    vram_base: Option<u64>,
    bar2_base: Option<u64>,
    /// Set whenever the video memory's slot changes, and with it the dirty log begins anew.
    log_lost: Arc<AtomicBool>,
    doorbell: EventFd,
}

impl Machine {
    fn new(kvm: &Kvm, device: SharedDevice) -> Result<Self> {
        let ram = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), RAM_SIZE)])?;
        ram.write_slice(&VMM_EXAMPLE_GUEST, GuestAddress(PROGRAM))?;
        let vram = device.lock().vram().clone();
        let vm = Arc::new(kvm.create_vm()?);
        vm.set_tss_address(TSS_ADDRESS)?;
        // KVM takes the write for itself, and the CPU goes on: a trap to this process would cost some microseconds. It is for
        // registers whose write says all by happening. Those of the display carry values and are read back in order: they trap.
        let doorbell = EventFd::new(0)?;
        vm.register_ioevent(&doorbell, &IoEventAddress::Pio(DOORBELL), NoDatamatch)?;
        let vcpu = vm.create_vcpu(0)?;
        start(&vcpu)?;
        let machine = Self {
            vcpu,
            vm,
            ram,
            vram,
            device,
            config_address: 0,
            vram_base: None,
            bar2_base: None,
            log_lost: Arc::new(AtomicBool::new(true)),
            doorbell,
        };
        let region = machine.ram.iter().next().ok_or("no RAM")?;
        // SAFETY: a live mapping of that size, which the machine keeps until after the VM is gone.
        unsafe { machine.set_slot(RAM_SLOT, 0, region.start_addr().0, region.len(), region.as_ptr()) }?;
        Ok(machine)
    }

    /// Makes memory visible to the guest; of `size` 0, removes the slot.
    ///
    /// # Safety
    /// `host` is where so many bytes are mapped as long as the VM lives. This process touches them by volatile access only.
    unsafe fn set_slot(
        &self,
        slot: u32,
        flags: u32,
        guest: u64,
        size: u64,
        host: *const u8,
    ) -> io::Result<()> {
        let region = kvm_userspace_memory_region {
            slot,
            flags,
            guest_phys_addr: guest,
            memory_size: size,
            userspace_addr: host as u64,
        };
        // SAFETY: as the caller says.
        Ok(unsafe { self.vm.set_user_memory_region(region) }?)
    }

    /// Runs the guest until it halts.
    fn run(&mut self) -> Result<()> {
        loop {
            match self.vcpu.run()? {
                // ANCHOR: traps
                VcpuExit::MmioRead(address, data) => {
                    data.fill(0xff); // where nobody answers the bus floats high
                    if let Some(offset) = bar2_offset(self.bar2_base, address, data) {
                        self.device.lock().guest_read(pci_region::BAR2, offset, data)?;
                    }
                }
                VcpuExit::MmioWrite(address, data) => {
                    if let Some(offset) = bar2_offset(self.bar2_base, address, data) {
                        self.device.lock().guest_write(pci_region::BAR2, offset, data)?;
                    }
                }
                // ANCHOR_END: traps
                VcpuExit::IoOut(CONFIG_ADDRESS, &[a, b, c, d]) => {
                    self.config_address = u32::from_le_bytes([a, b, c, d]);
                }
                VcpuExit::IoIn(port @ CONFIG_DATA..=CONFIG_DATA_END, data) => {
                    data.fill(0xff);
                    if let Some(offset) = config_offset(self.config_address, port) {
                        self.device.lock().guest_read(pci_region::CONFIG, offset, data)?;
                    }
                }
                VcpuExit::IoOut(port @ CONFIG_DATA..=CONFIG_DATA_END, data) => {
                    if let Some(offset) = config_offset(self.config_address, port) {
                        self.device.lock().guest_write(pci_region::CONFIG, offset, data)?;
                        self.place_bars()?;
                    }
                }
                VcpuExit::Hlt => return Ok(()),
                exit => return Err(format!("the guest did what nobody expected: {exit:x?}").into()),
            }
        }
    }

    /// After a write to configuration space: puts BARs where the guest wants them. Only this thread changes the memory map,
    /// and the CPU is stopped meanwhile.
    fn place_bars(&mut self) -> Result<()> {
        let read = |offset: u64| -> Result<u32> {
            let mut bytes = [0; 4];
            self.device.lock().read(pci_region::CONFIG, offset, &mut bytes)?;
            Ok(u32::from_le_bytes(bytes))
        };
        let is_decoding = read(0x04)? & 2 != 0; // COMMAND
        let base = |bar: u32| Some(u64::from(bar & !0xf)).filter(|base| is_decoding && *base != 0);
        let (vram_base, bar2_base) = (base(read(0x10)?), base(read(0x18)?));
        self.bar2_base = bar2_base;
        if vram_base == self.vram_base {
            return Ok(());
        }
        // ANCHOR: slot
        // A slot cannot be moved while its dirty pages are logged: it is removed and made anew.
        self.log_lost.store(true, Ordering::Release);
        let memory = self.vram.memory();
        let host = memory.ptr_guard().as_ptr();
        let (flags, size) = (KVM_MEM_LOG_DIRTY_PAGES, self.vram.size());
        if let Some(old) = self.vram_base.take() {
            // SAFETY: takes memory away.
            unsafe { self.set_slot(VRAM_SLOT, flags, old, 0, host) }?;
        }
        if let Some(new) = vram_base {
            // SAFETY: the device's own mapping of its video memory, which the machine keeps until after the VM is gone.
            unsafe { self.set_slot(VRAM_SLOT, flags, new, size, host) }?;
        }
        // ANCHOR_END: slot
        self.vram_base = vram_base;
        Ok(())
    }
}

/// Where in BAR2 an access is, if it is there as a whole.
fn bar2_offset(base: Option<u64>, address: u64, data: &[u8]) -> Option<u64> {
    let offset = address.checked_sub(base?)?;
    (offset + data.len() as u64 <= BAR2_SIZE).then_some(offset)
}

/// Where in the device's configuration space an access is, if it is to this device.
fn config_offset(address: u32, port: u16) -> Option<u64> {
    (address & !0xff == OUR_FUNCTION).then(|| u64::from(address & 0xfc) + u64::from(port - CONFIG_DATA))
}

/// Sets the CPU to the program's first instruction: protected mode, all segments from 0 to 4 GiB, no paging.
fn start(vcpu: &VcpuFd) -> Result<()> {
    let mut sregs = vcpu.get_sregs()?;
    for segment in [&mut sregs.cs, &mut sregs.ds, &mut sregs.es, &mut sregs.ss] {
        (segment.base, segment.limit, segment.g, segment.db) = (0, u32::MAX, 1, 1);
    }
    sregs.cr0 |= 1; // PE
    vcpu.set_sregs(&sregs)?;
    // Bit 1 of the flags is always 1.
    Ok(vcpu.set_regs(&kvm_regs { rip: PROGRAM, rflags: 2, ..Default::default() })?)
}

/// The console, and what it needs of the machine.
struct Viewer {
    console: Console,
    device: SharedDevice,
    ram: GuestMemoryMmap,
    doorbell: EventFd,
    /// Pages in the last dirty log.
    dirty: Arc<AtomicU32>,
}

impl Viewer {
    fn new(machine: &Machine) -> Result<Self> {
        let mut console = Console::new(Display::open(Box::new(Local::new(machine.device.clone())))?);
        let dirty = Arc::new(AtomicU32::new(0));
        let (vm, size, lost, count) =
            (machine.vm.clone(), machine.vram.size(), machine.log_lost.clone(), dirty.clone());
        let bytes = usize::try_from(size)?;
        // ANCHOR: log
        console.set_damage_source(Box::new(DirtyLog::new(size, move || {
            let log = vm.get_dirty_log(VRAM_SLOT, bytes)?;
            count.store(log.iter().map(|word| word.count_ones()).sum(), Ordering::Relaxed);
            if lost.swap(false, Ordering::AcqRel) {
                return Err(io::Error::other("the video memory was moved"));
            }
            Ok(log)
        })));
        // ANCHOR_END: log
        let (device, ram) = (machine.device.clone(), machine.ram.clone());
        Ok(Self { console, device, ram, doorbell: machine.doorbell.try_clone()?, dirty })
    }

    /// Looks whenever the guest rings, until told to stop. The last picture is saved.
    fn run(&mut self, stop: &AtomicBool, out: File) -> Result<()> {
        let result = self.look_until(stop);
        // A guest whose console failed must not wait for it.
        self.ram.write_obj(u32::MAX, GuestAddress(SEEN))?;
        result?;
        Ok(write_png(&mut self.console.frame(), out)?)
    }

    fn look_until(&mut self, stop: &AtomicBool) -> Result<()> {
        for seen in 1u32.. {
            self.doorbell.read()?;
            if stop.load(Ordering::Acquire) {
                break;
            }
            self.dirty.store(0, Ordering::Relaxed);
            // ANCHOR: console
            let found = self.console.refresh()?;
            // ANCHOR_END: console
            let plane = self.device.lock().query(vfio_gfx::abi::Interface::Region, PlaneKind::Primary)?;
            let at = plane.map_or(0, |plane| match plane.source {
                Source::Region { offset, .. } => offset,
                Source::Buffer { .. } => 0,
            });
            let frame = self.console.frame();
            print!("picture {seen}: {}x{} at {at:#x}, {found:?}", frame.width(), frame.height());
            print!("; {} pages written", self.dirty.load(Ordering::Relaxed));
            for rect in self.console.damage().rects() {
                print!("; {}x{} at {},{}", rect.width, rect.height, rect.x, rect.y);
            }
            println!();
            self.ram.write_obj(seen, GuestAddress(SEEN))?;
        }
        Ok(())
    }
}

// SAFETY: the assembly below defines the symbol, so many bytes long (`.org`) in read-only data, and nothing writes there.
unsafe extern "C" {
    safe static VMM_EXAMPLE_GUEST: [u8; 512];
}

// The guest: 640x480 at 32 bits per pixel, VRAM at 0xe0000000, registers at 0xf0000000 (offsets as in QEMU's
// docs/specs/standard-vga.rst). ebp counts pictures.
std::arch::global_asm!(
    r#"
    .pushsection .rodata.vmm_example_guest, "a", @progbits
    .globl VMM_EXAMPLE_GUEST
VMM_EXAMPLE_GUEST:
    .code32
    cld
    mov     esp, 0x7000
    xor     ebp, ebp
    mov     ebx, 0xe0000000
    call    .Lvmm_place
    mov     word ptr [0xf0000508], 0        // ENABLE: off
    mov     word ptr [0xf0000506], 32       // BPP
    mov     word ptr [0xf0000502], 640      // XRES
    mov     word ptr [0xf0000504], 480      // YRES
    mov     word ptr [0xf0000508], 0x41     // ENABLE: on, linear framebuffer
    mov     byte ptr [0xf0000400], 0x20     // unblank
    // 1: the whole page
    mov     edi, 0xe0000000
    mov     eax, 0x00204080
    call    .Lvmm_fill
    call    .Lvmm_show
    // 2: a square at 288,208
    mov     edi, 0xe0000000 + (208 * 640 + 288) * 4
    mov     eax, 0x00ffffff
    call    .Lvmm_square
    call    .Lvmm_show
    // 3: nothing; 4: the second page, which is not on screen; 5: the flip; 6: a square on it, at 64,32
    call    .Lvmm_show
    mov     edi, 0xe0000000 + 480 * 640 * 4
    mov     eax, 0x00206020
    call    .Lvmm_fill
    call    .Lvmm_show
    mov     word ptr [0xf0000512], 480      // Y_OFFSET
    call    .Lvmm_show
    mov     edi, 0xe0000000 + ((480 + 32) * 640 + 64) * 4
    mov     eax, 0x00ffc000
    call    .Lvmm_square
    call    .Lvmm_show
    // 7: the video memory elsewhere, and another square, at 512,384
    mov     ebx, 0xd0000000
    call    .Lvmm_place
    mov     edi, 0xd0000000 + ((480 + 384) * 640 + 512) * 4
    mov     eax, 0x00c02020
    call    .Lvmm_square
    call    .Lvmm_show
    hlt

.Lvmm_place:                                // BAR0 to ebx, BAR2 to 0xf0000000; not decoding meanwhile
    mov     eax, 0x80001004
    xor     ecx, ecx
    call    .Lvmm_config
    mov     eax, 0x80001010
    mov     ecx, ebx
    call    .Lvmm_config
    mov     eax, 0x80001018
    mov     ecx, 0xf0000000
    call    .Lvmm_config
    mov     eax, 0x80001004
    mov     ecx, 2                          // COMMAND: decode memory
.Lvmm_config:                               // configuration address eax: ecx
    mov     dx, 0xcf8
    out     dx, eax
    mov     dx, 0xcfc
    mov     eax, ecx
    out     dx, eax
    ret
.Lvmm_fill:                                 // the page at edi
    mov     ecx, 640 * 480
    rep stosd
    ret
.Lvmm_square:                               // 64x64 pixels at edi
    mov     edx, 64
.Lvmm_row:
    mov     ecx, 64
    rep stosd
    add     edi, (640 - 64) * 4
    dec     edx
    jnz     .Lvmm_row
    ret
.Lvmm_show:                                 // rings, and waits until the console has looked
    inc     ebp
    mov     eax, ebp
    out     0x80, eax
.Lvmm_wait:
    pause
    cmp     dword ptr [0x1000], ebp
    jb      .Lvmm_wait
    ret
    .org VMM_EXAMPLE_GUEST + 512
    .code64
    .popsection
"#
);
