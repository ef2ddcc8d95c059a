//! A console's refresh through the region interface: of a picture that stayed, and of one where every pixel is another.

use std::error::Error;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use qemu_shim::{Console, Refresh};
use vfio_gfx::display::{Display, Local};
use vfio_gfx_benches::desktop::{desktop, xrgb8888};
use vfio_gfx_benches::device::{HD, UHD, flip, showing};

fn refresh(c: &mut Criterion, name: &str, mode: (u16, u16)) -> Result<(), Box<dyn Error>> {
    let device = showing(mode)?;
    let picture = xrgb8888(&desktop(mode.0.into(), mode.1.into())?);
    let page = picture.len() as u64;
    // The second page is the first, inverted.
    let inverted: Vec<u8> = picture.iter().map(|byte| !byte).collect();
    device.lock().vram().write(0, &picture)?;
    device.lock().vram().write(page, &inverted)?;
    let mut console = Console::new(Display::open(Box::new(Local::new(device.clone())))?);
    console.refresh()?;

    let mut group = c.benchmark_group("refresh");
    group.throughput(Throughput::Bytes(page)).sample_size(20);
    group.bench_function(format!("unchanged/{name}"), |b| {
        b.iter(|| assert_eq!(console.refresh().ok(), Some(Refresh::Same)));
    });
    let mut first = 0;
    group.bench_function(format!("fully_changed/{name}"), |b| {
        b.iter(|| {
            first = mode.1 - first;
            flip(&device, first).expect("both pages fit");
            assert_eq!(console.refresh().ok(), Some(Refresh::Changed));
        });
    });
    group.finish();
    Ok(())
}

fn benches(c: &mut Criterion) {
    refresh(c, "1080p", HD).and_then(|()| refresh(c, "4K", UHD)).unwrap_or_else(|error| panic!("{error}"));
}

criterion_group!(all, benches);
criterion_main!(all);
