//! EDIDs from others, and ours.

use vfio_gfx::edid::{self, BLOCK_SIZE, Config, ConfigError, Date, Info, Mode, Serial};

use crate::input::Input;

/// An EDID that somebody else made: the input as it is, and once more with header and checksums put right, behind which
/// most of what can go wrong lies.
///
/// Oracle: it parses or is refused; what is read from an accepted one is text that can be printed, timings that are
/// not empty, and bytes that are those of the input; it parses again to the same.
pub fn edid_parse(data: &[u8]) {
    check_parse(data);
    let mut repaired = data.to_vec();
    repair(&mut repaired);
    check_parse(&repaired);
}

/// Makes header and checksums right: of every block, and of the sections in DisplayID blocks.
fn repair(bytes: &mut [u8]) {
    if let Some(header) = bytes.get_mut(..8) {
        header.copy_from_slice(&[0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00]);
    }
    let blocks = bytes.len() / BLOCK_SIZE;
    if let Some(count) = bytes.get_mut(126) {
        *count = u8::try_from(usize::from(*count).min(blocks.saturating_sub(1))).unwrap_or(u8::MAX);
    }
    for block in bytes.chunks_exact_mut(BLOCK_SIZE) {
        let end = usize::from(block[2]) + 5;
        if block[0] == 0x70 && end < 127 {
            block[end] = checksum(&block[1..end]);
        }
        block[127] = checksum(&block[..127]);
    }
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte))
}

