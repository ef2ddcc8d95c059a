//! See `vfio_gfx_fuzz::world`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vfio_gfx_fuzz::world(data));
