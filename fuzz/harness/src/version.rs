//! The VERSION message.

use vfio_gfx::vfio_user::{MAX_DATA_XFER, MAX_MSG_FDS, Version};

/// Length of the shortest reply that says something, `{"capabilities":{}}` with numbers and NUL, and two to spare.
const SHORTEST: usize = 26;

/// A VERSION payload, as a client may send any.
///
/// Oracle: it parses or is refused; the answer to it is never longer than it (QEMU reads the reply into the request's
/// buffer), offers nothing that was not proposed and no larger number, is a JSON text that parses to itself, and is
/// what a client would get by proposing the answer.
pub fn version(data: &[u8]) {
    let Ok(proposal) = Version::parse(data) else {
        return;
    };
    let answer = proposal.answer();
    let mut reply = Vec::new();
    answer.encode(true, &mut reply);
    assert!(reply.len() <= data.len().max(SHORTEST), "{} bytes in reply to {}", reply.len(), data.len());
    assert_eq!(reply.last(), Some(&0));

    // A reply does not repeat the role, and reads as the VMM's.
    let mut back = Version::parse(&reply).unwrap();
    if let (Some(back), Some(answer)) = (&mut back.capabilities.extension, answer.capabilities.extension) {
        back.1 = answer.1;
    }
    assert_eq!(back, answer);
    assert_eq!(answer.answer(), answer);

    let mut request = Vec::new();
    proposal.encode(false, &mut request);
    assert_eq!(Version::parse(&request).unwrap(), proposal);

    let (asked, offered) = (proposal.capabilities, answer.capabilities);
    assert!(answer.major == 0 && answer.minor <= proposal.minor);
    for (asked, offered, most) in [
        (asked.max_msg_fds, offered.max_msg_fds, MAX_MSG_FDS as u64),
        (asked.max_data_xfer_size, offered.max_data_xfer_size, MAX_DATA_XFER as u64),
        (asked.max_dma_maps, offered.max_dma_maps, u64::from(u32::MAX)),
    ] {
        assert_eq!(offered.is_some(), asked.is_some());
        assert!(offered <= asked && offered <= Some(most));
    }
    assert!(offered.pgsizes.is_none_or(|sizes| asked.pgsizes.is_some_and(|asked| asked & sizes != 0)));
    assert_eq!(offered.extension.is_some(), asked.extension.is_some());
}
