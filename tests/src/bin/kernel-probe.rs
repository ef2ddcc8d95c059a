//! Runs in a guest, as a static program: what the library does with a device of the kernel where `qemu-shim` shows only
//! a part. `kernel-probe mbochs PATH` uses a fresh mbochs as a guest and its console would. Ends with 0 if all is as
//! it should be.

use std::{error::Error, fs, path::Path, process::ExitCode};

use vfio_gfx::{
    abi::{Interface, LinkState, PlaneKind},
    display::{Display, DisplayError, Kernel, KernelError},
    edid,
    plane::Source,
};

/// mbochs' registers and the EDID that its guest sees: BAR 2 (samples/vfio-mdev/mbochs.c).
const MMIO: u32 = 2;
/// Where the DISPI registers are in it, 2 bytes each.
const DISPI: u64 = 0x500;
/// As fdinfo has it (include/uapi/asm-generic/fcntl.h).
const O_CLOEXEC: u32 = 0o2_000_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match &arguments[..] {
        [device, path] if device == "mbochs" => mbochs(Path::new(path)),
        _ => Err("usage: kernel-probe mbochs PATH".into()),
    };
    if let Err(error) = done {
        eprintln!("kernel-probe: {error}: {}", error.source().map(ToString::to_string).unwrap_or_default());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn mbochs(path: &Path) -> Result<(), Box<dyn Error>> {
    let mut display = Display::open(Box::new(Kernel::open(path)?))?;
    assert_eq!(display.offered(), [Interface::Dmabuf]);
    for kind in PlaneKind::ALL {
        assert_eq!(display.plane(kind)?, None, "{}", kind.name());
    }
    monitor(&mut display)?;
    for size in [(1024, 768), (800, 600), (640, 480)] {
        buffers(&mut display, size)?;
    }
    Ok(())
}

/// The monitor is exchanged, unplugged and plugged in; the guest's window of it follows.
fn monitor(display: &mut Display) -> Result<(), Box<dyn Error>> {
    let mut seen = [0; 128];
    assert!(display.edid()?.is_some_and(|edid| edid.is_empty()), "mbochs starts without a monitor");
    for (width, height) in [(1280, 720), (800, 600)] {
        let edid = edid::generate(&edid::Config::new(edid::Mode::new(width, height)))?;
        display.set_edid(edid.as_bytes())?;
        assert_eq!(display.edid()?.as_deref(), Some(edid.as_bytes()));
        display.backend().read(MMIO, 0, &mut seen)?;
        assert_eq!(seen, edid.as_bytes()[..128], "what the guest sees");
    }
    display.set_link(LinkState::Down)?;
    assert!(display.edid()?.is_some_and(|edid| edid.is_empty()));
    display.backend().read(MMIO, 0, &mut seen)?;
    assert_eq!(seen, [0; 128], "what the guest sees of a link that is down");
    display.set_link(LinkState::Up)?;
    let error = display.set_edid(&[0; 0x480]).expect_err("the EDID is too large");
    assert!(matches!(error, DisplayError::EdidSize { max: 0x400, .. }), "{error}");
    Ok(())
}

/// A mode is set, as a guest would. The plane is found at once, although the driver's first answer is ENOMEM; its
/// buffer cannot be mapped, which is said and does no harm however often it is tried.
fn buffers(display: &mut Display, (width, height): (u16, u16)) -> Result<(), Box<dyn Error>> {
    for (register, value) in [(1, width), (2, height), (3, 32), (6, width), (4, 0x41)] {
        display.backend().write(MMIO, DISPI + 2 * register, &value.to_le_bytes())?;
    }
    let plane = display.plane(PlaneKind::Primary)?.ok_or("the plane is off")?;
    assert_eq!((plane.geometry.width(), plane.geometry.height()), (width.into(), height.into()));
    assert_eq!(plane.hotspot, None);
    assert_eq!(display.plane(PlaneKind::Cursor)?, None);
    let Source::Buffer { id, .. } = plane.source else {
        return Err("the plane is no buffer".into());
    };
    for _ in 0..3 {
        let error =
            display.pixels(PlaneKind::Primary).map(drop).expect_err("mbochs' buffers cannot be mapped");
        let unmappable =
            matches!(&error, DisplayError::Kernel(KernelError::Unmappable { id: i, .. }) if *i == id);
        assert!(unmappable, "{error:?}");
    }
    for flags in dmabufs()? {
        assert!(flags & O_CLOEXEC != 0, "a dma-buf would be inherited, its flags are {flags:#o}");
    }
    Ok(())
}

/// The flags of every dma-buf that this process has open.
fn dmabufs() -> Result<Vec<u32>, Box<dyn Error>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        // One of them is that of this directory, closed by now.
        let info = fs::read_to_string(entry?.path()).unwrap_or_default();
        if info.lines().any(|line| line.starts_with("exp_name:")) {
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).ok_or("no flags")?;
            found.push(u32::from_str_radix(flags.trim(), 8)?);
        }
    }
    if found.is_empty() { Err("no dma-buf is open".into()) } else { Ok(found) }
}
