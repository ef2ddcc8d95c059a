//! The Debian parts of the lab: what the host needs, the tree, and the kernels installed in it.
//!
//! The tree is Debian "forky", the first with a QEMU that has `vfio-user-pci`; Linux 6.12 comes from
//! "trixie", its long-term release. Versions move within both, so they are asked for, never written down
//! here. Debian 12 is "bookworm", in a tree of its own.

use std::{env, fs, path::Path, process::Command};

use vfio_gfx_tests::lab::Lab;

use crate::shell::{Shell, has, output, remove_tree};

/// Mirror to use, instead of the host's.
const MIRROR: &str = "VFIO_GFX_DEBIAN_MIRROR";
/// Set to 1 for a host whose keyring does not know the mirror's keys.
const UNSIGNED: &str = "VFIO_GFX_DEBIAN_UNSIGNED";

/// What the tree starts with. xz-utils: kernel modules and sources are compressed with it.
const PACKAGES: &str = "qemu-system-x86,seabios,busybox-static,edid-decode,kmod,make,xz-utils";

/// What is wanted of Debian 12: the oldest QEMU that our display is shown by.
const PACKAGES_12: &str = "qemu-system-x86,seabios";

/// Viewers of VNC servers, and what it takes to look at one of them: an X server, a hand for its keyboard, a camera; and a player
/// of recordings.
const VIEWERS: &str = "tigervnc-viewer gvncviewer vncsnapshot xvfb xkb-data xdotool x11-apps python3-venv ca-certificates ffmpeg";

/// A browser, and terminals that show pictures: sixel (xterm), and its own protocol (kitty, which draws with OpenGL).
const WINDOWS: &str = "chromium-headless-shell xterm xfonts-base kitty libgl1-mesa-dri libegl1";

/// A QEMU whose windows are drawn with OpenGL: Mesa's software renderer takes dma-bufs from Mesa 24 on, which Debian 12 has not.
const QEMU_WINDOWS: &str = "qemu-system-x86 qemu-system-gui seabios libgl1-mesa-dri libegl1";

/// The certificates a Debian system trusts, as one file.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The version of vncdotool on the Python Package Index.
const VNCDOTOOL: &str = "1.4.2";

