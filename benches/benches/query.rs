//! One plane query: as the raw ioctl in process, and as a message to a server in another thread.

use std::error::Error;
use std::hint::black_box;
use std::thread;

use criterion::{Criterion, criterion_group, criterion_main};
use vfio_gfx::abi::{DeviceIoctl, Interface};
use vfio_gfx::vfio_user::{Client, Command, Role, Server, Until};
use vfio_gfx_benches::device::{HD, query, showing};

const INTERFACES: [Interface; 2] = [Interface::Region, Interface::Dmabuf];

fn in_process(c: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let device = showing(HD)?;
    let mut group = c.benchmark_group("query_in_process");
    for interface in INTERFACES {
        let prepared = query(interface);
        let mut arg = prepared.clone();
        group.bench_function(interface.name(), |b| {
            b.iter(|| {
                arg.copy_from_slice(&prepared);
                device.lock().ioctl(DeviceIoctl::QueryGfxPlane.raw(), black_box(&mut arg), Vec::new())
            });
        });
    }
    group.finish();
    Ok(())
}

fn over_the_socket(c: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("device.sock");
    let mut server = Server::bind(showing(HD)?, &path)?;
    let stopper = server.stopper()?;
    let serving = thread::spawn(move || server.run(Until::Stopped));
    let mut client = Client::connect(&path, Role::Console)?;
    let mut group = c.benchmark_group("query_over_the_socket");
    for interface in INTERFACES {
        let request = query(interface);
        group.bench_function(interface.name(), |b| {
            b.iter(|| client.call(Command::QueryGfxPlane, &[&request], |payload, _| Ok(payload.len())));
        });
    }
    group.finish();
    stopper.stop();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}

fn benches(c: &mut Criterion) {
    in_process(c).and_then(|()| over_the_socket(c)).unwrap_or_else(|error| panic!("{error}"));
}

criterion_group!(all, benches);
criterion_main!(all);
