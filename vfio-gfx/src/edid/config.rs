//! What a display is to be, and whether that can be said in an EDID.

use super::date::{self, Date};
use super::mode::Mode;
use super::text::{self, TEXT_MAX, TextError};

/// Least width and height. Linux refuses smaller timings, and Bochs displays smaller modes.
const MIN_SIDE: u32 = 64;
/// Greatest width and height; the least that both 7680x4320 and its upright twin fit in is 7680, and guests
/// stop at 8192.
const MAX_SIDE: u32 = 8192;
/// Lowest refresh rate in mHz: below it the line rate of small modes is under the 1 kHz that range limits start at.
const MIN_REFRESH: u32 = 20_000;
/// Highest refresh rate in mHz; range limits end at 510 Hz.
const MAX_REFRESH: u32 = 500_000;
/// Physical sizes in mm that round to 1 to 255 cm, which is what the base block stores.
const SIZES_MM: std::ops::RangeInclusive<u32> = 5..=2554;

/// A display to describe. Start from [`Config::new`] and change what matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config<'a> {
    /// The mode a guest is to choose: 64x64 to 8192x8192, 20 to 500 Hz, progressive, line rate at most
    /// 510 kHz and pixel clock at most 2550 MHz (7680x4320 at 60 Hz needs 267 kHz and 2090 MHz).
    pub preferred: Mode,
    /// Manufacturer: three letters `A` to `Z`, as assigned by UEFI's PnP registry.
    pub manufacturer: [u8; 3],
    /// Product code; what the manufacturer makes of it.
    pub product: u16,
    /// Serial number.
    pub serial: Serial<'a>,
    /// When it was made or designed, in 2000 to 2245.
    pub date: Date,
    /// Name for users to see: 1 to 13 printable ASCII characters. EDID 1.4 demands one.
    pub name: &'a str,
    /// Width and height of the picture in mm, 5 to 2554 each; by default what makes 100 dots per inch.
    pub size_mm: Option<(u32, u32)>,
    /// No mode wider or higher than this is offered.
    pub max: Option<(u32, u32)>,
    /// No mode with more pixels than this is offered. Linux' driver for Bochs displays refuses modes of
    /// which VRAM does not hold two, so a display of `n` bytes should say `n / 8`.
    pub max_pixels: Option<u64>,
    /// Add a CTA extension, which offers modes that the base block cannot name (1366x768, and up to
    /// 3840x2160). There is none if 640x480 is too large, which CTA-861 demands of all its displays.
    pub cta: bool,
}

/// A serial number. An EDID has a place for a number and one for a text; if there is a text the number is to
/// be 0, so a display has one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serial<'a> {
    /// Not told.
    None,
    /// A number; 0 is the same as [`None`](Self::None).
    Number(u32),
    /// 1 to 13 printable ASCII characters.
    Text(&'a str),
}

/// Why a [`Config`] has no EDID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The preferred mode's width or height.
    #[error("expected a preferred mode of 64x64 to 8192x8192 pixels, found {mode}")]
    Size {
        /// The mode.
        mode: Mode,
    },
    /// The preferred mode's refresh rate.
    #[error("expected a refresh rate of 20000 to 500000 mHz, found {found}")]
    Refresh {
        /// The rate in mHz.
        found: u32,
    },
    /// The preferred mode needs rates that range limits cannot express.
    #[error(
        "expected a pixel clock of at most 2550000 kHz and a line rate of at most 510000 Hz, \
         found {clock_khz} kHz and {line_rate_hz} Hz for {mode}"
    )]
    TooFast {
        /// The mode.
        mode: Mode,
        /// Its pixel clock in kHz.
        clock_khz: u32,
        /// Its line rate in Hz.
        line_rate_hz: u64,
    },
    /// The preferred mode is beyond [`Config::max`].
    #[error("expected a preferred mode within {}x{}, found {mode}", max.0, max.1)]
    AboveMax {
        /// The mode.
        mode: Mode,
        /// The bound on width and height.
        max: (u32, u32),
    },
    /// The preferred mode is beyond [`Config::max_pixels`].
    #[error("expected a preferred mode of at most {max_pixels} pixels, found {mode}")]
    AboveMaxPixels {
        /// The mode.
        mode: Mode,
        /// The bound on pixels.
        max_pixels: u64,
    },
    /// The physical size.
    #[error("expected a physical size of 5 to 2554 mm either way, found {}x{}", size_mm.0, size_mm.1)]
    PhysicalSize {
        /// Width and height in mm.
        size_mm: (u32, u32),
    },
    /// The manufacturer is not three capital letters.
    #[error("expected three letters A to Z as manufacturer, found {found:02x?}")]
    Manufacturer {
        /// The bytes given.
        found: [u8; 3],
    },
    /// The week or year.
    #[error("expected a year of 2000 to 2245 and a week of 1 to 54, found {date:?}")]
    Date {
        /// The date given.
        date: Date,
    },
    /// The name.
    #[error("name: {0}")]
    Name(TextError),
    /// The serial number as text.
    #[error("serial number: {0}")]
    Serial(TextError),
}