/// The programs provisioning runs on the host, and the packages they are in.
const HOST_PROGRAMS: [(&str, &str); 5] = [
    ("debootstrap", "debootstrap"),
    ("chroot", "coreutils"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
    ("mount", "mount"),
];

/// Installs what provisioning needs on the host, or says what is missing.
pub(crate) fn host_packages(shell: &Shell) -> Result<(), String> {
    let missing = HOST_PROGRAMS.iter().filter(|(program, _)| !has(program));
    let missing: Vec<_> = missing.map(|(_, package)| *package).collect();
    if output(Command::new("id").arg("-u")).as_deref() != Some("0") {
        return Err("building the lab needs root (debootstrap, chroot)".into());
    }
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !has("apt-get") {
        return Err(format!("install these packages first: {list}"));
    }
    println!("lab: installing on this host: {list}");
    let script = format!(
        "export DEBIAN_FRONTEND=noninteractive\napt-get update\napt-get install -y --no-install-recommends {list}"
    );
    shell.run(Command::new("sh").args(["-euc", &script]))
}

/// The mirror to give debootstrap; `None` for its own default.
fn mirror() -> Option<String> {
    if let Ok(mirror) = env::var(MIRROR) {
        return (!mirror.is_empty()).then_some(mirror);
    }
    // Where the host has Debian's own packages from: not its security updates, not other people's.
    let mut apt = Command::new("apt-get");
    apt.args(["indextargets", "--format", "$(REPO_URI)"]);
    apt.args(["Created-By: Packages", "Origin: Debian", "Label: Debian"]);
    let uris = output(&mut apt)?;
    Some(uris.lines().next()?.trim_end_matches('/').to_owned())
}

/// Makes the Debian tree.
pub(crate) fn bootstrap(lab: &Lab, shell: &Shell) -> Result<(), String> {
    // "sid" names the script: older debootstraps know no "forky", and there is no difference.
    debootstrap(shell, "forky", "sid", PACKAGES, &lab.root())
}

/// Makes the tree of Debian 12.
pub(crate) fn bootstrap_12(lab: &Lab, shell: &Shell) -> Result<(), String> {
    debootstrap(shell, "bookworm", "bookworm", PACKAGES_12, &lab.root_12())
}

/// Makes the tree of viewers.
pub(crate) fn viewers(lab: &Lab, shell: &Shell) -> Result<(), String> {
    let root = lab.viewers();
    debootstrap(shell, "forky", "sid", "apt", &root)?;
    let resolver = "/etc/resolv.conf";
    fs::copy(resolver, root.join("etc/resolv.conf")).map_err(|e| format!("{resolver}: {e}"))?;
    // A host behind a proxy with a certificate of its own knows that; the tree does not. No bundle, no such proxy.
    let _ = fs::copy(CERTIFICATES, root.join("tmp/certificates"));
    // noVNC is wanted for its scripts alone; its package depends on a server of its own, and that on much.
    let script = format!(
        "apt-get -o Acquire::Check-Valid-Until=false update
        apt-get install -y --no-install-recommends {VIEWERS}
        cd /tmp; apt-get download novnc; dpkg-deb --extract novnc_*.deb /; rm novnc_*.deb; apt-get clean
        if [ -e certificates ]; then mv certificates {CERTIFICATES}; fi
        python3 -m venv /opt/vncdotool
        /opt/vncdotool/bin/pip install --cert {CERTIFICATES} --no-cache-dir vncdotool=={VNCDOTOOL}
        ln -sf /opt/vncdotool/bin/vncdo /usr/bin/vncdo"
    );
    shell.run(&mut shell.inside(&root, &script))
}

/// Adds to the tree of viewers what is looked at with a browser or in a terminal.
pub(crate) fn windows(lab: &Lab, shell: &Shell) -> Result<(), String> {
    install(&lab.viewers(), WINDOWS, shell)
}

/// Adds to it a QEMU with windows.
pub(crate) fn qemu_windows(lab: &Lab, shell: &Shell) -> Result<(), String> {
    install(&lab.viewers(), QEMU_WINDOWS, shell)
}

/// Installs packages in a tree, and what an interrupted run left undone.
fn install(root: &Path, packages: &str, shell: &Shell) -> Result<(), String> {
    let script = format!(
        "dpkg --configure -a; apt-get -o Acquire::Check-Valid-Until=false update
        apt-get install -y --fix-broken --no-install-recommends {packages}; apt-get clean"
    );
    shell.run(&mut shell.inside(root, &script))
}

/// Makes a tree of a release. It appears when it is complete.
fn debootstrap(
    shell: &Shell,
    release: &str,
    script: &str,
    packages: &str,
    tree: &Path,
) -> Result<(), String> {
    let new = tree.with_extension("new");
    remove_tree(&new)?;
    let unsigned = env::var(UNSIGNED).is_ok_and(|value| value == "1");
    let mut options = vec!["--variant=minbase".to_owned()];
    options.push(format!("--include={packages}"));
    if unsigned {
        options.push("--no-check-gpg".into());
    }
    let options = options.join(" ");
    let script = match mirror() {
        Some(mirror) => format!("debootstrap {options} {release} \"$1\" '{mirror}' {script}"),
        None => format!("debootstrap {options} {release} \"$1\" \"\" {script}"),
    };
    let made = shell.run(&mut shell.script(&script, &[&new]));
    made.map_err(|e| {
        format!(
            "{e}\nanother mirror: {MIRROR}=URL; a mirror whose signature cannot be verified: {UNSIGNED}=1"
        )
    })?;
    remove_tree(tree)?;
    fs::rename(&new, tree).map_err(|e| format!("{}: {e}", tree.display()))
}

/// Installs the guest kernels, and what it takes to build modules for 6.12.
///
/// apt does it in place: interrupted, it is resumed by the next run.
pub(crate) fn install_kernels(lab: &Lab, shell: &Shell) -> Result<(), String> {
    let root = lab.root();
    add_release(&root)?;
    let update = "dpkg --configure -a; apt-get -o Acquire::Check-Valid-Until=false update";
    shell.run(&mut shell.inside(&root, update))?;

    let list = "apt-cache pkgnames linux-";
    let names = output(&mut shell.inside(&root, list)).ok_or("apt-cache pkgnames failed")?;
    let packages = kernel_packages(&names)?.join(" ");
    let install =
        format!("apt-get install -y --fix-broken --no-install-recommends {packages}; apt-get clean");
    shell.run(&mut shell.inside(&root, &install))
}

/// Installs OVMF. A step of its own, so that labs from before it get it without being made again.
pub(crate) fn install_ovmf(lab: &Lab, shell: &Shell) -> Result<(), String> {
    install(&lab.root(), "ovmf", shell)
}

/// Makes "trixie" known to the tree's apt, from the mirror of "forky", and the network reachable.
fn add_release(root: &Path) -> Result<(), String> {
    let sources = root.join("etc/apt/sources.list");
    let failed = |e: std::io::Error| format!("{}: {e}", sources.display());
    let text = fs::read_to_string(&sources).map_err(failed)?;
    let forky = text.lines().find(|line| line.contains(" forky "));
    let forky = forky.ok_or_else(|| format!("{}: no forky in it", sources.display()))?;
    let trixie = forky.replace(" forky ", " trixie ");
    fs::write(&sources, format!("{forky}\n{trixie}\n")).map_err(failed)?;
    let resolver = "/etc/resolv.conf";
    fs::copy(resolver, root.join("etc/resolv.conf")).map(drop).map_err(|e| format!("{resolver}: {e}"))
}

/// The packages to install, out of the names of all packages.
fn kernel_packages(names: &str) -> Result<Vec<String>, String> {
    let releases = |prefix: &str| -> Vec<(Vec<u32>, String)> {
        let names = names.lines().filter_map(|name| name.strip_prefix(prefix));
        let mut releases: Vec<_> =
            names.filter_map(|release| Some((version(release)?, release.to_owned()))).collect();
        releases.sort();
        releases
    };
    let is_612 = |release: &&(Vec<u32>, String)| release.0.starts_with(&[6, 12]);
    let images = releases("linux-image-");
    let headers = releases("linux-headers-");
    let old = headers.iter().rfind(|release| {
        // Headers without their image would be of no use.
        is_612(release) && images.contains(release)
    });
    let (_, old) = old.ok_or("the mirror has no Linux 6.12 for amd64 with its headers")?;
    // Since 7.x the image package is a shell around two others, and drags in what makes an initramfs.
    let split = releases("linux-binary-");
    let new = split.last().or(images.last());
    let (_, new) = new.filter(|release| release.0 >= vec![7]).ok_or_else(|| {
        let newest = new.map_or("none", |(_, release)| release);
        format!("expected Linux 7.0 or later on the mirror, found {newest}")
    })?;
    let mut packages = vec![format!("linux-image-{old}"), format!("linux-headers-{old}")];
    if split.iter().any(|(_, release)| release == new) {
        packages.push(format!("linux-binary-{new}"));
        packages.push(format!("linux-modules-{new}"));
    } else {
        packages.push(format!("linux-image-{new}"));
    }
    Ok(packages)
}

/// The version in the name of a plain kernel's release, as `6.12.9+deb13-amd64`; `None` for all others
/// (`-rt-amd64`, `-cloud-amd64`, `-amd64-unsigned`, meta packages).
fn version(release: &str) -> Option<Vec<u32>> {
    let (version, abi) = release.split_once('+')?;
    let flavour = abi.strip_prefix("deb")?.split_once('-')?.1;
    if flavour != "amd64" {
        return None;
    }
    let numbers = version.split('.').map(|number| number.parse().ok());
    numbers.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &str = "linux-image-6.12.9+deb13-amd64\nlinux-image-6.12.10+deb13-amd64\nlinux-image-6.12.11+deb13-amd64\n\
        linux-headers-6.12.9+deb13-amd64\nlinux-headers-6.12.10+deb13-amd64\nlinux-image-6.12.99+deb13-rt-amd64\n\
        linux-image-6.12.98+deb13-amd64-unsigned\nlinux-image-amd64\nlinux-headers-6.12.11+deb13-common\n\
        linux-image-7.1.2+deb14-amd64\nlinux-headers-7.1.2+deb14-amd64\nlinux-headers-6.12.99+deb13-rt-amd64";

    #[test]
    fn the_newest_plain_kernels_are_chosen() {
        assert_eq!(
            kernel_packages(NAMES).unwrap(),
            [
                "linux-image-6.12.10+deb13-amd64",
                "linux-headers-6.12.10+deb13-amd64",
                "linux-image-7.1.2+deb14-amd64",
            ]
        );
    }

    #[test]
    fn a_split_kernel_is_taken_apart() {
        let names = format!("{NAMES}\nlinux-binary-7.2.1+deb14-amd64\nlinux-image-7.2.1+deb14-amd64");
        assert_eq!(
            kernel_packages(&names).unwrap()[2..],
            ["linux-binary-7.2.1+deb14-amd64", "linux-modules-7.2.1+deb14-amd64"]
        );
    }

    #[test]
    fn what_the_mirror_lacks_is_named() {
        let without_612 = "linux-image-7.1.2+deb14-amd64";
        assert!(kernel_packages(without_612).unwrap_err().contains("6.12"));
        let without_7 = &NAMES[..NAMES.find("linux-image-7").unwrap()];
        let error = kernel_packages(without_7).unwrap_err();
        assert!(error.contains("found 6.12.11+deb13-amd64"), "{error}");
    }
}
