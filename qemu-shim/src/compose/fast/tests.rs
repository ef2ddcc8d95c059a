use proptest::prelude::*;
use vfio_gfx::format::Fourcc;

use super::super::{Canvas, Layer as Plane};
use super::*;
use crate::convert::{AlphaConverter, DeepConverter};

/// A plane's pixels, as a console has them.
enum Owned {
    Eight(Vec<u32>, bool),
    Deep(Vec<u64>),
}

impl Owned {
    fn new(plane: &Plane<'_>) -> Self {
        let size = plane.width as usize * plane.height as usize;
        let width = plane.width.max(1) as usize;
        let rows = plane.bytes.chunks(plane.stride);
        if let Some(converter) = DeepConverter::new(plane.format) {
            let mut pixels = vec![0; size];
            rows.zip(pixels.chunks_mut(width)).for_each(|(src, dst)| converter.convert_row(src, dst));
            return Self::Deep(pixels);
        }
        let converter = AlphaConverter::new(plane.format).unwrap();
        let mut pixels = vec![0; size];
        rows.zip(pixels.chunks_mut(width)).for_each(|(src, dst)| converter.convert_row(src, dst));
        Self::Eight(pixels, plane.format.has_alpha())
    }

    fn pixels(&self) -> Pixels<'_> {
        match self {
            Self::Eight(pixels, true) => Pixels::Premultiplied(pixels),
            Self::Eight(pixels, false) => Pixels::Opaque(pixels),
            Self::Deep(pixels) => Pixels::Deep(pixels),
        }
    }
}

/// Composes planes on a black screen in both ways, and says where they are more than one of 255 steps apart.
pub(in super::super) fn compare_with_canvas(
    width: u32,
    height: u32,
    planes: &[Plane<'_>],
) -> Result<(), String> {
    let mut canvas = Canvas::new(width, height);
    assert!(planes.iter().all(|plane| canvas.blend(plane)));
    let owned: Vec<Owned> = planes.iter().map(Owned::new).collect();
    let layers: Vec<Layer<'_>> = planes
        .iter()
        .zip(&owned)
        .map(|(&Plane { width, height, x, y, .. }, owned)| Layer {
            x,
            y,
            width,
            height,
            pixels: owned.pixels(),
        })
        .collect();
    let mut frame = Frame::new(width, height).unwrap();
    blend(&mut frame, &layers, &[Rect::new(0, 0, width, height)]);
    for (at, (pixel, exact)) in frame.pixels().iter().zip(&canvas.pixels).enumerate() {
        let [_, _, r0, r1, g0, g1, b0, b1] = exact.to_bytes();
        for (shift, exact) in [(16, [r0, r1]), (8, [g0, g1]), (0, [b0, b1])] {
            let exact = u16::from_le_bytes(exact);
            if i32::from(exact).abs_diff((pixel >> shift & 0xff).cast_signed() * 257) > 257 {
                let (x, y) = (at % width as usize, at / width as usize);
                return Err(format!("{pixel:08x} at {x},{y}: channel {shift} should be {exact:04x}"));
            }
        }
        if pixel >> 24 != 0 {
            return Err(format!("{pixel:08x} has a top byte"));
        }
    }
    Ok(())
}

/// Bytes of a format that vkms knows, from random ones; colours multiplied by alpha where there is one.
fn plausible(format: Fourcc, mut bytes: Vec<u8>) -> Vec<u8> {
    match format {
        Fourcc::ARGB8888 => {
            for pixel in bytes.as_chunks_mut::<4>().0 {
                let [.., a] = *pixel;
                pixel[..3].iter_mut().for_each(|c| *c = (*c).min(a));
            }
        }
        Fourcc::ARGB16161616 => {
            for pixel in bytes.as_chunks_mut::<8>().0 {
                let a = u16::from_le_bytes([pixel[6], pixel[7]]);
                for colour in pixel[..6].as_chunks_mut::<2>().0 {
                    *colour = u16::from_le_bytes(*colour).min(a).to_le_bytes();
                }
            }
        }
        _ => {}
    }
    bytes
}

const FORMATS: [Fourcc; 5] =
    [Fourcc::ARGB8888, Fourcc::XRGB8888, Fourcc::RGB565, Fourcc::ARGB16161616, Fourcc::XRGB16161616];

/// A plane of up to 40 x 4 pixels around a screen of 70 x 5; one in three is faint, transparent or nearly opaque.
fn plane() -> impl Strategy<Value = (Fourcc, u32, u32, i32, i32, Vec<u8>)> {
    let alpha =
        prop_oneof![4 => any::<Option<u8>>(), 1 => Just(Some(1)), 1 => Just(Some(0)), 1 => Just(Some(255))];
    let place = (0..110u32, 0..5u32, -60..75i32, -5..6i32);
    (0..FORMATS.len(), place, alpha).prop_flat_map(|(index, (width, height, x, y), alpha)| {
        let format = FORMATS[index];
        let size = (width * height * format.bytes_per_pixel().unwrap()) as usize;
        prop::collection::vec(any::<u8>(), size).prop_map(move |mut bytes| {
            if let Some(alpha) = alpha {
                match format {
                    Fourcc::ARGB8888 => bytes.as_chunks_mut::<4>().0.iter_mut().for_each(|p| p[3] = alpha),
                    Fourcc::ARGB16161616 => {
                        bytes.as_chunks_mut::<8>().0.iter_mut().for_each(|p| p[7] = alpha);
                    }
                    _ => {}
                }
            }
            (format, width, height, x, y, plausible(format, bytes))
        })
    })
}

proptest! {
    #[test]
    fn no_stack_is_off_by_more_than_a_step(planes in prop::collection::vec(plane(), 0..=4)) {
        let planes: Vec<Plane<'_>> = planes.iter().map(|&(format, width, height, x, y, ref bytes)| {
            let stride = (width * format.bytes_per_pixel().unwrap()).max(1) as usize;
            Plane { format, width, height, x, y, stride, bytes }
        }).collect();
        prop_assert_eq!(compare_with_canvas(70, 5, &planes), Ok(()));
    }

    #[test]
    fn only_what_is_asked_for_is_drawn(rects in prop::collection::vec((0..90u32, 0..9u32, 0..90u32, 0..9u32), 0..4),
                                       x in any::<i32>(), y in any::<i32>(), near in (-60..75i32, -5..6i32),
                                       lacking in 0..40usize) {
        let pixels: Vec<u32> = (0..300u32).map(|n| n.wrapping_mul(0x9e37_79b9) & 0x80ff_ffff | 0x2000_0000).collect();
        let pixels = &pixels[..300 - lacking];
        let layers = [
            Layer { x, y, width: 60, height: 5, pixels: Pixels::Opaque(pixels) },
            Layer { x: near.0, y: near.1, width: 60, height: 5, pixels: Pixels::Straight(pixels) },
        ];
        let mut below = Frame::new(70, 7).unwrap();
        below.pixels_mut().iter_mut().zip(0..).for_each(|(pixel, n)| *pixel = n);
        let mut whole = Frame::new(70, 7).unwrap();
        compose(&mut whole, &below, &layers, &[Rect::new(0, 0, u32::MAX, u32::MAX)]);
        let mut part = Frame::new(70, 7).unwrap();
        part.pixels_mut().fill(0xab_cdef);
        let rects: Vec<Rect> = rects.iter().map(|&(x, y, width, height)| Rect { x, y, width, height }).collect();
        compose(&mut part, &below, &layers, &rects);
        for y in 0..7 {
            for x in 0..70 {
                let inside = |rect: &Rect| (rect.x..rect.x + rect.width).contains(&x) && (rect.y..rect.y + rect.height).contains(&y);
                let of = |frame: &Frame| frame.row(y).unwrap()[x as usize];
                let expected = if rects.iter().any(inside) { of(&whole) } else { 0xab_cdef };
                prop_assert_eq!(of(&part), expected, "{},{}", x, y);
            }
        }
    }

    #[test]
    fn straight_alpha_is_multiplied_first(pixels in prop::collection::vec(any::<u32>(), 40), under in 0..1u32 << 24) {
        let deep: Vec<u8> = pixels.iter().flat_map(|pixel| {
            let [b, g, r, a] = pixel.to_le_bytes().map(|channel| u32::from(channel) * 257);
            [b * a / 0xffff, g * a / 0xffff, r * a / 0xffff, a].map(|v| u16::try_from(v).unwrap().to_le_bytes())
        }).flatten().collect();
        let under = [under; 40];
        let bytes: Vec<u8> = under.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
        let plane = |format, stride, bytes| Plane { format, width: 40, height: 1, x: 0, y: 0, stride, bytes };
        let mut canvas = Canvas::new(40, 1);
        assert!(canvas.blend(&plane(Fourcc::XRGB8888, 160, &bytes)));
        assert!(canvas.blend(&plane(Fourcc::ARGB16161616, 320, &deep)));
        let mut frame = Frame::new(40, 1).unwrap();
        frame.pixels_mut().copy_from_slice(&under);
        let layer = Layer { x: 0, y: 0, width: 40, height: 1, pixels: Pixels::Straight(&pixels) };
        blend(&mut frame, &[layer], &[Rect::new(0, 0, 40, 1)]);
        for (pixel, exact) in frame.pixels().iter().zip(&canvas.pixels) {
            let exact = exact.to_bytes();
            for (shift, at) in [(16, 2), (8, 4), (0, 6)] {
                let exact = u16::from_le_bytes([exact[at], exact[at + 1]]);
                prop_assert!(i32::from(exact).abs_diff((pixel >> shift & 0xff).cast_signed() * 257) <= 140);
            }
        }
    }
}

