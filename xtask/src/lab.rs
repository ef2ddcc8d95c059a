//! `cargo xtask lab`: builds the lab, step by step.
//!
//! Each step leaves a stamp when it is done, and is not done again unless its recipe changed. What a step
//! makes appears under its name only when complete; what it does to the Debian tree it does through apt,
//! which resumes where it was interrupted.

use std::{
    fs::{self, File},
    path::Path,
    time::Instant,
};

use vfio_gfx_tests::lab::{Kernel, LAYOUT, Lab, READY_STAMP};

use crate::{debian, drivers, shell::Shell};

/// One step of provisioning.
struct Step {
    /// Names the stamp and the log.
    name: &'static str,
    /// Says what the user waits for.
    what: &'static str,
    /// Raise it when the step's result changes: existing labs then do it, and all later ones, again.
    recipe: &'static str,
    make: fn(&Lab, &Shell) -> Result<(), String>,
    /// Tests that need it say that they are skipped where it cannot be had: it takes more than Debian's mirror.
    is_optional: bool,
}

const STEPS: [Step; 10] = [
    Step {
        name: "debian",
        what: "a Debian tree with QEMU (about a minute)",
        recipe: "1",
        make: debian::bootstrap,
        is_optional: false,
    },
    Step {
        name: "kernels",
        what: "Linux 6.12 and the newest Linux, a compiler (about a minute)",
        recipe: "1",
        make: debian::install_kernels,
        is_optional: false,
    },
    Step {
        name: "samples",
        what: "the kernel's mdpy, mdpy-fb and mbochs modules (about a minute)",
        recipe: "1",
        make: drivers::build_samples,
        is_optional: false,
    },
    Step {
        name: "guests",
        what: "kernels and display drivers for guests",
        recipe: "1",
        make: drivers::collect,
        is_optional: false,
    },
    Step {
        name: "debian-12",
        what: "Debian 12 with QEMU 7.2 (about a minute)",
        recipe: "1",
        make: debian::bootstrap_12,
        is_optional: false,
    },
    Step {
        name: "viewers",
        what: "VNC viewers (some minutes)",
        recipe: "1",
        make: debian::viewers,
        is_optional: true,
    },
    Step {
        name: "windows",
        what: "a browser and terminals (about a minute)",
        recipe: "1",
        make: debian::windows,
        is_optional: true,
    },
    Step {
        name: "ovmf",
        what: "OVMF, firmware with UEFI (some seconds)",
        recipe: "1",
        make: debian::install_ovmf,
        is_optional: true,
    },
    Step {
        name: "qemu-windows",
        what: "a QEMU with windows and OpenGL (about a minute)",
        recipe: "1",
        make: debian::qemu_windows,
        is_optional: true,
    },
    Step { name: READY_STAMP, what: "the lab's QEMU runs", recipe: LAYOUT, make: check, is_optional: false },
];

/// Makes the lab complete, or says what stands against it.
pub(crate) fn provision() -> Result<(), String> {
    let lab = Lab::locate()?;
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        return Err("the lab's programs are for x86-64 Linux, and this machine is not".into());
    }
    for dir in ["stamps", "log"] {
        let dir = lab.dir().join(dir);
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    }
    // Two at the same time would undo each other's work. The lock goes with the process.
    let lock_path = lab.dir().join("lock");
    let lock = File::create(&lock_path).and_then(|file| file.lock().map(|()| file));
    let _lock = lock.map_err(|e| format!("{}: {e}", lock_path.display()))?;

    let is_done =
        |step: &Step| fs::read_to_string(lab.stamp(step.name)).is_ok_and(|text| text.trim() == step.recipe);
    let first = STEPS.iter().position(|step| !is_done(step));
    let to_do = &STEPS[first.unwrap_or(STEPS.len())..];
    if !to_do.is_empty() {
        debian::host_packages(&Shell::new(lab.dir().join("log/host")))?;
    }
    // What builds on a step that is done again is done again too.
    for step in to_do {
        remove_stamp(&lab.stamp(step.name))?;
    }
    for (number, step) in (first.unwrap_or_default() + 1..).zip(to_do) {
        println!("lab: [{number}/{}] {} ...", STEPS.len(), step.what);
        let begin = Instant::now();
        let shell = Shell::new(lab.dir().join("log").join(step.name));
        match (step.make)(&lab, &shell) {
            Err(e) if step.is_optional => {
                println!("lab: [{number}/{}] not to be had, and done without: {e}", STEPS.len());
                continue;
            }
            result => result.map_err(|e| format!("lab, step {}: {e}", step.name))?,
        }
        write_stamp(&lab.stamp(step.name), step.recipe)?;
        let seconds = begin.elapsed().as_secs();
        println!("lab: [{number}/{}] done in {seconds} s", STEPS.len());
    }
    println!(
        "lab: ready at {}: Linux {} and {}",
        lab.dir().display(),
        lab.release(Kernel::Linux612)?,
        lab.release(Kernel::Newest)?,
    );
    Ok(())
}

fn remove_stamp(stamp: &Path) -> Result<(), String> {
    match fs::remove_file(stamp) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(format!("{}: {e}", stamp.display())),
        _ => Ok(()),
    }
}

fn write_stamp(stamp: &Path, recipe: &str) -> Result<(), String> {
    let new = stamp.with_extension("new");
    fs::write(&new, format!("{recipe}\n"))
        .and_then(|()| fs::rename(&new, stamp))
        .map_err(|e| format!("{}: {e}", stamp.display()))
}

/// The last step: what the tests start does start.
fn check(lab: &Lab, shell: &Shell) -> Result<(), String> {
    shell.run(lab.qemu().args(["-machine", "help"]))?;
    shell.run(lab.qemu().args(["-device", "vfio-user-pci,help"]))?;
    shell.run(lab.qemu_7_2()?.args(["-machine", "help"]))?;
    shell.run(lab.program("edid-decode").arg("--version"))
}
