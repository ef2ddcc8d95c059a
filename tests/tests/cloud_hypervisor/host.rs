//! A machine with KVM, in which cloud-hypervisor runs beside our programs.
//!
//! QEMU makes it, a processor with AMD's virtualization included: no test needs the computer's `/dev/kvm`, which many lack. What
//! cloud-hypervisor's guest says on its serial line is a file of the machine.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use vfio_gfx_tests::{
    checksum,
    guest::{self, initramfs_of},
    lab::{Kernel, Lab},
    machine::{Config, Ended, Machine},
    picture,
};

/// How long whatever happens in the machine may take, the start of a guest included, which takes a minute on an idle computer.
const SOON: Duration = Duration::from_secs(900);
/// The largest screen of a test, in pixels.
pub(crate) const LARGE: (u32, u32) = (1024, 768);
/// What bochs-drm chooses on an mbochs-small.
pub(crate) const SMALL: (u32, u32) = (800, 600);

/// How many bytes of a screen of text are not black, at least: some lines of white on black.
const LIT: u32 = 10_000;

/// A guest for cloud-hypervisor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linux {
    pub(crate) kernel: Kernel,
    pub(crate) driver: &'static str,
}

impl Linux {
    /// Where the machine has it.
    fn place(self) -> String {
        format!("guest/{}/{}", self.kernel.name(), self.driver)
    }
}

/// The machine.
pub(crate) struct Host {
    machine: Machine,
    picture: Vec<u8>,
}

impl Host {
    /// Boots it, with cloud-hypervisor and its remote control, and all that these guests need.
    #[track_caller]
    pub(crate) fn boot(lab: &Lab, hypervisor: &Path, guests: &[Linux]) -> Self {
        let picture = picture::xrgb8888(LARGE.0, LARGE.1);
        let mut files = vec![
            ("bin/cloud-hypervisor".to_owned(), read(hypervisor)),
            ("bin/ch-remote".to_owned(), read(&hypervisor.with_file_name("ch-remote"))),
        ];
        // Built here, it wants a C library.
        let libraries = lab.root().join("usr/lib/x86_64-linux-gnu");
        for library in ["libc.so.6", "libgcc_s.so.1", "libm.so.6"] {
            files.push((format!("lib/x86_64-linux-gnu/{library}"), read(&libraries.join(library))));
        }
        let loader = "ld-linux-x86-64.so.2";
        files.push((format!("lib64/{loader}"), read(&libraries.join(loader))));
        for guest in guests {
            let Linux { kernel, driver } = *guest;
            let config = guest::Config { kernel, driver, device: "", picture: &picture };
            let initramfs = initramfs_of(lab, config).unwrap_or_else(|e| panic!("{e}"));
            files.push((format!("{}.initramfs", guest.place()), initramfs));
            let vmlinuz = format!("guest/{}/vmlinuz", kernel.name());
            if files.iter().all(|(path, _)| *path != vmlinuz) {
                files.push((vmlinuz, read(&lab.guest(kernel).join("vmlinuz"))));
            }
        }
        for size in [LARGE, SMALL] {
            files.push((format!("picture/{}x{}.ppm", size.0, size.1), ppm(part(&picture, size), size)));
        }
        let mut machine = Machine::boot(
            lab,
            Config {
                kernel: Kernel::Linux612,
                drivers: &[],
                modules: &[
                    "kernel/drivers/crypto/ccp/ccp.ko",
                    "kernel/virt/lib/irqbypass.ko",
                    "kernel/arch/x86/kvm/kvm.ko",
                    "kernel/arch/x86/kvm/kvm-amd.ko",
                ],
                programs: &["mdev-sample", "qemu-shim"],
                files: &files,
                megabytes: 1536,
            },
        );
        machine.success("test -c /dev/kvm && cloud-hypervisor --version");
        machine.success("mkdir /dev/pts && mount -t devpts devpts /dev/pts");
        Self { machine, picture }
    }

