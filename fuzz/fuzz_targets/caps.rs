//! See `vfio_gfx_fuzz::caps`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vfio_gfx_fuzz::caps(data));