#[test]
fn nothing_overflows_at_the_ends_of_the_world() {
    let pixels = [0x80ff_ffff; 9];
    for x in [i32::MIN, i32::MIN + 2, -3, -1, 7, i32::MAX - 1, i32::MAX] {
        for y in [i32::MIN, -3, 0, i32::MAX] {
            let mut frame = Frame::new(8, 8).unwrap();
            let layer = |pixels| Layer { x, y, width: u32::MAX, height: u32::MAX, pixels };
            let layers = [layer(Pixels::Premultiplied(&pixels)), layer(Pixels::Deep(&[!0; 3]))];
            blend(&mut frame, &layers, &[Rect::new(0, 0, u32::MAX, u32::MAX), Rect::new(u32::MAX, 9, 1, 1)]);
            assert!(frame.pixels().iter().all(|pixel| *pixel == 0), "rows that are missing are not drawn");
        }
    }
}

#[test]
fn rounding_is_exact() {
    for v in 0..=u16::MAX {
        assert_eq!(u32::from(channels::to_8_bits(v)), (u32::from(v) + 128) / 257, "{v}");
    }
}

#[test]
fn a_colour_above_its_alpha_is_added_up_to_white() {
    let mut frame = Frame::new(1, 1).unwrap();
    frame.pixels_mut().fill(0x00f0_1010);
    let layer = Layer { x: 0, y: 0, width: 1, height: 1, pixels: Pixels::Premultiplied(&[0x0020_2030]) };
    blend(&mut frame, &[layer], &[Rect::new(0, 0, 1, 1)]);
    assert_eq!(frame.pixels(), [0x00ff_3040]);
}
