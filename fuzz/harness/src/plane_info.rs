//! A plane as a device describes it.

use vfio_gfx::abi::{Interface, PlaneInfo, PlaneKind, PlaneRequest};
use vfio_gfx::plane::{MAX_DIMENSION, Plane};
use zerocopy::{FromZeros, IntoBytes};

use crate::input::Input;

/// Any plane info, with any offset beside it and any size of the memory it is in.
///
/// Oracle: it is a plane, off, or refused; a plane has sane sides, rows within their stride and bytes within its size;
/// whether it fits its memory is what 128-bit arithmetic says; written into a struct it reads as the same plane. The
/// struct as a request is one of the four defined ones or refused.
pub fn plane_info(data: &[u8]) {
    let input = &mut Input::new(data);
    let interface = if input.flag() { Interface::Region } else { Interface::Dmabuf };
    let kind = input.pick(&PlaneKind::ALL);
    let (offset, available) = (input.number64(), input.number64());
    let mut raw = PlaneInfo::new_zeroed();
    if input.flag() {
        let bytes = input.bytes(64);
        raw.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
    } else {
        (raw.argsz, raw.flags, raw.drm_plane_type) = (input.number(), input.number(), input.number());
        raw.drm_format =
            u32::from_le_bytes(input.pick(&[*b"XR24", *b"RG16", *b"XR48", *b"RG24", *b"????", [0; 4]]));
        (raw.width, raw.height, raw.stride, raw.size) =
            (input.number(), input.number(), input.number(), input.number());
        (raw.x_pos, raw.y_pos, raw.x_hot, raw.y_hot) =
            (input.number(), input.number(), input.number(), input.number());
        (raw.drm_format_mod, raw.handle) = (input.number64(), input.number());
    }
    check_request(&raw);
    if let Ok(Some(plane)) = Plane::from_raw(&raw, interface, kind, offset) {
        check_plane(&plane, interface, kind, offset, available);
    }
}

fn check_request(raw: &PlaneInfo) {
    match PlaneRequest::parse(raw) {
        Err(_) => assert!(raw.argsz < 60 || !(2..6).contains(&raw.flags)),
        Ok(request) => {
            assert!(raw.argsz >= 60);
            let sent = request.to_raw();
            assert_eq!(sent.flags, raw.flags);
            assert_eq!(PlaneRequest::parse(&sent), Ok(request));
        }
    }
}

fn check_plane(plane: &Plane, interface: Interface, kind: PlaneKind, offset: u64, available: u64) {
    let geometry = plane.geometry;
    let (width, height) = (u128::from(geometry.width()), u128::from(geometry.height()));
    let sides = 1..=u128::from(MAX_DIMENSION);
    assert!(sides.contains(&width) && sides.contains(&height));
    // A format that is not known has pixels of unknown size; only its first byte is then claimed to be there.
    let pixel = u128::from(plane.format.bytes_per_pixel().unwrap_or(0));
    let stride = u128::from(geometry.stride());
    assert!(stride > 0 && width * pixel <= stride);
    let needed = stride * (height - 1) + width * pixel;
    assert!(needed <= u128::from(plane.size));
    let fits = u128::from(offset) + needed <= u128::from(available);
    assert_eq!(plane.check_within(available).is_ok(), fits, "{plane:?} in {available}");

    let mut raw = PlaneRequest::Query(interface, kind.raw()).to_raw();
    plane.to_raw(&mut raw);
    assert_eq!(Plane::from_raw(&raw, interface, kind, offset), Ok(Some(*plane)));
}
