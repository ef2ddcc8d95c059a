//! How many more devices a parent has room for.
//!
//! The kernel's mdpy takes 4 devices in all, whatever their types; its mbochs divides 256 MB of video memory between
//! them. Both are one rule: a type of which N fit alone takes 1/N of its parent. Our own parent, vgfx, goes by it too.

use std::collections::BTreeMap;

use mdev_sample::DeviceType;

use super::definition::{Definition, parent};

/// What a parent has to give: mbochs' megabytes. Each type's count divides it.
const WHOLE: u32 = 256;

/// What each parent has left.
#[derive(Debug, Default)]
pub(crate) struct Room {
    used: BTreeMap<&'static str, u32>,
}

impl Room {
    /// What is left beside these devices.
    pub(crate) fn beside(definitions: &[Definition]) -> Self {
        let mut room = Self::default();
        for Definition { device_type, .. } in definitions {
            let used = room.used.entry(parent(device_type)).or_default();
            *used = used.saturating_add(share(device_type));
        }
        room
    }

    /// How many more of this type fit: sysfs' `available_instances`.
    pub(crate) fn available(&self, device_type: &DeviceType) -> u32 {
        let used = self.used.get(parent(device_type)).copied().unwrap_or(0);
        WHOLE.saturating_sub(used) / share(device_type)
    }
}

fn share(device_type: &DeviceType) -> u32 {
    (WHOLE / device_type.available_instances().max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::super::definition::Start;
    use super::*;
    use mdev_sample::TYPES;
    use uuid::Uuid;

    fn beside(names: &[&str]) -> Room {
        let define =
            |name: &&str| Definition::new(Uuid::new_v4(), DeviceType::find(name).unwrap(), Start::Auto);
        Room::beside(&names.iter().map(define).collect::<Vec<_>>())
    }

    fn available(room: &Room, name: &str) -> u32 {
        room.available(&DeviceType::find(name).unwrap())
    }

    #[test]
    fn an_empty_parent_has_what_its_types_say() {
        for t in TYPES {
            assert_eq!(WHOLE % t.available_instances(), 0, "{}", t.name());
            assert_eq!(Room::default().available(&t), t.available_instances());
        }
    }

    #[test]
    fn types_of_a_parent_share_and_parents_do_not() {
        let room = beside(&["mdpy-vga", "mdpy-hd", "mbochs-medium", "mbochs-large"]);
        assert_eq!((available(&room, "mdpy-vga"), available(&room, "mdpy-xga")), (2, 2));
        // 256 - 16 - 64 = 176 MB.
        assert_eq!(available(&room, "mbochs-small"), 44);
        assert_eq!(available(&room, "mbochs-medium"), 11);
        assert_eq!(available(&room, "mbochs-large"), 2);
        assert_eq!(available(&room, "vgfx-uhd"), 2);
        assert_eq!(available(&beside(&["mdpy-vga"; 5]), "mdpy-vga"), 0, "overcommitted by hand");
    }
}