fn check_parse(bytes: &[u8]) {
    let Ok(info) = edid::parse(bytes) else {
        return;
    };
    assert!((1..=256).contains(&info.blocks()));
    assert_eq!(info.as_bytes().len(), info.blocks() * BLOCK_SIZE);
    assert!(bytes.starts_with(info.as_bytes()));
    assert_eq!(info.extensions().count(), info.blocks() - 1);
    let shown = describe(&info);
    assert!(shown.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{shown}");
    assert_eq!(describe(&edid::parse(info.as_bytes()).unwrap()), shown);
    for timing in info.timings() {
        assert!(timing.h_total() > 0 && timing.v_total() > 0);
        assert!(timing.clock_khz > 0 && timing.h_active > 0 && timing.v_active > 0, "{timing:?}");
    }
    assert!(info.vics().all(|code| (1..=127).contains(&code) || (193..=253).contains(&code)));
    if let Some(preferred) = info.preferred_timing() {
        assert!(info.timings().any(|timing| timing == preferred), "a preferred timing that is not listed");
    }
}

/// Everything that can be asked.
fn describe(info: &Info<'_>) -> String {
    let modes: Vec<_> = info.modes().map(|mode| mode.to_string()).collect();
    format!(
        "{info:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {modes:?} {:?}",
        info.version(),
        info.serial(),
        info.date(),
        info.is_digital(),
        info.is_srgb(),
        info.gamma(),
        info.size_mm(),
        info.name().map(|name| name.as_str().to_owned()),
        info.serial_text(),
        info.range_limits(),
        info.vics().collect::<Vec<_>>(),
    )
}

/// A display to describe, sane or not.
///
/// Oracle: it is refused, or its EDID is at most three blocks that all sum to zero, parses, says what was configured,
/// offers nothing beyond the bounds, and states range limits that hold every timing.
pub fn edid_generate(data: &[u8]) {
    let input = &mut Input::new(data);
    let preferred = Mode {
        width: input.number(),
        height: input.number(),
        refresh_mhz: if input.flag() { 60_000 } else { input.any::<u32>() % 600_000 },
    };
    let bounds = input.byte();
    let max = (bounds & 1 != 0).then(|| (input.number(), input.number()));
    let max_pixels = (bounds & 2 != 0).then(|| input.number64());
    let size_mm = (bounds & 4 != 0).then(|| (input.number(), input.number()));
    let year = 1980 + u16::from(input.byte()) + u16::from(bounds >> 7) * 30;
    let date = match input.byte() {
        0..100 => Date::Year(year),
        100..200 => Date::ModelYear(year),
        _ => Date::Week { week: input.byte() % 64, year },
    };
    let manufacturer: [u8; 3] = match input.byte() {
        0..200 => [(); 3].map(|()| b'A' + input.byte() % 26),
        _ => input.any(),
    };
    let product = input.any();
    let name = std::str::from_utf8(input.some_bytes(16)).unwrap_or("");
    let serial = match input.byte() % 3 {
        0 => Serial::None,
        1 => Serial::Number(input.number()),
        _ => Serial::Text(std::str::from_utf8(input.some_bytes(16)).unwrap_or("")),
    };
    let cta = input.flag();
    let config =
        Config { preferred, manufacturer, product, serial, date, name, size_mm, max, max_pixels, cta };
    match edid::generate(&config) {
        Ok(blob) => check_generated(&config, blob.as_bytes()),
        Err(error) => check_refused(&config, &error),
    }
}

fn check_refused(config: &Config<'_>, error: &ConfigError) {
    assert!(error.to_string().chars().all(|c| !c.is_control()), "{error}");
    let text = |text: &str| {
        (1..=13).contains(&text.len())
            && text.trim() == text
            && text.bytes().all(|b| (0x20..0x7f).contains(&b))
    };
    match *error {
        ConfigError::Name(_) => assert!(!text(config.name)),
        ConfigError::Serial(_) => assert!(matches!(config.serial, Serial::Text(serial) if !text(serial))),
        ConfigError::TooFast { clock_khz, line_rate_hz, .. } => {
            assert!(clock_khz > 2_550_000 || line_rate_hz >= 510_000, "{error}");
        }
        ConfigError::Manufacturer { .. } => assert!(!config.manufacturer.iter().all(u8::is_ascii_uppercase)),
        _ => {}
    }
}

fn check_generated(config: &Config<'_>, blob: &[u8]) {
    assert!(blob.len() <= 3 * BLOCK_SIZE && blob.len().is_multiple_of(BLOCK_SIZE));
    assert!(blob.chunks(BLOCK_SIZE).all(|block| block.iter().fold(0u8, |sum, b| sum.wrapping_add(*b)) == 0));
    let info = edid::parse(blob).unwrap();
    assert_eq!(info.as_bytes(), blob);
    assert_eq!(info.version(), (1, 4));
    assert_eq!(info.manufacturer(), config.manufacturer.map(char::from));
    assert_eq!((info.product(), info.date()), (config.product, config.date));
    assert_eq!(info.name().unwrap().as_str(), config.name);
    let (serial, text) = match config.serial {
        Serial::None => (0, None),
        Serial::Number(number) => (number, None),
        Serial::Text(text) => (0, Some(text)),
    };
    assert_eq!(
        (info.serial(), info.serial_text().map(|text| text.as_str().to_owned()).as_deref()),
        (serial, text)
    );
    assert!(config.size_mm.is_none() || info.size_mm() == config.size_mm, "{:?}", info.size_mm());

    let timing = info.preferred_timing().unwrap();
    assert_eq!((timing.h_active, timing.v_active), (config.preferred.width, config.preferred.height));
    // The clock is stored in steps of 10 kHz.
    let half_step = 5_000_000 / (u64::from(timing.h_total()) * u64::from(timing.v_total()));
    let off = u64::from(timing.refresh_mhz().abs_diff(config.preferred.refresh_mhz));
    assert!(off <= half_step + 1, "{} for {}", timing.mode(), config.preferred);

    let limits = info.range_limits().unwrap();
    for timing in info.timings() {
        let (v, h) = (timing.refresh_mhz(), timing.line_rate_hz());
        assert!(limits.min_v_hz * 1000 <= v && v <= limits.max_v_hz * 1000, "{v} mHz in {limits:?}");
        assert!(u64::from(limits.min_h_khz) * 1000 <= h && h <= u64::from(limits.max_h_khz) * 1000, "{h} Hz");
        assert!(timing.clock_khz <= limits.max_clock_mhz * 1000);
    }
    for mode in info.modes() {
        assert!(config.allows(mode.width, mode.height), "{mode} is beyond the bounds");
    }
    assert_eq!(info.vics().count(), 0);
}
