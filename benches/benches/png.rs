//! A screenshot's compression, into memory.

use std::error::Error;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use qemu_shim::image::write_png;
use vfio_gfx_benches::desktop::desktop;

fn png(c: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let mut group = c.benchmark_group("encode_png");
    for (name, width, height) in [("1080p", 1920, 1080), ("4K", 3840, 2160)] {
        let frame = desktop(width, height)?;
        let mut file = Vec::new();
        group.throughput(Throughput::Elements(frame.pixels().len() as u64)).sample_size(20);
        group.bench_function(name, |b| {
            b.iter(|| {
                file.clear();
                write_png(black_box(&frame), &mut file)
            });
        });
    }
    group.finish();
    Ok(())
}

fn benches(c: &mut Criterion) {
    png(c).unwrap_or_else(|error| panic!("{error}"));
}

criterion_group!(all, benches);
criterion_main!(all);
