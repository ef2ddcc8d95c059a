//! Single blobs and configurations, right and wrong.

use super::super::layout::checksum;
use super::super::*;
use super::read_all;

fn example() -> Vec<u8> {
    let config = Config { name: "Example", ..Config::new(Mode::new(5120, 2880)) };
    generate(&config).unwrap().as_bytes().to_vec()
}

/// Writes a byte and makes the block's checksum right again.
pub(super) fn with(mut bytes: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    bytes[at] = byte;
    let block = &mut bytes[at / 128 * 128..][..128];
    block[127] = checksum(&block[..127]);
    bytes
}

#[test]
fn errors_name_the_place() {
    let good = example();
    assert_eq!(good.len(), 384);
    let error = |bytes: Vec<u8>| parse(&bytes).unwrap_err();

    assert_eq!(error(vec![]), ParseError::Truncated { expected: 128, found: 0 });
    assert_eq!(error(good[..383].to_vec()), ParseError::Truncated { expected: 384, found: 383 });
    let found = [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    assert_eq!(error(with(good.clone(), 7, 1)), ParseError::Header { found });
    assert_eq!(error(with(good.clone(), 18, 2)), ParseError::Version { version: 2, revision: 4 });
    assert_eq!(error(with(good.clone(), 8, 0)), ParseError::Manufacturer { found: 0x00f8 });
    assert_eq!(error(with(good.clone(), 126, 3)), ParseError::Truncated { expected: 512, found: 384 });

    let mut wrong_sum = good.clone();
    wrong_sum[255] ^= 1;
    let (expected, found) = (good[255], wrong_sum[255]);
    assert_eq!(error(wrong_sum), ParseError::Checksum { block: 1, expected, found });

    assert_eq!(
        error(with(with(good.clone(), 56, 0), 58, 0)),
        ParseError::EmptyTiming { block: 0, offset: 54, width: 0, height: 1440 }
    );
    assert_eq!(error(with(good.clone(), 130, 3)), ParseError::TimingsOffset { block: 1, found: 3 });
    assert_eq!(
        error(with(good.clone(), 132, 0x5f)),
        ParseError::DataBlock { block: 1, offset: 4, available: 3, found: 32 }
    );
    assert_eq!(error(with(good.clone(), 258, 122)), ParseError::SectionLength { block: 2, found: 122 });
    assert!(matches!(
        error(with(good.clone(), 270, 0xff)),
        ParseError::SectionChecksum { block: 2, offset: 78, .. }
    ));
    let section_sum = |bytes: Vec<u8>| {
        let sum = checksum(&bytes[257..334]);
        with(bytes, 334, sum)
    };
    assert_eq!(
        error(section_sum(with(good.clone(), 313, 21))),
        ParseError::DataBlock { block: 2, offset: 55, available: 23, found: 24 }
    );
    assert_eq!(
        error(section_sum(with(good, 313, 19))),
        ParseError::TimingsLength { block: 2, offset: 55, found: 19 }
    );
}

#[test]
fn a_window_larger_than_the_blob_is_fine() {
    let mut window = example();
    window.resize(1024, 0);
    assert_eq!(parse(&window).unwrap().as_bytes(), example());
}

#[test]
fn most_blocks_there_can_be() {
    let mut bytes = with(example(), 126, 255);
    bytes.resize(256 * 128, 0);
    assert_eq!(parse(&bytes).unwrap().blocks(), 256);
    assert!(read_all(&bytes).is_some());
}

#[test]
fn preferred_is_the_first_descriptor_or_marked() {
    let preferred = |bytes: &[u8]| parse(bytes).unwrap().preferred().map(|mode| (mode.width, mode.height));
    assert_eq!(preferred(&example()), Some((5120, 2880)));
    // without the extensions, what fits the base block
    assert_eq!(preferred(&with(example(), 126, 0)), Some((2560, 1440)));
    // before EDID 1.4 a feature bit says that the first timing is the preferred one
    assert_eq!(preferred(&with(with(example(), 126, 0), 19, 3)), None);
    let marked = with(with(with(example(), 126, 0), 19, 3), 24, 0x06);
    assert_eq!(preferred(&marked), Some((2560, 1440)));
}

#[test]
fn odd_widths_are_exact() {
    for (width, height) in [(1366, 768), (642, 400), (1023, 769), (65, 67)] {
        let blob = generate(&Config::new(Mode::new(width, height))).unwrap();
        let preferred = parse(blob.as_bytes()).unwrap().preferred().unwrap();
        assert_eq!((preferred.width, preferred.height), (width, height));
    }
}

#[test]
fn small_vram_offers_small_modes() {
    let config = Config { max_pixels: Some(4 * 1024 * 1024 / 8), ..Config::new(Mode::new(800, 600)) };
    let blob = generate(&config).unwrap();
    let info = parse(blob.as_bytes()).unwrap();
    let mut sizes: Vec<_> = info.modes().map(|mode| (mode.width, mode.height)).collect();
    sizes.sort_unstable();
    sizes.dedup();
    assert_eq!(sizes, [(640, 480), (800, 600)]);
}

#[test]
fn bounds_and_formats_are_checked() {
    let base = Config::new(Mode::new(1024, 768));
    let error = |config: Config<'_>| generate(&config).unwrap_err();
    let mode = Mode::new(0, 768);
    assert_eq!(error(Config { preferred: mode, ..base }), ConfigError::Size { mode });
    let mode = Mode::new(1024, 8193);
    assert_eq!(error(Config { preferred: mode, ..base }), ConfigError::Size { mode });
    let mode = Mode { refresh_mhz: 0, ..base.preferred };
    assert_eq!(error(Config { preferred: mode, ..base }), ConfigError::Refresh { found: 0 });
    let mode = Mode { refresh_mhz: 120_000, ..Mode::new(7680, 4320) };
    assert!(matches!(error(Config { preferred: mode, ..base }), ConfigError::TooFast { .. }));
    let (mode, max) = (base.preferred, (1024, 767));
    assert_eq!(error(Config { max: Some(max), ..base }), ConfigError::AboveMax { mode, max });
    let max_pixels = 1024 * 768 - 1;
    let expected = ConfigError::AboveMaxPixels { mode, max_pixels };
    assert_eq!(error(Config { max_pixels: Some(max_pixels), ..base }), expected);
    let date = Date::Week { week: 55, year: 2025 };
    assert_eq!(error(Config { date, ..base }), ConfigError::Date { date });
    let date = Date::Year(1999);
    assert_eq!(error(Config { date, ..base }), ConfigError::Date { date });
    let expected = ConfigError::Serial(TextError::Length { found: 14 });
    assert_eq!(error(Config { serial: Serial::Text("12345678901234"), ..base }), expected);
}
