//! See `vfio_gfx_fuzz::messages`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vfio_gfx_fuzz::messages(data));
