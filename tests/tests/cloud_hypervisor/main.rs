//! A real cloud-hypervisor with our displays and Linux' own driver: boot, reboot, hot-plug, a VMM that is killed, a server that is.
//!
//! cloud-hypervisor is no part of this project and of its lab: the environment variable [`PROGRAM`] names one, which has `ch-remote`
//! beside it. Without it, or without a lab, these tests are skipped.

mod host;

use std::path::PathBuf;

use vfio_gfx_tests::{
    lab::{Kernel, Lab},
    skip,
};

use host::{Host, LARGE, Linux, SMALL};

/// Environment variable that names a cloud-hypervisor.
const PROGRAM: &str = "VFIO_GFX_CLOUD_HYPERVISOR";

const LINUX_6_12: Linux = Linux { kernel: Kernel::Linux612, driver: "bochs" };
const NEWEST: Linux = Linux { kernel: Kernel::Newest, driver: "bochs" };

fn host(test: &str, guests: &[Linux]) -> Option<Host> {
    let Some(hypervisor) = std::env::var_os(PROGRAM).filter(|path| !path.is_empty()).map(PathBuf::from)
    else {
        skip(test, &format!("{PROGRAM} names no cloud-hypervisor"));
        return None;
    };
    assert!(hypervisor.is_file(), "{PROGRAM}: no file {}", hypervisor.display());
    Lab::for_test(test).map(|lab| Host::boot(&lab, &hypervisor, guests))
}

/// Linux shows its text and a picture; once more after the guest rebooted, and after the VMM had it rebooted. A second display comes
/// and goes while the first stays as it was.
#[test]
fn a_guest_boots_reboots_and_is_given_a_second_display() {
    let Some(mut host) = host("a_guest_boots_reboots_and_is_given_a_second_display", &[LINUX_6_12]) else {
        return;
    };
    host.serve("gpu", "mbochs-medium");
    host.start(LINUX_6_12);
    host.expect_ready(LARGE);
    host.expect_text("gpu", LARGE);
    host.show("gpu", LARGE);

    host.reboot_guest();
    host.expect_ready(LARGE);
    host.expect_text("gpu", LARGE);
    host.show("gpu", LARGE);

    host.serve("second", "mbochs-small");
    host.remote("add-user-device id=second,socket=/tmp/second.sock");
    host.show("second", SMALL);
    host.expect_picture("gpu", LARGE);
    host.remote("remove-device second");
    host.expect_log("second", "the VMM is gone");
    host.expect_off("second");
    host.remote("add-user-device id=second,socket=/tmp/second.sock");
    host.show("second", SMALL);

    // Both are there from the start this time.
    host.reboot();
    host.expect_ready(LARGE);
    host.expect_text("gpu", LARGE);
    host.show("gpu", LARGE);
    host.show("second", SMALL);
}

/// A VMM that was killed leaves its last picture, and is followed by another on the same server. A server that is killed takes the
/// display with it, and neither the VMM nor its guest; the next one is plugged in like another display.
#[test]
fn a_vmm_is_killed_and_a_server_is() {
    let Some(mut host) = host("a_vmm_is_killed_and_a_server_is", &[NEWEST]) else { return };
    host.serve("gpu", "mbochs-medium");
    host.start(NEWEST);
    host.expect_ready(LARGE);
    host.show("gpu", LARGE);

    host.kill_vmm();
    host.expect_log("gpu", "the VMM is gone; the device keeps its state");
    host.expect_picture("gpu", LARGE);
    host.start(NEWEST);
    host.expect_ready(LARGE);
    host.expect_text("gpu", LARGE);
    host.show("gpu", LARGE);

    host.end_server("gpu", "KILL");
    assert_eq!(host.tell("true"), "0", "the guest goes on");
    host.remote("remove-device gpu");
    host.serve("gpu", "mbochs-medium");
    host.remote("add-user-device id=again,socket=/tmp/gpu.sock");
    host.show("gpu", LARGE);
}
