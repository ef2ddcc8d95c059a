//! What a client that knows only the specification sees.

mod client;
mod reference;

use proptest::prelude::*;

use self::client::Client;
use self::reference::Reference;
use super::*;

/// 32, 16 and 8 bits, both byte orders, odd places and maxima, a colour map.
const FORMATS: [[u8; 16]; 12] = [
    [32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0],
    [32, 24, 1, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0],
    [32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16, 0, 0, 0],
    [32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 24, 16, 8, 0, 0, 0],
    [32, 24, 1, 1, 0, 255, 0, 255, 0, 255, 8, 24, 16, 0, 0, 0],
    [32, 32, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0],
    [32, 30, 0, 1, 3, 255, 3, 255, 3, 255, 20, 10, 0, 0, 0, 0],
    [16, 16, 0, 1, 0, 31, 0, 63, 0, 31, 11, 5, 0, 0, 0, 0],
    [16, 15, 1, 1, 0, 31, 0, 31, 0, 31, 10, 5, 0, 0, 0, 0],
    [16, 12, 0, 1, 0, 9, 0, 15, 0, 5, 0, 4, 12, 0, 0, 0],
    [8, 8, 0, 1, 0, 7, 0, 7, 0, 3, 0, 3, 6, 0, 0, 0],
    [8, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
];

const ENCODINGS: [Encoding; 5] =
    [Encoding::Raw, Encoding::Zlib, Encoding::Zrle, Encoding::Tight, Encoding::TightPng];

fn settings(encoding: Encoding, format: &[u8; 16], level: u8, quality: Option<u8>) -> Settings {
    Settings { encoding, format: PixelFormat::parse(format).unwrap(), level, quality }
}

/// What is painted between two updates: an area in one of several manners.
#[derive(Clone, Debug)]
struct Stroke {
    rect: Rect,
    manner: u8,
    seed: u32,
}

fn paint(frame: &mut Frame, stroke: &Stroke) {
    let rect = stroke.rect.clipped(frame.width(), frame.height());
    let mut noise = stroke.seed | 1;
    for y in rect.y..rect.y + rect.height {
        let row = frame.row_mut(y).unwrap().iter_mut();
        for (pixel, x) in row.zip(0u32..).skip(rect.x as usize).take(rect.width as usize) {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let random = noise >> 8;
            *pixel = match stroke.manner {
                // One colour, a few, runs of a few, many, a slope, noise.
                0 => stroke.seed,
                1 => (random % 2).wrapping_mul(stroke.seed),
                2 => ((random >> 7) % 13).wrapping_mul(stroke.seed),
                3 => ((x / 9 + y) % 100).wrapping_mul(stroke.seed),
                4 => (x + y * 3) << 8 | y,
                _ => random,
            } & 0x00ff_ffff;
        }
    }
}

fn rect(width: u32, height: u32) -> impl Strategy<Value = Rect> {
    (0..width, 0..height, 1..=width, 1..=height).prop_map(|(x, y, w, h)| Rect::new(x, y, w, h))
}

fn stroke() -> impl Strategy<Value = Stroke> {
    (rect(700, 150), 0..6u8, any::<u32>()).prop_map(|(rect, manner, seed)| Stroke { rect, manner, seed })
}

type Update = (Vec<Stroke>, Vec<Rect>);

fn updates() -> impl Strategy<Value = Vec<Update>> {
    let strokes = prop::collection::vec(stroke(), 0..4);
    prop::collection::vec((strokes, prop::collection::vec(rect(700, 150), 0..4)), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_client_sees_the_frame(
        encoding in prop::sample::select(&ENCODINGS[..]), format in prop::sample::select(&FORMATS[..]),
        level in 0..=9u8, size in (1..700u32, 1..150u32), updates in updates(), late in 0..4usize,
    ) {
        let settings = settings(encoding, &format, level, None);
        let reference = Reference::new(&format);
        let mut frame = Frame::new(size.0, size.1).unwrap();
        let mut encoder = Encoder::new(&settings);
        let mut encoded = Encoded::default();
        // Two clients for the same bytes, one of whom comes later.
        let mut clients = [Client::new(&format, size.0, size.1), Client::new(&format, size.0, size.1)];
        let mut expected = [vec![0; frame.pixels().len()], vec![0; frame.pixels().len()]];
        for (number, (strokes, rects)) in updates.iter().enumerate() {
            strokes.iter().for_each(|stroke| paint(&mut frame, stroke));
            encoder.encode_update(&frame, rects, &mut encoded).unwrap();
            let from = usize::from(number < late);
            for (client, expected) in clients.iter_mut().zip(&mut expected).take(2 - from) {
                client.update(&encoded);
                for rect in rects {
                    reference.copy(&frame, *rect, expected);
                }
                prop_assert!(client.pixels == *expected, "update {} of {:?}", number, settings);
            }
        }
    }

    #[test]
    fn every_accepted_format_is_decoded(
        encoding in prop::sample::select(&ENCODINGS[..]), stroke in stroke(), big_endian in 0..=1u8,
        bits in prop::sample::select(&[8u8, 16, 32][..]), depth in 1..=32u8, maxima: [u16; 3],
        narrow in 0..16u32, shifts in [0..32u8, 0..32u8, 0..32u8],
    ) {
        let [[r1, r0], [g1, g0], [b1, b0]] = maxima.map(|max| (max >> narrow).to_be_bytes());
        let [r, g, b] = shifts;
        let bytes = [bits, depth, big_endian, 1, r1, r0, g1, g0, b1, b0, r, g, b, 0, 0, 0];
        let Ok(format) = PixelFormat::parse(&bytes) else { return Ok(()) };
        let settings = Settings { encoding, format, level: 5, quality: None };
        let mut frame = Frame::new(200, 90).unwrap();
        paint(&mut frame, &stroke);
        let rect = Rect::new(3, 5, 190, 80);
        let mut encoded = Encoded::default();
        Encoder::new(&settings).encode_update(&frame, &[rect], &mut encoded).unwrap();
        let mut client = Client::new(&bytes, 200, 90);
        client.update(&encoded);
        let mut expected = vec![0; frame.pixels().len()];
        Reference::new(&bytes).copy(&frame, rect, &mut expected);
        prop_assert!(client.pixels == expected, "{:?}", settings);
    }
}

/// 640 × 200: one colour at the left, text-like in the middle, a photograph with grain at the right.
fn picture() -> Frame {
    let mut frame = Frame::new(640, 200).unwrap();
    for y in 0..200 {
        for (pixel, x) in frame.row_mut(y).unwrap().iter_mut().zip(0u32..) {
            let wave = |period: u32| (x % period).abs_diff(period / 2) + (y % period).abs_diff(period / 2);
            *pixel = match x {
                0..256 => 0x0020_4060,
                256..448 => u32::from(x * y % 7 == 0) * 0x00ff_ffff,
                _ => (wave(190) + 20) << 16 | (wave(150) + 40) << 8 | wave(120),
            };
        }
    }
    frame
}

fn whole(frame: &Frame) -> [Rect; 1] {
    [Rect::new(0, 0, frame.width(), frame.height())]
}

#[test]
fn jpeg_is_near_the_frame_and_only_where_there_are_many_colours() {
    let frame = picture();
    for encoding in [Encoding::Tight, Encoding::TightPng] {
        let mut sizes = Vec::new();
        for (quality, tolerance) in [(0, 40), (5, 16), (9, 8)] {
            let mut encoded = Encoded::default();
            let settings = settings(encoding, &FORMATS[0], 6, Some(quality));
            Encoder::new(&settings).encode_update(&frame, &whole(&frame), &mut encoded).unwrap();
            let mut client = Client::new(&FORMATS[0], frame.width(), frame.height());
            client.update(&encoded);
            assert!(client.jpegs > 0 && client.fills > 0, "{encoding:?} {quality}");
            sizes.push(encoded.len());
            let mut sum = 0;
            for (seen, shown) in client.pixels.iter().zip(frame.pixels()) {
                let pairs = seen.to_le_bytes().into_iter().zip(shown.to_le_bytes());
                sum += pairs.map(|(a, b)| u64::from(a.abs_diff(b))).sum::<u64>();
            }
            let mean = sum / frame.pixels().len() as u64;
            assert!(mean < tolerance, "{encoding:?}, quality {quality}: off by {mean} a pixel");
            let left = |pixels: &[u32]| pixels.chunks(640).map(|row| row[..256].to_vec()).collect::<Vec<_>>();
            assert_eq!(left(&client.pixels), left(frame.pixels()), "what is no JPEG is exact");
        }
        assert!(sizes.is_sorted(), "{sizes:?}");
    }
}

#[test]
fn no_jpeg_for_8_bits_or_without_leave() {
    let frame = picture();
    for (format, quality) in [(&FORMATS[10], Some(9)), (&FORMATS[0], None)] {
        let mut encoded = Encoded::default();
        let settings = settings(Encoding::Tight, format, 6, quality);
        Encoder::new(&settings).encode_update(&frame, &whole(&frame), &mut encoded).unwrap();
        let mut client = Client::new(format, frame.width(), frame.height());
        client.update(&encoded);
        assert_eq!(client.jpegs, 0);
    }
}

#[test]
fn the_same_update_is_the_same_bytes() {
    let frame = picture();
    for encoding in ENCODINGS {
        let settings = settings(encoding, &FORMATS[0], 6, None);
        let mut encoder = Encoder::new(&settings);
        let [mut first, mut again] = [Encoded::default(), Encoded::default()];
        encoder.encode_update(&frame, &whole(&frame), &mut first).unwrap();
        encoder.encode_update(&frame, &[Rect::new(0, 0, 99, 99)], &mut again).unwrap();
        encoder.encode_update(&frame, &whole(&frame), &mut again).unwrap();
        let bytes = |encoded: &Encoded| encoded.parts(&mut ClientStreams::default()).concat();
        assert!(bytes(&first) == bytes(&again), "{encoding:?}");
    }
}

#[test]
fn nothing_and_outside_are_no_rectangles() {
    let frame = picture();
    let nothing =
        [Rect::default(), Rect::new(640, 0, 5, 5), Rect::new(u32::MAX, u32::MAX, u32::MAX, u32::MAX)];
    for encoding in ENCODINGS {
        let mut encoder = Encoder::new(&settings(encoding, &FORMATS[0], 6, None));
        let mut encoded = Encoded::default();
        encoder.encode_update(&frame, &nothing, &mut encoded).unwrap();
        assert!(encoded.is_empty());
        encoder.encode_update(&Frame::default(), &[Rect::new(0, 0, 1, 1)], &mut encoded).unwrap();
        assert!(encoded.is_empty());
        encoder.encode_update(&frame, &[nothing[0]; MOST_RECTS + 1], &mut encoded).unwrap();
        assert!(encoded.is_empty());
    }
}

#[test]
fn too_many_rectangles_become_one() {
    let frame = picture();
    let mut rects = vec![Rect::new(7, 9, 1, 1); MOST_RECTS];
    rects.push(Rect::new(20, 30, 1000, 2));
    let mut encoded = Encoded::default();
    Encoder::new(&settings(Encoding::Raw, &FORMATS[0], 6, None))
        .encode_update(&frame, &rects, &mut encoded)
        .unwrap();
    assert_eq!((encoded.count(), encoded.len()), (1, 12 + (640 - 7) * (32 - 9) * 4));
}

#[test]
fn an_update_never_has_more_rectangles_than_it_can_count() {
    // 13 bands of different colours, each of which would be a piece, 4096 times.
    let mut frame = Frame::new(256, 13 * 32).unwrap();
    for (row, y) in frame.rows_mut().zip(0..) {
        row.fill(y / 32);
    }
    let rects = vec![Rect::new(0, 0, 256, 13 * 32); MOST_RECTS];
    let mut encoded = Encoded::default();
    let mut encoder = Encoder::new(&settings(Encoding::Tight, &FORMATS[10], 1, None));
    encoder.encode_update(&frame, &rects, &mut encoded).unwrap();
    assert!((u32::from(CROWDED)..=u32::from(CROWDED) + 8192).contains(&encoded.count().into()));
    let mut client = Client::new(&FORMATS[10], 256, 13 * 32);
    client.update(&encoded);
    let mut expected = vec![0; frame.pixels().len()];
    Reference::new(&FORMATS[10]).copy(&frame, rects[0], &mut expected);
    assert!(client.pixels == expected);
}

#[test]
fn a_client_may_change_its_mind() {
    let mut frame = picture();
    let mut client = Client::new(&FORMATS[0], frame.width(), frame.height());
    let mut encoded = Encoded::default();
    for (round, encoding) in (0u32..).zip([ENCODINGS, ENCODINGS].concat()) {
        frame.pixels_mut().rotate_right(1000);
        let settings = settings(encoding, &FORMATS[0], if round < 5 { 1 } else { 9 }, None);
        Encoder::new(&settings).encode_update(&frame, &whole(&frame), &mut encoded).unwrap();
        client.update(&encoded);
        assert!(client.pixels == frame.pixels(), "{settings:?}");
    }
}
