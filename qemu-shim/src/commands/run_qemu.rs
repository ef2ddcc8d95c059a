//! `qemu-shim run-qemu`: a device and a stock QEMU with `vfio-user-pci`, started and ended together.

use std::error::Error;
use std::ffi::OsString;

use clap::Args;
use mdev_sample::{DeviceType, UnknownType};
use serde_json::json;

use super::vmm;

#[derive(Debug, Args)]
pub(super) struct RunQemu {
    /// The device's type; see `mdev-sample types`.
    #[arg(value_name = "TYPE", value_parser = find)]
    device_type: DeviceType,
    /// The device's expansion ROM, by QEMU's name for it: vgabios-bochs-display.bin gives mbochs-* and vgfx-* a screen in SeaBIOS.
    #[arg(long, value_name = "FILE")]
    romfile: Option<String>,
    /// QEMU (10.1 or later) and its arguments.
    #[arg(last = true, required = true, value_name = "qemu-system-x86_64 ARGS")]
    command: Vec<OsString>,
}

fn find(name: &str) -> Result<DeviceType, UnknownType> {
    DeviceType::find(name)
}

impl RunQemu {
    /// QEMU cannot show such a device: consoles do, at the socket that is announced.
    pub(super) fn run(&self) -> Result<(), Box<dyn Error>> {
        let (dir, socket) = vmm::private_socket()?;
        let served = vmm::Served::start(&self.device_type, &socket)?;
        vmm::announce(self.device_type.name(), &socket);
        // QEMU takes a socket in JSON only.
        let mut device = json!({
            "driver": "vfio-user-pci",
            "id": "vfio-gfx",
            "socket": { "type": "unix", "path": socket.to_str().ok_or("the temporary directory's name is not UTF-8")? },
        });
        if let Some(romfile) = &self.romfile {
            device["romfile"] = json!(romfile);
        }
        let status = vmm::run(vmm::command(&self.command)?.arg("-device").arg(device.to_string()));
        drop((served, dir));
        vmm::end_as(status?)
    }
}
