//! What only a message can be.

use mdev_sample::DeviceType;
use mdev_sample::abi_fuzz::RemoteTarget;
use vfio_gfx::abi::Errno;
use vfio_gfx::vfio_user::{Client, ClientError, Command, Role};

use super::served::Served;

/// A message has no memory behind it: one that is shorter than its struct is `EINVAL`, where an ioctl is `EFAULT`.
#[test]
fn messages_that_are_too_short() {
    let served = Served::new(DeviceType::find("vgfx-hd").unwrap());
    let mut client = Client::connect(&served.path, Role::Vmm).unwrap();
    let commands = [
        (Command::GetInfo, 16),
        (Command::GetRegionInfo, 32),
        (Command::GetIrqInfo, 16),
        (Command::SetIrqs, 20),
        (Command::RegionRead, 16),
        (Command::RegionWrite, 16),
        (Command::QueryGfxPlane, 64),
        (Command::GetGfxDmabuf, 8),
    ];
    for (command, needed) in commands {
        for len in 0..needed {
            let mut payload = vec![0; len];
            payload.iter_mut().take(4).zip(64u32.to_ne_bytes()).for_each(|(slot, byte)| *slot = byte);
            let result = client.call(command, &[&payload], |_, _| Ok(()));
            let refused = matches!(result, Err(ClientError::Refused { errno: Errno::EINVAL, .. }));
            assert!(refused, "{command:?} of {len} bytes: {result:?}");
        }
    }
    // The device is none the worse for it, and the place of the VMM is free when the client has gone.
    drop(client);
    assert!(RemoteTarget::connect(&served.path).is_ok());
}
