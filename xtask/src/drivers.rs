//! Kernels and display drivers for guests, taken out of the Debian tree or built in it.
//!
//! Guests have only busybox to load modules with, so modules are decompressed and put in load order here.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use vfio_gfx_tests::lab::{Kernel, Lab};

use crate::shell::{Shell, remove_tree};

/// Builds the sample display drivers of Linux 6.12 (samples/vfio-mdev), which Debian does not, among its
/// other modules.
pub(crate) fn build_samples(lab: &Lab, shell: &Shell) -> Result<(), String> {
    let release = release(&lab.root(), Kernel::Linux612)?;
    let script = format!(
        r#"
rm -rf /src; mkdir /src; cd /src
apt-get -o APT::Sandbox::User=root download linux-source-6.12
dpkg-deb --fsys-tarfile linux-source-6.12_*.deb |
    tar -xO ./usr/src/linux-source-6.12.tar.xz |
    tar -xJ --wildcards --strip-components=2 '*/samples/vfio-mdev/*'
rm linux-source-6.12_*.deb
cd vfio-mdev
echo 'obj-m := mdpy-fb.o mdpy.o mbochs.o' > Makefile
make -j2 -C '/lib/modules/{release}/build' M="$PWD" modules
mkdir -p '/lib/modules/{release}/extra'
cp ./*.ko '/lib/modules/{release}/extra/'
depmod '{release}'
"#
    );
    shell.run(&mut shell.inside(&lab.root(), &script))
}

/// Puts each kernel and its drivers where the tests take them from.
pub(crate) fn collect(lab: &Lab, shell: &Shell) -> Result<(), String> {
    let (guest, new) = (lab.dir().join("guest"), lab.dir().join("guest.new"));
    remove_tree(&new)?;
    for (kernel, drivers) in [
        (
            Kernel::Linux612,
            // mdpy and mbochs: devices in a guest, for consoles that run there.
            &["bochs", "mdpy-fb", "mdpy", "mbochs"][..],
        ),
        (Kernel::Newest, &["bochs"]),
    ] {
        let release = release(&lab.root(), kernel)?;
        let dir = new.join(kernel.name());
        create_dir(&dir)?;
        write(&dir.join("release"), format!("{release}\n").as_bytes())?;
        copy(&vmlinuz(&lab.root(), &release)?, &dir.join("vmlinuz"))?;
        let depmod = format!("depmod '{release}'");
        shell.run(&mut shell.inside(&lab.root(), &depmod))?;
        for driver in drivers {
            collect_driver(lab, shell, &release, driver, &dir.join("drivers"))?;
        }
    }
    remove_tree(&guest)?;
    fs::rename(&new, &guest).map_err(|e| format!("{}: {e}", guest.display()))
}

/// Copies `driver` and all it depends on to `drivers/DRIVER/NN-MODULE.ko`.
fn collect_driver(
    lab: &Lab,
    shell: &Shell,
    release: &str,
    driver: &str,
    drivers: &Path,
) -> Result<(), String> {
    let modules = lab.root().join("usr/lib/modules").join(release);
    let list = modules.join("modules.dep");
    let text = fs::read_to_string(&list).map_err(|e| format!("{}: {e}", list.display()))?;
    let order = load_order(&text, driver)
        .ok_or_else(|| format!("{}: expected {driver}, found none", list.display()))?;
    let dir = drivers.join(driver);
    create_dir(&dir)?;
    for (number, module) in order.iter().enumerate() {
        let file = dir.join(format!("{number:02}-{}.ko", module_name(module)));
        let from = modules.join(module);
        match from.extension().and_then(|extension| extension.to_str()) {
            Some("ko") => copy(&from, &file)?,
            Some("xz") => {
                // The host may have no xz; the tree has.
                let mut xz = lab.program("xz");
                let unpack = xz.args(["-dc", "--"]).arg(&from).output();
                let unpack = unpack.map_err(|e| format!("xz: {e}"))?;
                if !unpack.status.success() {
                    let said = String::from_utf8_lossy(&unpack.stderr);
                    return Err(format!("xz: {}: {}", from.display(), said.trim()));
                }
                write(&file, &unpack.stdout)?;
            }
            _ => {
                return Err(format!("expected a module .ko or .ko.xz, found {}", from.display()));
            }
        }
    }
    shell.run(Command::new("ls").arg("-l").arg(&dir))
}

/// The files to load for `driver`, itself last, out of depmod's list: `MODULE: DEPENDENCY...`, where each
/// dependency comes before what it depends on itself.
fn load_order<'a>(dependencies: &'a str, driver: &str) -> Option<Vec<&'a str>> {
    let mut lines = dependencies.lines().filter_map(|line| line.split_once(':'));
    let (module, others) = lines.find(|(module, _)| module_name(module) == driver)?;
    let mut order = vec![module];
    order.extend(others.split_whitespace());
    order.reverse();
    Some(order)
}

/// `bochs` for `kernel/drivers/gpu/drm/tiny/bochs.ko.xz`.
fn module_name(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file)
}

/// The release of the kernel that the tree has installed as `kernel`.
fn release(root: &Path, kernel: Kernel) -> Result<String, String> {
    let dir = root.join("usr/lib/modules");
    let failed = |e: std::io::Error| format!("{}: {e}", dir.display());
    let mut releases = Vec::new();
    for entry in fs::read_dir(&dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        releases.push(name.to_string_lossy().into_owned());
    }
    // One of each is installed; by number, so that 10 is newer than 9.
    releases.sort_by_key(|release| version(release));
    let wanted = |release: &&String| match kernel {
        Kernel::Linux612 => version(release).starts_with(&[6, 12]),
        Kernel::Newest => version(release) >= vec![7],
    };
    let found = releases.iter().rfind(wanted).cloned();
    found.ok_or_else(|| format!("{}: expected {}, found {releases:?}", dir.display(), kernel.name()))
}

/// The numbers a release begins with.
fn version(release: &str) -> Vec<u32> {
    let end = release.find(|c: char| c != '.' && !c.is_ascii_digit());
    let numbers = &release[..end.unwrap_or(release.len())];
    numbers.split('.').map_while(|number| number.parse().ok()).collect()
}

/// The kernel itself: it moved from /boot to its modules in Debian's 7.x packages.
fn vmlinuz(root: &Path, release: &str) -> Result<PathBuf, String> {
    let places = [
        root.join(format!("usr/lib/modules/{release}/vmlinuz")),
        root.join(format!("boot/vmlinuz-{release}")),
    ];
    let found = places.iter().find(|place| place.is_file()).cloned();
    found.ok_or_else(|| format!("expected the kernel at one of {places:?}, found none"))
}

fn create_dir(dir: &Path) -> Result<(), String> {
    fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let copied = fs::copy(from, to);
    copied.map(drop).map_err(|e| format!("{} to {}: {e}", from.display(), to.display()))
}

fn write(path: &Path, data: &[u8]) -> Result<(), String> {
    fs::write(path, data).map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_loaded_before_what_needs_them() {
        let list = "kernel/a/drm.ko.xz:\nkernel/b/bochs-extra.ko: kernel/a/drm.ko.xz\n\
                    kernel/b/bochs.ko.xz: kernel/b/helper.ko.xz kernel/a/drm.ko.xz\n";
        assert_eq!(
            load_order(list, "bochs").unwrap(),
            ["kernel/a/drm.ko.xz", "kernel/b/helper.ko.xz", "kernel/b/bochs.ko.xz"]
        );
        assert_eq!(load_order(list, "mdpy"), None);
    }

    #[test]
    fn releases_are_compared_by_number() {
        assert!(version("6.12.10+deb13-amd64") > version("6.12.9+deb13-amd64"));
        assert_eq!(version("7.2.12+deb14-amd64"), [7, 2, 12]);
        assert_eq!(version("extra"), [0; 0]);
    }
}
