//! What holds for every configuration and for any bytes.

use proptest::prelude::*;

use super::super::layout::{checksum, sum};
use super::super::*;
use super::read_all;

const TEXT: &str = "[!-~]([ -~]{0,11}[!-~])?";

fn mode() -> impl Strategy<Value = Mode> {
    let side = || prop_oneof![64..=1024_u32, 64..=4320_u32, 64..=8192_u32];
    let refresh = prop_oneof![Just(60_000), 20_000..=500_000_u32];
    (side(), side(), refresh).prop_map(|(width, height, refresh_mhz)| Mode { width, height, refresh_mhz })
}

fn date() -> impl Strategy<Value = Date> {
    let year = || 2000..=2245_u16;
    prop_oneof![
        year().prop_map(Date::Year),
        year().prop_map(Date::ModelYear),
        (1..=54_u8, year()).prop_map(|(week, year)| Date::Week { week, year }),
    ]
}

/// A configuration without bounds, and the texts it borrows.
#[derive(Debug)]
struct Owned {
    config: Config<'static>,
    name: String,
    serial_text: Option<String>,
}

impl Owned {
    fn config(&self) -> Config<'_> {
        let serial = self.serial_text.as_deref().map_or(self.config.serial, Serial::Text);
        Config { name: &self.name, serial, ..self.config }
    }
}