/// The checked parts of a [`Config`] in the form the base block stores them.
pub(super) struct Identity {
    pub(super) manufacturer: u16,
    /// Week and year.
    pub(super) date: [u8; 2],
    /// Week and year as DisplayID has them.
    pub(super) display_id_date: [u8; 2],
    pub(super) name: [u8; TEXT_MAX],
    pub(super) serial: u32,
    pub(super) serial_text: Option<[u8; TEXT_MAX]>,
    pub(super) size_mm: (u32, u32),
}

impl Config<'_> {
    /// An ordinary display of 100 dpi that prefers this mode, with a CTA extension and no bound on the other
    /// modes offered.
    #[must_use]
    pub const fn new(preferred: Mode) -> Self {
        Self {
            preferred,
            manufacturer: *b"VGX",
            product: 1,
            serial: Serial::None,
            date: Date::ModelYear(2025),
            name: "VFIO display",
            size_mm: None,
            max: None,
            max_pixels: None,
            cta: true,
        }
    }

    /// Whether a mode of this size is within [`max`](Self::max) and [`max_pixels`](Self::max_pixels).
    #[must_use]
    pub fn allows(&self, width: u32, height: u32) -> bool {
        let pixels = Mode::new(width, height).pixels();
        self.max.is_none_or(|(w, h)| width <= w && height <= h)
            && self.max_pixels.is_none_or(|max| pixels <= max)
    }

    /// Checks everything but the preferred mode's clock and line rate, which follow from its timing.
    pub(super) fn check(&self) -> Result<Identity, ConfigError> {
        self.check_preferred()?;
        let encoded = |epoch| self.date.encode(epoch).ok_or(ConfigError::Date { date: self.date });
        let (serial, serial_text) = match self.serial {
            Serial::None => (0, None),
            Serial::Number(number) => (number, None),
            Serial::Text(text) => (0, Some(text::encode(text).map_err(ConfigError::Serial)?)),
        };
        Ok(Identity {
            manufacturer: manufacturer_code(self.manufacturer)?,
            date: encoded(date::EPOCH)?,
            display_id_date: encoded(date::DISPLAY_ID_EPOCH)?,
            name: text::encode(self.name).map_err(ConfigError::Name)?,
            serial,
            serial_text,
            size_mm: self.checked_size_mm()?,
        })
    }

    fn check_preferred(&self) -> Result<(), ConfigError> {
        let mode = self.preferred;
        let sides = MIN_SIDE..=MAX_SIDE;
        if !sides.contains(&mode.width) || !sides.contains(&mode.height) {
            return Err(ConfigError::Size { mode });
        }
        if !(MIN_REFRESH..=MAX_REFRESH).contains(&mode.refresh_mhz) {
            return Err(ConfigError::Refresh { found: mode.refresh_mhz });
        }
        if let Some(max) = self.max
            && (mode.width > max.0 || mode.height > max.1)
        {
            return Err(ConfigError::AboveMax { mode, max });
        }
        if let Some(max_pixels) = self.max_pixels
            && mode.pixels() > max_pixels
        {
            return Err(ConfigError::AboveMaxPixels { mode, max_pixels });
        }
        Ok(())
    }

    fn checked_size_mm(&self) -> Result<(u32, u32), ConfigError> {
        // an inch is 25.4 mm
        let at_100_dpi = |pixels: u32| pixels.saturating_mul(254).saturating_add(500) / 1000;
        let default = (at_100_dpi(self.preferred.width), at_100_dpi(self.preferred.height));
        let size_mm = self.size_mm.unwrap_or(default);
        if !SIZES_MM.contains(&size_mm.0) || !SIZES_MM.contains(&size_mm.1) {
            return Err(ConfigError::PhysicalSize { size_mm });
        }
        Ok(size_mm)
    }
}

/// Three letters of five bits, A = 1 (E-EDID 3.4.1).
fn manufacturer_code(letters: [u8; 3]) -> Result<u16, ConfigError> {
    if !letters.iter().all(u8::is_ascii_uppercase) {
        return Err(ConfigError::Manufacturer { found: letters });
    }
    // the lower five bits of a capital are its number in the alphabet
    Ok(letters.into_iter().fold(0, |code, letter| code << 5 | u16::from(letter & 0x1f)))
}
