//! Generated EDIDs as `edid-decode` (Debian package of that name) judges them.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use vfio_gfx::edid::{self, Config, Date, Mode, Serial};

const SIZES: [(u32, u32); 14] = [
    (64, 64),
    (640, 480),
    (642, 400),
    (800, 600),
    (1024, 768),
    (1280, 800),
    (1366, 768),
    (1920, 1080),
    (1920, 1440),
    (2560, 1440),
    (3840, 2160),
    (4320, 7680),
    (5120, 2880),
    (7680, 4320),
];

/// What there is to say about a display besides its modes.
const KINDS: [(&str, Config<'static>); 4] = {
    let plain = Config::new(Mode::new(1024, 768));
    let base_only = Config { cta: false, ..plain };
    let numbered = Config {
        serial: Serial::Number(42),
        date: Date::Week { week: 20, year: 2024 },
        size_mm: Some((598, 336)),
        ..plain
    };
    // 13 characters fill a descriptor, with nothing to end the text
    let named = Config {
        name: "Virtual GPU 2",
        serial: Serial::Text("VGX-0000042"),
        date: Date::Year(2024),
        ..plain
    };
    [("plain", plain), ("base-only", base_only), ("numbered", numbered), ("named", named)]
};

/// All examples there are to check, with a name for each.
fn examples() -> Vec<(String, Mode, edid::Edid)> {
    let mut examples = Vec::new();
    for (width, height) in SIZES {
        for refresh_mhz in [24_000, 50_000, 59_940, 60_000, 72_000, 75_000, 144_000, 240_000, 480_000] {
            let preferred = Mode { width, height, refresh_mhz };
            for (kind, config) in KINDS {
                let bounded = Config { max: Some((width, height)), ..config };
                let budget = Config { max_pixels: Some(u64::from(width * height)), ..config };
                for (bound, config) in [("any", config), ("max", bounded), ("pixels", budget)] {
                    let name = format!("{preferred}-{kind}-{bound}.bin");
                    match edid::generate(&Config { preferred, ..config }) {
                        Ok(blob) => examples.push((name, preferred, blob)),
                        // beyond what any EDID can say, such as 7680x4320 at 144 Hz
                        Err(edid::ConfigError::TooFast { clock_khz, line_rate_hz, .. }) => {
                            assert!(clock_khz > 2_550_000 || line_rate_hz >= 510_000, "{name}");
                        }
                        Err(error) => panic!("{name}: {error}"),
                    }
                }
            }
        }
    }
    examples
}

/// Its verdict: exit status and everything it says.
fn edid_decode(path: &Path) -> std::io::Result<(bool, String)> {
    let output = Command::new("edid-decode").args(["--check", "--native-resolution"]).arg(path).output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

/// What it warns of, which would be no reason to refuse an EDID.
const EXPECTED_WARNINGS: [&str; 2] = [
    // DisplayID 1.x has the manufacturer's three letters where it looks for an IEEE OUI
    "(possible PNP VGX)",
    // 64x64 at 100 dots per inch
    "Dubious maximum image size (2x2 is smaller than 10x10 cm)",
];

/// The warnings in what it says: indented lines below `Warnings:`.
fn warnings(said: &str) -> impl Iterator<Item = &str> {
    let section = said.split_once("\nWarnings:\n").map_or("", |(_, section)| section);
    section.lines().filter(|line| line.starts_with("  "))
}

#[test]
fn conforms() {
    let dir = tempfile::tempdir().unwrap();
    let mut checked = 0;
    for (name, mode, blob) in examples() {
        let path = dir.path().join(&name);
        fs::write(&path, blob.as_bytes()).unwrap();
        let (passed, said) = match edid_decode(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                println!("SKIPPED: edid-decode is not installed");
                return;
            }
            result => result.unwrap(),
        };
        assert!(passed && !said.contains("FAIL"), "{name}:\n{said}");
        let (_, native) = said.rsplit_once("Native Video Resolution").unwrap_or_default();
        assert!(native.contains(&format!("\n  {}x{}\n", mode.width, mode.height)), "{name}:\n{said}");
        for warning in warnings(&said) {
            assert!(EXPECTED_WARNINGS.iter().any(|known| warning.contains(known)), "{name}: {warning}");
        }
        checked += 1;
    }
    println!("{checked} EDIDs conform");
    assert!(checked > 1000);
}
