//! What happens to the files of a device: its socket is removed, its guest's memory is on a disk that is full.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Signal;
use vfio_gfx::memory::{DmaAccess, GuestMemory, GuestMemoryError};
use vfio_gfx_tests::process::Running;
use vfio_gfx_tests::programs::program;
use vfio_gfx_tests::skip;
use vfio_gfx_tests::vmm::{
    GUEST_PLANE, attach_when_free, console, guest_memory, guest_plane, look, whole_life,
};

const PATIENCE: Duration = Duration::from_secs(60);

fn serve(socket: &Path) -> Running {
    let mut command = Command::new(program("mdev-sample"));
    command.args(["serve", "--type", "vgfx-hd", "--socket"]).arg(socket);
    let mut server = Running::start("mdev-sample", &command);
    server.expect_line("ready on", PATIENCE);
    server
}

#[test]
fn a_socket_that_somebody_removed_is_gone_for_new_clients_only() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("a.sock");
    let mut first = serve(&socket);
    let mut display = console(&socket).unwrap();
    fs::remove_file(&socket).unwrap();
    look(&mut display).unwrap();
    assert!(console(&socket).is_err());
    // Another server may take the place, and keeps it when the first one ends.
    let mut second = serve(&socket);
    whole_life(&socket).unwrap();
    look(&mut display).unwrap();
    first.signal(Signal::TERM);
    assert!(first.wait(PATIENCE).success());
    whole_life(&socket).unwrap();
    second.signal(Signal::TERM);
    assert!(second.wait(PATIENCE).success());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// A VMM cuts its guest's memory short while it is on the screen: that screen is an error or off, and nothing else is.
#[test]
fn guest_memory_that_shrinks_while_it_is_shown_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("a.sock");
    let mut server = serve(&socket);
    // udmabuf takes no memory that can shrink at all.
    if !Path::new("/dev/udmabuf").exists() {
        assert_eq!(guest_plane(&socket).unwrap(), Some(GUEST_PLANE), "whole memory is shown");
    }
    for left in [0, 4096] {
        let memory = guest_memory();
        let cut = File::from(memory.try_clone().unwrap());
        let mut vmm = attach_when_free(&socket).unwrap();
        vmm.grant(memory).unwrap();
        vmm.show_guest_memory().unwrap();
        cut.set_len(left).unwrap();
        let mut display = console(&socket).unwrap();
        let looked = look(&mut display);
        assert!(!matches!(looked, Ok(Some(_))), "{left} bytes are left, and there is a picture");
        vmm.mode(640, 480).unwrap();
        drop(vmm);
        assert!(server.is_running(), "{}", server.said());
    }
    whole_life(&socket).unwrap();
}

/// A file on a tmpfs of 64 KiB that is full but for it; it has 1 MiB of holes.
fn sparse_file_on_a_full_tmpfs() -> Result<File, String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "full"]).arg(dir.path()).output();
    let mounted = mounted.map_err(|e| format!("mount: {e}"))?;
    if !mounted.status.success() {
        return Err(format!("mount: {}", String::from_utf8_lossy(&mounted.stderr).trim_end()));
    }
    let prepared = (|| {
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).open(dir.path().join("memory"))?;
        file.set_len(1 << 20)?;
        // As much as there is room for.
        let _ = fs::write(dir.path().join("ballast"), vec![0; 1 << 20]);
        Ok(file)
    })();
    // The open file keeps the file system.
    let unmounted = Command::new("umount").arg("--lazy").arg(dir.path()).status();
    assert!(unmounted.is_ok_and(|status| status.success()), "umount {}", dir.path().display());
    prepared.map_err(|e: std::io::Error| e.to_string())
}

#[test]
fn guest_memory_on_a_full_disk_can_be_read_and_says_that_it_cannot_be_written() {
    let file = match sparse_file_on_a_full_tmpfs() {
        Ok(file) => file,
        Err(why) => {
            return skip("guest_memory_on_a_full_disk_can_be_read_and_says_that_it_cannot_be_written", &why);
        }
    };
    let memory = GuestMemory::default();
    let all = DmaAccess::READ | DmaAccess::WRITE;
    memory.map(0, 1 << 20, all, Some((file.into(), 0))).unwrap();
    let mut byte = [1];
    memory.read(0x8000, &mut byte).unwrap();
    assert_eq!(byte, [0], "a hole");
    let error = memory.write(0x8000, &[1]).unwrap_err();
    let GuestMemoryError::Io { address: 0x8000, source } = error else { panic!("{error:?}") };
    assert_eq!(Errno::from_io_error(&source), Some(Errno::NOSPC));
}
