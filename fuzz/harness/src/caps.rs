//! Capability chains of regions.

use vfio_gfx::abi::caps::{CAP_TYPE, RegionCap, SparseArea, encode, parse};

use crate::input::Input;

/// Bytes of the region info that a chain follows.
const BASE: usize = 32;

/// A region info reply from a device that is not trusted, with the chain anywhere (the first two bytes of the input);
/// and a chain of our own.
///
/// Oracle: walking ends, and what it returns holds no more memory than the reply has bytes; a chain that was accepted
/// and is laid out anew reads as the same capabilities; so does any list of capabilities.
pub fn caps(data: &[u8]) {
    let input = &mut Input::new(data);
    let offset = u32::from(input.any::<u16>());
    let mut rest = Input::new(input.rest());
    let reply = Input::new(data).rest().get(2..).unwrap_or_default();
    if let Ok(found) = parse(reply, offset) {
        let areas: usize = found
            .iter()
            .map(|cap| if let RegionCap::SparseMmap(areas) = cap { areas.len() } else { 0 })
            .sum();
        let memory = areas * size_of::<SparseArea>() + found.len() * 8;
        assert!(
            memory <= reply.len(),
            "{} bytes hold {} capabilities, {areas} areas",
            reply.len(),
            found.len()
        );
        check_round_trip(&found);
    }
    let mut list = Vec::new();
    while !rest.is_empty() && list.len() < 64 {
        list.push(match rest.byte() % 3 {
            0 => RegionCap::Type { ty: rest.number(), subtype: rest.number() },
            1 => {
                let areas =
                    (0..rest.byte()).map(|_| SparseArea { offset: rest.number64(), size: rest.number64() });
                RegionCap::SparseMmap(areas.collect())
            }
            // Ids up to this one have a layout.
            _ => RegionCap::Other { id: rest.any::<u16>().max(CAP_TYPE + 1), version: rest.any() },
        });
    }
    check_round_trip(&list);
}

fn check_round_trip(caps: &[RegionCap]) {
    let mut reply = vec![0; BASE];
    reply.extend(encode(caps));
    let start = if caps.is_empty() { 0 } else { 32 };
    assert_eq!(parse(&reply, start).unwrap(), caps);
}
