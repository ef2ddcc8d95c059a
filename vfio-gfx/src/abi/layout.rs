//! Compile-time proof that our structs are the kernel's, as `vfio-bindings` generated them from its headers.

use core::mem::{align_of, offset_of, size_of};

use vfio_bindings::bindings::vfio as k;

use super::{
    ContainerIoctl, DeviceInfo, DeviceIoctl, EdidRegisters, GroupIoctl, IrqInfo, IrqSet, PlaneInfo,
    RegionInfo,
};

macro_rules! same_layout {
    ($ours:ty, $theirs:ty { $($field:ident),* }) => {
        const _: () = {
            assert!(size_of::<$ours>() == size_of::<$theirs>());
            assert!(align_of::<$ours>() == align_of::<$theirs>());
            $(assert!(offset_of!($ours, $field) == offset_of!($theirs, $field));)*
        };
    };
}

same_layout!(
    PlaneInfo,
    k::vfio_device_gfx_plane_info {
        argsz,
        flags,
        drm_plane_type,
        drm_format,
        drm_format_mod,
        width,
        height,
        stride,
        size,
        x_pos,
        y_pos,
        x_hot,
        y_hot,
        reserved
    }
);
same_layout!(DeviceInfo, k::vfio_device_info { argsz, flags, num_regions, num_irqs, cap_offset });
same_layout!(RegionInfo, k::vfio_region_info { argsz, flags, index, cap_offset, size, offset });
same_layout!(IrqInfo, k::vfio_irq_info { argsz, flags, index, count });
same_layout!(
    EdidRegisters,
    k::vfio_region_gfx_edid { edid_offset, edid_max_size, edid_size, max_xres, max_yres, link_state }
);

// vfio_irq_set ends in a flexible array; the fixed part is what we mirror.
const _: () = {
    assert!(size_of::<IrqSet>() == offset_of!(k::vfio_irq_set, data));
    assert!(offset_of!(IrqSet, count) == offset_of!(k::vfio_irq_set, count));
};

// The union of region_index and dmabuf_id stands where our `handle` does.
const _: () =
    assert!(offset_of!(PlaneInfo, handle) == offset_of!(k::vfio_device_gfx_plane_info, __bindgen_anon_1));

/// `_IO(VFIO_TYPE, VFIO_BASE + n)`: no size and no direction bits, so the number is type and sequence alone.
const fn io(n: u32) -> u32 {
    match k::VFIO_BASE.checked_add(n) {
        Some(sequence) => u32::from_be_bytes([0, 0, k::VFIO_TYPE, 0]) | sequence,
        None => 0,
    }
}

const _: () = {
    assert!(ContainerIoctl::GetApiVersion.raw() == io(0));
    assert!(ContainerIoctl::UnmapDma.raw() == io(14));
    assert!(GroupIoctl::GetStatus.raw() == io(3));
    assert!(DeviceIoctl::GetInfo.raw() == io(7));
    assert!(DeviceIoctl::QueryGfxPlane.raw() == io(14));
    assert!(DeviceIoctl::GetGfxDmabuf.raw() == io(15));
    assert!(DeviceIoctl::DetachIommufdPt.raw() == io(20));
};
