//! Conversion of pixels as the device has them into pixels of a frame: a row that stays in the cache, and a frame.

use std::error::Error;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use qemu_shim::Frame;
use qemu_shim::convert::Converter;
use vfio_gfx::format::Fourcc;
use vfio_gfx_benches::desktop::{desktop, xrgb8888};

fn convert(c: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let converter = Converter::new(Fourcc::XRGB8888).ok_or("XRGB8888 is always shown")?;
    let mut group = c.benchmark_group("convert_xrgb8888");
    for (name, width, height) in
        [("row/1080p", 1920, 1), ("frame/1080p", 1920, 1080), ("frame/4K", 3840, 2160)]
    {
        let bytes = xrgb8888(&desktop(width, height)?);
        let mut frame = Frame::new(width, height)?;
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let rows = bytes.chunks_exact(4 * width as usize);
                for (row, shown) in rows.zip(frame.rows_mut()) {
                    converter.convert_row(black_box(row), black_box(shown));
                }
            });
        });
    }
    group.finish();
    Ok(())
}

fn benches(c: &mut Criterion) {
    convert(c).unwrap_or_else(|error| panic!("{error}"));
}

criterion_group!(all, benches);
criterion_main!(all);
