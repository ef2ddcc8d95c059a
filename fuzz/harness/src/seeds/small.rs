//! Of `version`, `caps` and `plane_info`.

use vfio_gfx::abi::caps::{RegionCap, SparseArea, encode};
use vfio_gfx::vfio_user::HEADER_SIZE;

use super::{number, numbers};

/// What real clients say, and what they might.
#[must_use]
pub fn version() -> Vec<Vec<u8>> {
    [
        r#"{"capabilities": {"pgsizes": 4096, "max_msg_fds": 16, "max_dma_maps": 65535, "max_data_xfer_size": 1048576, "migration": {"max_bitmap_size": 268435456, "pgsize": 4096}, "write_multiple": true}}"#,
        r#"{"capabilities":{"max_msg_fds":1,"max_data_xfer_size":1048576,"migration":{"pgsize":4096}}}"#,
        r#"{"capabilities":{"vfio_gfx":{"version":1,"role":"console"}}}"#,
        r#"{"capabilities":{"vfio_gfx":{"version":18446744073709551615}}}"#,
        r#"{"capabilities":{"max_msg_fds":0,"max_dma_maps":4294967295,"pgsizes":4294967295}}"#,
        r#"{"capabilities":{}}"#,
        "{}",
    ]
    .into_iter()
    .map(|json| [&[0, 0, 1, 0], json.as_bytes(), &[0]].concat())
    .chain([vec![0, 0, 0, 0]])
    .collect()
}

/// Chains as devices have them.
#[must_use]
pub fn caps() -> Vec<Vec<u8>> {
    let areas = (0..3).map(|n| SparseArea { offset: n << 12, size: 4096 }).collect();
    [
        vec![],
        vec![RegionCap::GFX_EDID],
        vec![RegionCap::SparseMmap(areas), RegionCap::GFX_EDID, RegionCap::Other { id: 5, version: 1 }],
    ]
    .into_iter()
    .map(|list| [&[32, 0], [0; 32].as_slice(), &encode(&list)].concat())
    .collect()
}

/// A framebuffer, a cursor, and one that is all bytes.
#[must_use]
pub fn plane_info() -> Vec<Vec<u8>> {
    let start = |interface: u8, kind: u8| [vec![interface, kind, 0, 0, 0], number(1 << 22), vec![0]].concat();
    let screen = numbers(&[60, 4, 1]);
    let rest = numbers(&[640, 480, 2560, 1_228_800, 0, 0, 0, 0, 0, 0, 9]);
    let cursor = numbers(&[63, 63, 512, 1 << 15, 10, 20, 3, 4, 0, 0, 1]);
    vec![
        [start(1, 0), screen.clone(), vec![0], rest].concat(),
        [start(0, 2), screen, vec![2], cursor].concat(),
        [vec![1, 0, 0, 0, 0, 0, 1], vec![0x41; 64]].concat(),
        vec![0; HEADER_SIZE],
    ]
}
