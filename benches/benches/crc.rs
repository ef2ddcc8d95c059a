//! Checksums of a frame: the one vkms reports, and a CRC-32 of the bytes as the device has them.

use std::error::Error;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use qemu_shim::crc::{Raw, vkms};
use vfio_gfx_benches::desktop::{desktop, xrgb8888};

fn crc(c: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let mut group = c.benchmark_group("crc");
    for (name, width, height) in [("1080p", 1920, 1080), ("4K", 3840, 2160)] {
        let frame = desktop(width, height)?;
        let bytes = xrgb8888(&frame);
        group.throughput(Throughput::Bytes(bytes.len() as u64)).sample_size(20);
        group.bench_function(format!("vkms/{name}"), |b| b.iter(|| vkms(black_box(&frame))));
        group.bench_function(format!("raw/{name}"), |b| {
            b.iter(|| {
                let mut raw = Raw::new();
                black_box(&bytes).chunks_exact(4 * width as usize).for_each(|row| raw.update(row));
                raw.finish()
            });
        });
    }
    group.finish();
    Ok(())
}

fn benches(c: &mut Criterion) {
    crc(c).unwrap_or_else(|error| panic!("{error}"));
}

criterion_group!(all, benches);
criterion_main!(all);
