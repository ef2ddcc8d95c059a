//! See `vfio_gfx_fuzz::edid_parse`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vfio_gfx_fuzz::edid_parse(data));
