//! A VMM and its guest without either: maps memory into a served `vgfx` device, draws mdpy's gradient there, has the primary plane
//! show it, says `shown` and waits to be killed. `vgfx-probe SOCKET`

use std::error::Error;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use vfio_gfx::format::Fourcc;
use vfio_gfx::memory::Vram;
use vfio_gfx::vfio_user::{Client, Command, Role};

const WIDTH: u32 = 640;
const HEIGHT: u32 = 480;
const STRIDE: u32 = WIDTH * 4;
/// Guest-physical address of the memory: above the hole below 4 GiB.
const ADDRESS: u64 = 1 << 32;
/// `VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE`
const READ_WRITE: u32 = 3;

// Registers in BAR2: the documentation of `mdev_sample::vgfx`.
const COMMIT: u64 = 0x808;
const COMPLETED: u64 = 0x80c;
const PRIMARY: u64 = 0x840;
const STATE: u64 = PRIMARY + 0x38;

type Done<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match show() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vgfx-probe: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Register accesses are 4 bytes of region 2.
fn place(offset: u64) -> Vec<u8> {
    [&offset.to_ne_bytes()[..], [2u32, 4].map(u32::to_ne_bytes).as_flattened()].concat()
}

fn write(vmm: &mut Client, offset: u64, value: u32) -> Done {
    Ok(vmm.call(Command::RegionWrite, &[&place(offset), &value.to_le_bytes()], |_, _| Ok(()))?)
}

fn read(vmm: &mut Client, offset: u64) -> Done<u32> {
    let data = vmm.call(Command::RegionRead, &[&place(offset)], |payload, _| Ok(payload.to_vec()))?;
    let value = data.get(16..20).and_then(|value| value.try_into().ok()).ok_or("a short reply")?;
    Ok(u32::from_le_bytes(value))
}

fn show() -> Done {
    let socket = std::env::args().nth(1).ok_or("expected a socket")?;
    let mut vmm = Client::connect(Path::new(&socket), Role::Vmm)?;
    let memory = Vram::new("guest", u64::from(STRIDE * HEIGHT))?;
    for y in 0..HEIGHT {
        let grey = u8::try_from(y * 255 / HEIGHT)?;
        memory.write(u64::from(y * STRIDE), &vec![grey; STRIDE as usize])?;
    }
    let head = [32, READ_WRITE].map(u32::to_ne_bytes).concat();
    let range = [0, ADDRESS, memory.size()].map(u64::to_ne_bytes).concat();
    let fd: OwnedFd = memory.file().try_clone()?.into();
    vmm.call_with_fds(Command::DmaMap, &[&head, &range], &[fd], |_, _| Ok(()))?;
    let [low, high] = [ADDRESS & 0xffff_ffff, ADDRESS >> 32].map(u32::try_from);
    let registers = [(0x00, 1), (0x04, Fourcc::XRGB8888.bits()), (0x08, low?), (0x0c, high?)];
    let shape = [(0x10, STRIDE), (0x14, WIDTH), (0x18, HEIGHT), (0x34, 1)];
    for (register, value) in registers.into_iter().chain(shape) {
        write(&mut vmm, PRIMARY + register, value)?;
    }
    write(&mut vmm, COMMIT, 1)?;
    let (state, over) = (read(&mut vmm, STATE)?, read(&mut vmm, COMPLETED)?);
    if (state, over) != (1, 1) {
        return Err(format!("STATE is {state} and COMPLETED {over}, expected 1 and 1").into());
    }
    println!("shown");
    std::thread::sleep(Duration::MAX);
    Ok(())
}
