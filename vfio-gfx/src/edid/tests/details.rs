//! Single numbers, where they are in the blob, and what is read from them.

use super::super::range::RangeLimits;
use super::super::*;
use super::examples::with;

fn made(config: Config<'_>) -> Vec<u8> {
    generate(&config).unwrap().as_bytes().to_vec()
}

fn base() -> Config<'static> {
    Config::new(Mode::new(1024, 768))
}

/// Bytes written one after the other, with right checksums.
fn changed(bytes: Vec<u8>, changes: &[(usize, u8)]) -> Vec<u8> {
    changes.iter().fold(bytes, |bytes, (at, byte)| with(bytes, *at, *byte))
}

#[test]
fn the_size_is_told_in_centimetres_and_by_the_first_timing() {
    let bytes = made(Config { size_mm: Some((598, 336)), ..base() });
    assert_eq!(bytes[21..23], [60, 34]);
    assert_eq!(parse(&bytes).unwrap().size_mm(), Some((598, 336)));
    assert_eq!(parse(&made(base())).unwrap().size_mm(), Some((260, 195)), "100 dots per inch");
    // Where no timing says it, and where one says half of it: bytes 66 and 67, and their upper bits in 68.
    let coarse = changed(bytes.clone(), &[(126, 0), (66, 0), (67, 0), (68, 0)]);
    assert_eq!(parse(&coarse).unwrap().size_mm(), Some((600, 340)));
    for half in [[(66, 0), (68, 0x01)], [(67, 0), (68, 0x20)]] {
        let half = changed(changed(bytes.clone(), &[(126, 0)]), &half);
        assert_eq!(parse(&half).unwrap().size_mm(), Some((600, 340)));
    }
    for at in [21, 22] {
        assert_eq!(parse(&with(coarse.clone(), at, 0)).unwrap().size_mm(), None, "a projector");
    }
}

#[test]
fn other_displays_are_analog_and_not_srgb() {
    let bytes = made(base());
    assert!(parse(&bytes).unwrap().is_digital() && parse(&bytes).unwrap().is_srgb());
    assert!(!parse(&with(bytes.clone(), 20, 0x0e)).unwrap().is_digital());
    assert!(!parse(&with(bytes, 24, 0x02)).unwrap().is_srgb());
}

#[test]
fn bounds_hold_for_each_side_and_to_the_pixel() {
    let fits = |max, max_pixels| generate(&Config { max, max_pixels, ..base() }).is_ok();
    assert!(fits(Some((1024, 768)), Some(1024 * 768)));
    assert!(!fits(Some((1023, 768)), None) && !fits(Some((1024, 767)), None));
    assert!(!fits(None, Some(1024 * 768 - 1)));
    for (max, too_large) in [((1100, 5000), (1366, 768)), ((5000, 800), (1280, 1024))] {
        let bytes = made(Config { max: Some(max), ..base() });
        for mode in parse(&bytes).unwrap().modes() {
            assert!(mode.width <= max.0 && mode.height <= max.1, "{mode} within {max:?}");
        }
        let unbounded = made(base());
        let offered = |mode: Mode| (mode.width, mode.height) == too_large;
        assert!(parse(&unbounded).unwrap().modes().any(offered), "which is offered elsewhere");
    }
    for size_mm in [(4, 100), (100, 4), (2555, 100), (100, 2555)] {
        let error = generate(&Config { size_mm: Some(size_mm), ..base() }).unwrap_err();
        assert_eq!(error, ConfigError::PhysicalSize { size_mm });
    }
}

#[test]
fn sizes_without_a_code_are_spelled_out_once() {
    for preferred in [(1024, 768), (2560, 1440)] {
        let bytes = made(Config::new(Mode::new(preferred.0, preferred.1)));
        let info = parse(&bytes).unwrap();
        let sizes: Vec<_> = info.modes().map(|mode| (mode.width, mode.height)).collect();
        for size in [(1366, 768), (2560, 1440), (2560, 1600), (3440, 1440), (3840, 2160)] {
            assert_eq!(sizes.iter().filter(|found| **found == size).count(), 1, "{size:?} in {sizes:?}");
        }
    }
}

/// A base block and a CTA extension with these data blocks.
fn with_cta(data: &[u8]) -> Vec<u8> {
    let mut bytes = with(made(Config { cta: false, ..base() }), 126, 1);
    let mut block = [0; 128];
    block[..4].copy_from_slice(&[0x02, 3, u8::try_from(4 + data.len()).unwrap(), 0]);
    block[4..4 + data.len()].copy_from_slice(data);
    bytes.extend(block);
    with(bytes, 255, 0)
}

#[test]
fn video_codes_are_those_of_video_blocks() {
    let vics = |data: &[u8]| parse(&with_cta(data)).unwrap().vics().collect::<Vec<_>>();
    // An audio block, a video block of seven codes, and a second video block.
    let data = [0x21, 16, 0x47, 0, 16, 0x90, 127, 128, 200, 254, 0x41, 4];
    assert_eq!(vics(&data), [16, 16, 127, 200, 4], "the top bit marks the first 64 as native");
    assert_eq!(vics(&[0x21, 16]), [0; 0]);
    assert_eq!(vics(&[]), [0; 0]);
}

#[test]
fn a_section_may_fill_its_block() {
    let mut bytes = with(made(Config { cta: false, ..base() }), 126, 1);
    bytes.extend([0; 128]);
    let full = changed(bytes.clone(), &[(128, 0x70), (130, 121), (254, 0u8.wrapping_sub(121))]);
    assert!(parse(&full).is_ok());
    let longer = with(full, 130, 122);
    assert_eq!(parse(&longer).unwrap_err(), ParseError::SectionLength { block: 1, found: 122 });
}

#[test]
fn limits_at_the_edge_of_a_byte_read_back() {
    let limits = |min, max| RangeLimits {
        min_v_hz: min,
        max_v_hz: max,
        min_h_khz: min,
        max_h_khz: max,
        max_clock_mhz: 10,
    };
    for (min, max) in [(1, 255), (255, 255), (1, 256), (255, 256), (256, 256), (255, 510), (510, 510)] {
        let descriptor = limits(min, max).encode().unwrap();
        assert_eq!(RangeLimits::decode(zerocopy::transmute!(descriptor)), limits(min, max));
    }
    assert_eq!(limits(0, 60).encode(), None);
    assert_eq!(limits(1, 511).encode(), None);
}

#[test]
fn rates_are_rounded_to_the_nearest() {
    let bytes = made(Config { cta: false, ..base() });
    // VESA's 1024x768: 65 MHz, 1344x806, which is 60003.84 mHz.
    let timing = Timing {
        clock_khz: 65_000,
        h_blank: 320,
        v_blank: 38,
        ..parse(&bytes).unwrap().preferred_timing().unwrap()
    };
    assert_eq!(timing.refresh_mhz(), 60_004);
}

#[test]
fn what_is_shown_of_a_blob_is_what_is_in_it() {
    let blob = generate(&Config { name: "A display", ..base() }).unwrap();
    assert_eq!(blob.as_ref(), blob.as_bytes());
    assert!(format!("{blob:?}").starts_with("Edid([0, 255, 255, "), "{blob:?}");
    let info = parse(blob.as_bytes()).unwrap();
    let shown = format!("{info:?} {:?}", info.name().unwrap());
    assert_eq!(shown.matches("A display").count(), 2, "{shown}");
}