    /// Serves a device on `/tmp/NAME.sock`.
    #[track_caller]
    pub(crate) fn serve(&mut self, name: &str, device_type: &str) {
        let serve = format!("mdev-sample serve --type {device_type} --socket /tmp/{name}.sock");
        self.machine.success(&format!("{serve} > /tmp/{name}.log 2>&1 & echo $! > /tmp/{name}.pid"));
        self.eventually(&format!("grep 'ready on' /tmp/{name}.log"));
    }

    /// Ends the server of a device with a signal.
    #[track_caller]
    pub(crate) fn end_server(&mut self, name: &str, signal: &str) {
        self.machine.success(&format!("kill -{signal} $(cat /tmp/{name}.pid)"));
        self.expect_end(&format!("$(cat /tmp/{name}.pid)"));
    }

    /// Starts cloud-hypervisor with a guest and the display `gpu`.
    #[track_caller]
    pub(crate) fn start(&mut self, guest: Linux) {
        let kernel = format!("--kernel /guest/{}/vmlinuz", guest.kernel.name());
        let initramfs = format!("--initramfs /{}.initramfs", guest.place());
        // Nothing that costs the guest time and the test nothing: each exit of a machine in a machine is dear.
        let cmdline = "console=tty1 panic=-1 mitigations=off apparmor=0 audit=0 nowatchdog no_timer_check";
        self.machine.success("rm -f /tmp/vmm.sock");
        self.machine.success(&format!(
            "cloud-hypervisor --api-socket /tmp/vmm.sock --cpus boot=1 --memory size=256M,shared=on {kernel} {initramfs} \
             --cmdline '{cmdline}' --serial pty --console off --user-device id=gpu,socket=/tmp/gpu.sock \
             < /dev/null > /tmp/vmm.log 2>&1 & echo $! > /tmp/vmm.pid"
        ));
        self.attach();
    }

    /// Connects to the guest's serial line, where cloud-hypervisor says it is: a terminal that it makes anew at each boot.
    #[track_caller]
    fn attach(&mut self) {
        self.eventually(
            "terminal=$(ch-remote --api-socket /tmp/vmm.sock info | grep -o '/dev/pts/[0-9]*') && test -c $terminal",
        );
        self.machine.success("exec 3<> $terminal; : > /tmp/said; cat <&3 >> /tmp/said & reader=$!");
    }

    /// Waits until a guest is gone, whose serial line ends with it.
    #[track_caller]
    fn detach(&mut self) {
        self.expect_end("$reader");
        self.machine.success("exec 3>&-");
    }

    /// Waits until the guest has a framebuffer of this size.
    #[track_caller]
    pub(crate) fn expect_ready(&mut self, (width, height): (u32, u32)) {
        self.eventually(&format!("grep 'GUEST: READY {width}x{height} ' /tmp/said"));
    }

    /// Has the guest's shell run a command, and returns its status.
    #[track_caller]
    pub(crate) fn tell(&mut self, command: &str) -> String {
        self.machine.success(&format!(": > /tmp/said; echo '{command}' >&3"));
        let said = self.eventually("grep 'GUEST: ENDED' /tmp/said");
        said.trim().rsplit(' ').next().unwrap_or_default().to_owned()
    }

    /// Has the guest reboot from within.
    #[track_caller]
    pub(crate) fn reboot_guest(&mut self) {
        self.machine.success("echo reboot >&3");
        self.detach();
        self.attach();
    }

    /// Has the VMM reboot the guest, which is not asked.
    #[track_caller]
    pub(crate) fn reboot(&mut self) {
        self.remote("reboot");
        self.detach();
        self.attach();
    }

    /// Has the VMM do what `ch-remote` is told.
    #[track_caller]
    pub(crate) fn remote(&mut self, command: &str) {
        self.machine.success(&format!("ch-remote --api-socket /tmp/vmm.sock {command}"));
    }

