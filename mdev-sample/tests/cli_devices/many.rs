//! Devices beside each other.

use std::fs;
use std::time::Duration;

use vfio_gfx::vfio_user::Role;

use crate::program::{
    A, B, Serving, attach, complaint, define, program, serve_definitions, socket, until, width,
};

#[test]
fn pairs_of_the_command_line_are_devices_of_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.sock"), dir.path().join("b.sock"));
    let mut command = program(dir.path());
    command.args(["serve", "--type", "mdpy-vga", "--uuid", A, "--socket"]).arg(&a);
    command.args(["--type", "mdpy-hd", "--uuid", B, "--once", "--socket"]).arg(&b);
    let mut serving = Serving::start(&mut command);
    let (first, second) = (serving.ready(), serving.ready());
    assert!(
        first.contains(A) && first.contains("mdpy-vga") && first.trim_end().ends_with("a.sock"),
        "{first}"
    );
    assert!(second.contains(B) && second.contains("mdpy-hd") && second.trim_end().ends_with("b.sock"));
    assert_eq!((width(&a), width(&b)), (640, 1920));
    assert_eq!(serving.status("Threads:"), 1);
    // Each device has a place for a VMM of its own, and goes with it.
    let (vmm_a, vmm_b) = (attach(&a, Role::Vmm), attach(&b, Role::Vmm));
    drop(vmm_a);
    until("the device goes with its VMM", || !a.exists());
    assert_eq!(width(&b), 1920);
    drop(vmm_b);
    let (status, logs) = serving.end();
    assert_eq!(status, Some(0));
    assert!(logs.lines().any(|line| line.contains(A) && line.contains("the VMM is gone")), "{logs}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn one_socket_that_cannot_be_made_ends_all() {
    let dir = tempfile::tempdir().unwrap();
    let a = dir.path().join("a.sock");
    let mut command = program(dir.path());
    command.args(["serve", "--type", "mdpy-vga", "--socket"]).arg(&a);
    command.args(["--type", "mdpy-hd", "--socket", "/nonexistent/b.sock"]);
    let output = command.output().unwrap();
    assert!(complaint(&output).contains("/nonexistent/b.sock"));
    assert!(!a.exists());
}

/// RssAnon is memory of the process's own: video memory is a memfd and counts as shared.
#[test]
fn sixty_four_idle_devices_sleep_and_cost_sixty_four_times_one() {
    let serve = |count: usize| {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..count {
            let uuid = format!("00000000-0000-4000-8000-{number:012}");
            define(&dir, "mbochs", &uuid, r#"{"mdev_type": "mbochs-small", "start": "auto"}"#);
        }
        let mut serving = serve_definitions(&dir);
        for _ in 0..count {
            serving.ready();
        }
        // Its own sockets are the last changes that it hears of.
        std::thread::sleep(Duration::from_millis(500));
        (dir, serving)
    };
    let (_none, nothing) = serve(0);
    let (_one, one) = serve(1);
    let (dir, many) = serve(64);
    let memory = |serving: &Serving| serving.status("RssAnon:");
    let base = memory(&nothing);
    let (one_kib, many_kib) = (memory(&one).saturating_sub(base), memory(&many).saturating_sub(base));
    let switches = many.status("voluntary_ctxt_switches:");
    std::thread::sleep(Duration::from_secs(2));
    let woken = many.status("voluntary_ctxt_switches:") - switches;
    println!("base {base} KiB, one device {one_kib} KiB, 64 devices {many_kib} KiB, {woken} wake-ups in 2 s");
    assert_eq!(woken, 0);
    assert_eq!(many.status("Threads:"), 1);
    // A page more or less is not the device's.
    assert!(many_kib <= 64 * one_kib.max(16), "{many_kib} KiB for 64, {one_kib} KiB for one");
    let last = socket(&dir, "00000000-0000-4000-8000-000000000063");
    attach(&last, Role::Vmm);
}
