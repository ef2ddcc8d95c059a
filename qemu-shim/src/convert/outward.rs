//! Pixels of a frame into the format that somebody else wants.

#[cfg(target_arch = "x86_64")]
mod avx2;

use vfio_gfx::format::Fourcc;

/// Converts rows of frames, `0x00RRGGBB`, into one pixel format. Bytes that mean nothing become zero.
///
/// Channels of fewer bits keep their top ones, as everybody's do: a colour that came from such a channel becomes what it was.
#[derive(Debug, Clone, Copy)]
pub struct Outward {
    row: fn(&[u32], &mut [u8]),
    bytes_per_pixel: usize,
}

impl Outward {
    /// The converter for a format; `None` for formats that nobody asks for: those with alpha, or with more than 8 bits.
    #[must_use]
    pub fn new(format: Fourcc) -> Option<Self> {
        let row: fn(&[u32], &mut [u8]) = match format {
            Fourcc::XRGB8888 => |src, dst| each(src, dst, u32::to_le_bytes),
            Fourcc::XBGR8888 => |src, dst| each(src, dst, |pixel| swap(pixel).to_le_bytes()),
            Fourcc::BGRX8888 => |src, dst| each(src, dst, u32::to_be_bytes),
            Fourcc::RGBX8888 => |src, dst| each(src, dst, |pixel| (pixel << 8).to_le_bytes()),
            Fourcc::RGB888 => rgb888,
            Fourcc::BGR888 => bgr888,
            Fourcc::RGB565 => rgb565,
            _ => return None,
        };
        let bytes_per_pixel = usize::try_from(format.bytes_per_pixel()?).ok()?;
        Some(Self { row, bytes_per_pixel })
    }

    /// Bytes from one pixel to the next.
    #[must_use]
    pub fn bytes_per_pixel(&self) -> usize {
        self.bytes_per_pixel
    }

    /// Converts as many pixels as `src` has and `dst` has room for, and leaves the rest of `dst` alone.
    pub fn convert_row(&self, src: &[u32], dst: &mut [u8]) {
        (self.row)(src, dst);
    }
}

/// Applies `pixel` to each pixel.
fn each<const N: usize>(src: &[u32], dst: &mut [u8], pixel: impl Fn(u32) -> [u8; N]) {
    let (pixels, _no_room) = dst.as_chunks_mut::<N>();
    for (out, &rgb) in pixels.iter_mut().zip(src) {
        *out = pixel(rgb);
    }
}

/// Red and blue in each other's place.
fn swap(pixel: u32) -> u32 {
    pixel >> 16 & 0xff | pixel & 0xff00 | (pixel & 0xff) << 16
}

fn rgb565(src: &[u32], dst: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    let done = avx2::rgb565(src, dst);
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    if let (Some(src), Some(dst)) = (src.get(done..), dst.get_mut(2 * done..)) {
        portable_rgb565(src, dst);
    }
}

/// Two pixels are one word, put together before the bits are picked: that takes the fewest vector instructions.
fn portable_rgb565(src: &[u32], dst: &mut [u8]) {
    let pack = |p: u32, q: u32| {
        let red = p >> 8 & 0xf800 | q << 8 & 0xf800_0000;
        let green_blue = p & 0xffff | q << 16;
        red | green_blue >> 5 & 0x07e0_07e0 | green_blue >> 3 & 0x001f_001f
    };
    let (pairs, _) = src.as_chunks::<2>();
    let (places, _) = dst.as_chunks_mut::<4>();
    let whole = pairs.len().min(places.len());
    for (place, &[p, q]) in places.iter_mut().zip(pairs) {
        *place = pack(p, q).to_le_bytes();
    }
    let (Some(src), Some(dst)) = (src.get(2 * whole..), dst.get_mut(4 * whole..)) else { return };
    each(src, dst, |pixel| {
        let [low, high, ..] = pack(pixel, 0).to_le_bytes();
        [low, high]
    });
}

/// Four pixels of 24 bits are three words: single bytes would each be a store.
fn rgb888(src: &[u32], dst: &mut [u8]) {
    let (fours, _) = src.as_chunks::<4>();
    let (places, _) = dst.as_chunks_mut::<12>();
    let whole = fours.len().min(places.len());
    for (place, &[p, q, r, s]) in places.iter_mut().zip(fours) {
        let words = [p | q << 24, q >> 8 | r << 16, r >> 16 | s << 8];
        for (bytes, word) in place.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
    }
    let (Some(src), Some(dst)) = (src.get(4 * whole..), dst.get_mut(12 * whole..)) else { return };
    each(src, dst, |pixel| {
        let [b, g, r, _] = pixel.to_le_bytes();
        [b, g, r]
    });
}

fn bgr888(src: &[u32], dst: &mut [u8]) {
    let mut swapped = [0; 64];
    for (src, dst) in src.chunks(swapped.len()).zip(dst.chunks_mut(3 * swapped.len())) {
        for (out, pixel) in swapped.iter_mut().zip(src) {
            *out = swap(*pixel);
        }
        rgb888(swapped.get(..src.len()).unwrap_or_default(), dst);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Converter;
    use super::*;

    const FORMATS: [Fourcc; 7] = [
        Fourcc::XRGB8888,
        Fourcc::XBGR8888,
        Fourcc::BGRX8888,
        Fourcc::RGBX8888,
        Fourcc::RGB888,
        Fourcc::BGR888,
        Fourcc::RGB565,
    ];

    #[test]
    fn what_came_from_565_becomes_what_it_was() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let mut pixels = vec![0; 1 << 16];
        Converter::new(Fourcc::RGB565).unwrap().convert_row(&bytes, &mut pixels);
        let mut back = vec![0; bytes.len()];
        Outward::new(Fourcc::RGB565).unwrap().convert_row(&pixels, &mut back);
        assert!(bytes == back);
    }

    #[test]
    fn formats_that_would_need_more_have_none() {
        for format in [Fourcc::ARGB8888, Fourcc::XRGB2101010, Fourcc::from_bytes(*b"NV12"), Fourcc::NONE] {
            assert!(Outward::new(format).is_none(), "{format}");
        }
    }

    proptest! {
        #[test]
        fn both_ways_to_565_are_one(pixels in prop::collection::vec(any::<u32>(), 0..150), room in 0..400usize) {
            let (mut bytes, mut portable) = (vec![0xa5; room], vec![0xa5; room]);
            rgb565(&pixels, &mut bytes);
            portable_rgb565(&pixels, &mut portable);
            prop_assert_eq!(bytes, portable);
        }

        #[test]
        fn there_and_back(index in 0..FORMATS.len(), room in 0..400usize,
                          pixels in prop::collection::vec(0..1u32 << 24, 0..150)) {
            let format = FORMATS[index];
            let outward = Outward::new(format).unwrap();
            let mut bytes = vec![0xa5; room];
            outward.convert_row(&pixels, &mut bytes);
            let count = pixels.len().min(room / outward.bytes_per_pixel());
            let (written, rest) = bytes.split_at(count * outward.bytes_per_pixel());
            prop_assert!(rest.iter().all(|byte| *byte == 0xa5));
            let mut back = vec![0; count];
            Converter::new(format).unwrap().convert_row(written, &mut back);
            for (back, pixel) in back.iter().zip(&pixels) {
                if format == Fourcc::RGB565 {
                    let kept = 0x00f8_fcf8;
                    prop_assert_eq!(back & kept, pixel & kept);
                } else {
                    prop_assert_eq!(back, pixel);
                }
            }
        }
    }
}