fn owned() -> impl Strategy<Value = Owned> {
    let texts = (TEXT, prop::option::of(TEXT));
    let numbers = (any::<u16>(), prop::option::of(any::<u32>()), any::<bool>());
    let size = prop::option::of((5..=2554_u32, 5..=2554_u32));
    (mode(), "[A-Z]{3}", numbers, date(), texts, size).prop_map(
        |(mode, manufacturer, (product, serial, cta), date, (name, serial_text), size_mm)| Owned {
            config: Config {
                manufacturer: manufacturer.as_bytes().try_into().unwrap(),
                product,
                serial: serial.map_or(Serial::None, Serial::Number),
                date,
                size_mm,
                cta,
                ..Config::new(mode)
            },
            name,
            serial_text,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn generated_says_what_was_configured(owned in owned()) {
        let config = owned.config();
        let blob = match generate(&config) {
            Ok(blob) => blob,
            Err(ConfigError::TooFast { clock_khz, line_rate_hz, .. }) => {
                prop_assert!(clock_khz > 2_550_000 || line_rate_hz >= 510_000);
                return Ok(());
            }
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        prop_assert!(blob.as_bytes().len() == blob.len() && blob.len() <= 1024);
        for block in blob.as_bytes().chunks(BLOCK_SIZE) {
            prop_assert_eq!(block.len(), BLOCK_SIZE);
            prop_assert_eq!(sum(block), 0);
        }

        let info = parse(blob.as_bytes()).unwrap();
        prop_assert_eq!(info.as_bytes(), blob.as_bytes());
        prop_assert_eq!(info.version(), (1, 4));
        prop_assert_eq!(info.manufacturer(), config.manufacturer.map(char::from));
        prop_assert_eq!(info.product(), config.product);
        prop_assert_eq!(info.date(), config.date);
        prop_assert!(info.is_digital() && info.is_srgb());
        prop_assert_eq!(info.gamma(), Some(220));
        prop_assert_eq!(info.name().unwrap().to_string(), config.name);
        let serial = (info.serial(), info.serial_text().map(|text| text.to_string()));
        let expected = match config.serial {
            Serial::None => (0, None),
            Serial::Number(number) => (number, None),
            Serial::Text(text) => (0, Some(text.to_owned())),
        };
        prop_assert_eq!(serial, expected);
        if config.size_mm.is_some() {
            prop_assert_eq!(info.size_mm(), config.size_mm);
        }

        // the preferred mode is exact in size; its rate is within half a step of the clock (10 kHz)
        let timing = info.preferred_timing().unwrap();
        let (mode, wanted) = (timing.mode(), config.preferred);
        prop_assert_eq!((mode.width, mode.height), (wanted.width, wanted.height));
        let half_step_mhz = 5_000_000 / (u64::from(timing.h_total()) * u64::from(timing.v_total()));
        let off = u64::from(mode.refresh_mhz.abs_diff(wanted.refresh_mhz));
        prop_assert!(off <= half_step_mhz + 1, "{} for {}", mode, wanted);

        let big = wanted.width > 4095 || wanted.height > 4095 || timing.clock_khz > 655_350;
        let expected: &[u8] = match (config.cta, big) {
            (false, false) => &[],
            (true, false) => &[0x02],
            (false, true) => &[0x70],
            (true, true) => &[0x02, 0x70],
        };
        prop_assert_eq!(info.extensions().collect::<Vec<_>>(), expected);

        let limits = info.range_limits().unwrap();
        for timing in info.timings() {
            let rate = timing.refresh_mhz();
            prop_assert!(limits.min_v_hz * 1000 <= rate && rate <= limits.max_v_hz * 1000);
            let rate = timing.line_rate_hz();
            prop_assert!(u64::from(limits.min_h_khz) * 1000 <= rate && rate <= u64::from(limits.max_h_khz) * 1000);
            prop_assert!(timing.clock_khz <= limits.max_clock_mhz * 1000);
        }
    }

    #[test]
    fn nothing_beyond_the_bounds_is_offered(
        mode in mode(),
        more in (0..=2000_u32, 0..=2000_u32, 0..=4_000_000_u64),
    ) {
        let config = Config {
            max: Some((mode.width + more.0, mode.height + more.1)),
            max_pixels: Some(mode.pixels() + more.2),
            ..Config::new(mode)
        };
        let Ok(blob) = generate(&config) else { return Ok(()) };
        let info = parse(blob.as_bytes()).unwrap();
        for mode in info.modes() {
            prop_assert!(config.allows(mode.width, mode.height), "{}", mode);
        }
        prop_assert_eq!(info.vics().count(), 0);
    }

    #[test]
    fn any_config_is_total(width: u32, height: u32, refresh_mhz: u32, name: String, size: (u32, u32), letters: [u8; 3]) {
        let preferred = Mode { width, height, refresh_mhz };
        prop_assert!(preferred.to_string().contains('x'));
        let config = Config::new(preferred);
        let _ = generate(&config);
        let config = Config { preferred: Mode::new(800, 600), ..config };
        let named = generate(&Config { name: &name, ..config });
        prop_assert_eq!(named.is_ok(), (1..=13).contains(&name.len())
            && name.bytes().all(|b| (0x20..0x7f).contains(&b)) && name.trim() == name);
        let sized = generate(&Config { size_mm: Some(size), ..config });
        prop_assert_eq!(sized.is_ok(), [size.0, size.1].iter().all(|mm| (5..=2554).contains(mm)));
        let made = generate(&Config { manufacturer: letters, ..config });
        prop_assert_eq!(made.is_ok(), letters.iter().all(u8::is_ascii_uppercase));
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..1200)) {
        read_all(&bytes);
    }

    /// Bytes that get past header and checksums, so that what is behind those is reached.
    #[test]
    fn damaged_blobs_are_survived(
        owned in owned(),
        damage in prop::collection::vec((8..512_usize, any::<u8>()), 0..12),
        tags in any::<[u8; 3]>(),
        section in any::<bool>(),
    ) {
        let Ok(blob) = generate(&owned.config()) else { return Ok(()) };
        let mut bytes = blob.as_bytes().to_vec();
        bytes.resize(512, 0x5a);
        for (block, tag) in (1..).zip(tags) {
            match tag % 4 {
                0 => bytes[block * 128] = 0x02,
                1 => bytes[block * 128] = 0x70,
                _ => {}
            }
        }
        for (at, byte) in damage {
            bytes[at] = byte;
        }
        bytes[126] %= 4;
        for block in bytes.chunks_mut(128) {
            let end = usize::from(block[2]) + 5;
            if block[0] == 0x70 && end < 127 && section {
                block[end] = checksum(&block[1..end]);
            }
            block[127] = checksum(&block[..127]);
        }
        read_all(&bytes);
    }
}
