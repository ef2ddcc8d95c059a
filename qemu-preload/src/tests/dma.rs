//! What a device that does DMA is given: seen by a server that looks at its descriptors.

use std::fs::File;
use std::io::{IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use vfio_gfx::memory::Vram;
use vfio_gfx::vfio_user::{HEADER_SIZE, Header, Version};
use zerocopy::{FromBytes, IntoBytes};

use super::{long, word, words};
use crate::device::Device;

/// Takes a message, answers it with `answer`, and returns its payload and descriptors.
fn serve(stream: &mut UnixStream, answer: impl FnOnce(&[u8]) -> Vec<u8>) -> (Vec<u8>, Vec<OwnedFd>) {
    let mut bytes = [0; 1024];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let received =
        recvmsg(&*stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let fds = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => rights.collect(),
        _ => Vec::new(),
    });
    let fds = fds.collect();
    // The client waits for each answer, so there is one whole message.
    let (header, _) = Header::read_from_prefix(&bytes).unwrap();
    assert_eq!(header.size as usize, received.bytes);
    let payload = bytes[HEADER_SIZE..received.bytes].to_vec();
    let answer = answer(&payload);
    stream.write_all(&[header.reply(answer.len()).as_bytes(), &answer].concat()).unwrap();
    (payload, fds)
}

#[test]
fn guest_memory_comes_with_its_descriptor_and_offset() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("device.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        serve(&mut stream, |payload| {
            let mut answer = Vec::new();
            Version::parse(payload).unwrap().answer().encode(true, &mut answer);
            answer
        });
        serve(&mut stream, |_| words(&[16, 3, 9, 5]));
        [(); 3].map(|()| serve(&mut stream, |_| Vec::new()))
    });
    let mut device = Device::attach(&socket).unwrap();

    let memory = Vram::new("preload-dma", 0x8000).unwrap();
    memory.write(0x3000, b"guest").unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.contains("preload-dma")).unwrap();
    let start = u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
    let anonymous = vec![0u8; 0x3000];
    let anonymous = anonymous.as_ptr().addr().next_multiple_of(0x1000) as u64;
    for (flags, vaddr) in [(3, start + 0x2000), (1, start + 0x2000), (3, anonymous)] {
        let map = [words(&[32, flags]), [vaddr, 0xa000, 0x1000].map(u64::to_ne_bytes).concat()].concat();
        device.map_dma(&map).unwrap();
    }

    let [shared, read_only, private] = server.join().unwrap();
    for (payload, flags, offset) in [(&shared.0, 3, 0x2000), (&read_only.0, 1, 0x2000), (&private.0, 3, 0)] {
        assert_eq!((word(payload, 4), long(payload, 8)), (flags, offset));
        assert_eq!((long(payload, 16), long(payload, 24)), (0xa000, 0x1000));
    }
    let file = |mut fds: Vec<OwnedFd>| File::from(fds.pop().unwrap());
    let (shared, read_only) = (file(shared.1), file(read_only.1));
    let mut seen = [0; 5];
    shared.read_exact_at(&mut seen, 0x3000).unwrap();
    assert_eq!(&seen, b"guest");
    shared.write_all_at(b"device", 0x2000).unwrap();
    assert!(read_only.write_all_at(b"device", 0x2000).is_err(), "the guest's ROM is not to be written");
    assert!(private.1.is_empty(), "memory of QEMU's own");
}
