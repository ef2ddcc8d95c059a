//! EDID: what a display tells a guest about itself.
//!
//! A device writes a blob with [`generate`] and puts it where its guest looks for it (the VFIO EDID
//! region, a register window); whoever receives a blob reads it with [`parse`]. Both sides are here so
//! that each can be tested against the other, and both follow the same documents:
//!
//! * VESA E-EDID Standard, release A revision 2 (EDID structure 1.4): the base block;
//! * CTA-861-G section 7: the CTA extension;
//! * VESA DisplayID 1.3 and 2.0: timings too big for the base block's descriptors;
//! * VESA CVT 1.2: how timings are made from a width, a height and a rate.
//!
//! Nothing here allocates, does I/O or panics, whatever the input.
//!
//! ```
//! use vfio_gfx::edid::{self, Config, Mode};
//!
//! let config = Config { name: "Example", ..Config::new(Mode::new(1024, 768)) };
//! let blob = edid::generate(&config)?;
//! let info = edid::parse(blob.as_bytes())?;
//! let preferred = info.preferred().ok_or("no preferred timing")?;
//! assert_eq!((preferred.width, preferred.height), (1024, 768));
//! assert_eq!(info.name().ok_or("no name")?.as_str(), "Example");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod blob;
mod common_modes;
mod config;
mod cta;
mod cvt;
mod date;
mod display_id;
mod dtd;
mod error;
mod generate;
mod info;
mod layout;
mod mode;
mod offer;
mod parse;
mod range;
mod text;
mod type_i;
mod walk;

#[cfg(test)]
mod tests;

pub use blob::Edid;
pub use config::{Config, ConfigError, Serial};
pub use date::Date;
pub use error::ParseError;
pub use generate::generate;
pub use info::Info;
pub use layout::BLOCK_SIZE;
pub use mode::{Mode, Timing};
pub use parse::parse;
pub use range::RangeLimits;
pub use text::{TEXT_MAX, Text, TextError};