    /// Kills the VMM, and waits until it is gone.
    #[track_caller]
    pub(crate) fn kill_vmm(&mut self) {
        self.machine.success("kill -KILL $(cat /tmp/vmm.pid)");
        self.detach();
    }

    /// The guest writes its picture to the framebuffers of this size, as soon as it has one, and the device `name` shows it: in
    /// every pixel, and in its checksum.
    #[track_caller]
    pub(crate) fn show(&mut self, name: &str, size: (u32, u32)) {
        let deadline = Instant::now() + SOON;
        while self.tell(&format!("draw {},{}", size.0, size.1)) != "0" {
            assert!(Instant::now() < deadline, "the guest has no framebuffer of {size:?}");
        }
        self.expect_picture(name, size);
    }

    /// The device shows the picture.
    #[track_caller]
    pub(crate) fn expect_picture(&mut self, name: &str, size: (u32, u32)) {
        let (expected, crc) = (picture_of(size), checksum::vkms(part(&self.picture, size)));
        let device = format!("vfio-user:/tmp/{name}.sock");
        self.eventually(&format!(
            "qemu-shim screendump {device} -o /tmp/{name}.ppm && cmp /tmp/{name}.ppm {expected} && \
             test $(qemu-shim crc {device}) = {crc}"
        ));
    }

    /// The device shows some text, and not the picture.
    #[track_caller]
    pub(crate) fn expect_text(&mut self, name: &str, size: (u32, u32)) {
        let (expected, file) = (picture_of(size), format!("/tmp/{name}.ppm"));
        let is_lit = format!("test $(tr -d '\\0' < {file} | wc -c) -gt {LIT}");
        self.eventually(&format!("qemu-shim screendump vfio-user:/tmp/{name}.sock -o {file} && {is_lit}"));
        let same = self.machine.run(&format!("cmp {file} {expected}"));
        assert_eq!(same.status, 1, "{name}: {}", same.said);
    }

    /// The device shows nothing.
    #[track_caller]
    pub(crate) fn expect_off(&mut self, name: &str) {
        self.eventually(&format!(
            "qemu-shim screendump vfio-user:/tmp/{name}.sock -o /tmp/{name}.ppm 2>&1 | grep 'the display is off'"
        ));
    }

    /// The server of a device logged a line with these words.
    #[track_caller]
    pub(crate) fn expect_log(&mut self, name: &str, words: &str) {
        self.eventually(&format!("grep '{words}' /tmp/{name}.log"));
    }

    /// Waits until a process of the machine has ended, be it that its shell has not noticed yet.
    #[track_caller]
    fn expect_end(&mut self, id: &str) {
        self.eventually(&format!("! grep -qv ' Z ' /proc/{id}/stat 2> /dev/null"));
    }

    /// Runs a command until it succeeds, and returns what it said.
    #[track_caller]
    pub(crate) fn eventually(&mut self, command: &str) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            let Ended { status, said } = self.machine.run(command);
            if status == 0 {
                return said;
            }
            if Instant::now() > deadline {
                let state = self.machine.run("tail -n 20 /tmp/*.log /tmp/said").said;
                panic!("\"{command}\" does not succeed: {said}\n{state}");
            }
            // The guest has the machine's only processor, too.
            thread::sleep(Duration::from_secs(1));
        }
    }
}

/// The part of the picture that fills a screen: the same bytes show differently at another width.
fn part(picture: &[u8], (width, height): (u32, u32)) -> &[u8] {
    &picture[..(width * height * 4) as usize]
}

fn picture_of((width, height): (u32, u32)) -> String {
    format!("/picture/{width}x{height}.ppm")
}

/// The file that a screendump is to be.
fn ppm(xrgb: &[u8], (width, height): (u32, u32)) -> Vec<u8> {
    let mut file = format!("P6\n{width} {height}\n255\n").into_bytes();
    file.extend(xrgb.as_chunks::<4>().0.iter().flat_map(|[b, g, r, _]| [*r, *g, *b]));
    file
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
