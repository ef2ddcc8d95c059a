//! ioctl numbers, by the kind of file descriptor they are issued on.
//!
//! VFIO numbers its ioctls per descriptor kind and reuses them: 0x3b72 is `VFIO_IOMMU_UNMAP_DMA` on a container
//! and `VFIO_DEVICE_QUERY_GFX_PLANE` on a device. A number alone therefore means nothing; [`Ioctl::decode`]
//! takes the kind too.

/// What a VFIO file descriptor refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FdKind {
    /// `/dev/vfio/vfio`: an IOMMU address space.
    Container,
    /// `/dev/vfio/N`: a group of devices.
    Group,
    /// A device, from `VFIO_GROUP_GET_DEVICE_FD` or `/dev/vfio/devices/vfioN`.
    Device,
}

macro_rules! ioctls {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $nr:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum $name { $($(#[$vdoc])* $variant = $nr,)* }

        impl $name {
            /// The ioctl with this request number. Only the low 32 bits of a request are significant: callers
            /// that pass an `int` sign-extend it.
            #[must_use]
            pub const fn from_raw(request: u32) -> Option<Self> {
                match request { $($nr => Some(Self::$variant),)* _ => None }
            }

            /// The request number.
            #[must_use]
            pub const fn raw(self) -> u32 {
                match self { $(Self::$variant => $nr,)* }
            }
        }
    };
}

ioctls! {
    /// ioctls of a container descriptor.
    ContainerIoctl {
        /// `VFIO_GET_API_VERSION`
        GetApiVersion = 0x3b64,
        /// `VFIO_CHECK_EXTENSION`
        CheckExtension = 0x3b65,
        /// `VFIO_SET_IOMMU`
        SetIommu = 0x3b66,
        /// `VFIO_IOMMU_GET_INFO`
        GetInfo = 0x3b70,
        /// `VFIO_IOMMU_MAP_DMA`
        MapDma = 0x3b71,
        /// `VFIO_IOMMU_UNMAP_DMA`
        UnmapDma = 0x3b72,
        /// `VFIO_IOMMU_ENABLE`
        Enable = 0x3b73,
        /// `VFIO_IOMMU_DISABLE`
        Disable = 0x3b74,
        /// `VFIO_IOMMU_DIRTY_PAGES`
        DirtyPages = 0x3b75,
    }
}

ioctls! {
    /// ioctls of a group descriptor.
    GroupIoctl {
        /// `VFIO_GROUP_GET_STATUS`
        GetStatus = 0x3b67,
        /// `VFIO_GROUP_SET_CONTAINER`
        SetContainer = 0x3b68,
        /// `VFIO_GROUP_UNSET_CONTAINER`
        UnsetContainer = 0x3b69,
        /// `VFIO_GROUP_GET_DEVICE_FD`
        GetDeviceFd = 0x3b6a,
    }
}

ioctls! {
    /// ioctls of a device descriptor.
    DeviceIoctl {
        /// `VFIO_DEVICE_GET_INFO`
        GetInfo = 0x3b6b,
        /// `VFIO_DEVICE_GET_REGION_INFO`
        GetRegionInfo = 0x3b6c,
        /// `VFIO_DEVICE_GET_IRQ_INFO`
        GetIrqInfo = 0x3b6d,
        /// `VFIO_DEVICE_SET_IRQS`
        SetIrqs = 0x3b6e,
        /// `VFIO_DEVICE_RESET`
        Reset = 0x3b6f,
        /// `VFIO_DEVICE_GET_PCI_HOT_RESET_INFO`
        GetPciHotResetInfo = 0x3b70,
        /// `VFIO_DEVICE_PCI_HOT_RESET`
        PciHotReset = 0x3b71,
        /// `VFIO_DEVICE_QUERY_GFX_PLANE`
        QueryGfxPlane = 0x3b72,
        /// `VFIO_DEVICE_GET_GFX_DMABUF`
        GetGfxDmabuf = 0x3b73,
        /// `VFIO_DEVICE_IOEVENTFD`
        Ioeventfd = 0x3b74,
        /// `VFIO_DEVICE_FEATURE`
        Feature = 0x3b75,
        /// `VFIO_DEVICE_BIND_IOMMUFD`
        BindIommufd = 0x3b76,
        /// `VFIO_DEVICE_ATTACH_IOMMUFD_PT`
        AttachIommufdPt = 0x3b77,
        /// `VFIO_DEVICE_DETACH_IOMMUFD_PT`
        DetachIommufdPt = 0x3b78,
    }
}

/// An ioctl with the kind of descriptor it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ioctl {
    /// On a container.
    Container(ContainerIoctl),
    /// On a group.
    Group(GroupIoctl),
    /// On a device.
    Device(DeviceIoctl),
}

impl Ioctl {
    /// What `request` means on a descriptor of this kind; `None` is `ENOTTY` to the caller.
    #[must_use]
    pub fn decode(kind: FdKind, request: u32) -> Option<Self> {
        match kind {
            FdKind::Container => ContainerIoctl::from_raw(request).map(Self::Container),
            FdKind::Group => GroupIoctl::from_raw(request).map(Self::Group),
            FdKind::Device => DeviceIoctl::from_raw(request).map(Self::Device),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_means_different_things_on_different_descriptors() {
        assert_eq!(
            Ioctl::decode(FdKind::Container, 0x3b72),
            Some(Ioctl::Container(ContainerIoctl::UnmapDma))
        );
        assert_eq!(Ioctl::decode(FdKind::Device, 0x3b72), Some(Ioctl::Device(DeviceIoctl::QueryGfxPlane)));
        assert_eq!(Ioctl::decode(FdKind::Group, 0x3b72), None);
    }

    #[test]
    fn every_number_survives_a_round_trip() {
        for request in 0x3b00..0x3c00 {
            if let Some(ioctl) = DeviceIoctl::from_raw(request) {
                assert_eq!(ioctl.raw(), request);
            }
        }
        assert_eq!(DeviceIoctl::from_raw(0), None);
        assert_eq!(DeviceIoctl::from_raw(u32::MAX), None);
    }
}
