//! Interrupts: how many each index has, and the eventfds that deliver them.

use std::os::fd::OwnedFd;

use thiserror::Error;

use super::eventfd::{is_eventfd, signal};
use crate::abi::{Errno, IrqAction, IrqData, IrqFlags, IrqRequest, pci_irq};
use crate::number::to_usize;

/// Most interrupts an index may have; MSI-X allows no more (PCI 3.0, 6.8.2).
pub const MAX_IRQS: u32 = 2048;

/// Why interrupts cannot be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IrqError {
    /// The number of descriptors is neither the range's nor 0 (which takes the eventfds away).
    #[error("set irqs: {found} descriptors for {expected} interrupts")]
    Descriptors {
        /// Interrupts in the range.
        expected: u32,
        /// Descriptors with the request.
        found: usize,
    },
    /// A descriptor is no eventfd.
    #[error("set irqs: descriptor {0} of the request is no eventfd")]
    NotAnEventfd(usize),
    /// `DATA_BOOL` with fewer bytes than interrupts.
    #[error("set irqs: {found} bytes of data for {expected} interrupts")]
    Data {
        /// Interrupts in the range.
        expected: u32,
        /// Bytes behind the header.
        found: usize,
    },
    /// A combination of data and action that no device of this framework has a use for.
    #[error("set irqs: {action:?} with {data:?} data is not supported")]
    Unsupported {
        /// Data type.
        data: IrqData,
        /// Action.
        action: IrqAction,
    },
    /// Asked to signal an interrupt that has no eventfd.
    #[error("set irqs: interrupt {0} has no eventfd to signal")]
    NotArmed(u32),
}

impl From<IrqError> for Errno {
    fn from(error: IrqError) -> Self {
        match error {
            IrqError::Unsupported { .. } => Self::ENOTTY,
            IrqError::Data { .. } => Self::EFAULT,
            _ => Self::EINVAL,
        }
    }
}

#[derive(Debug, Default)]
struct Vector {
    eventfd: Option<OwnedFd>,
    masked: bool,
    /// Fired while masked.
    pending: bool,
}

/// The interrupts of a device: one list of vectors per index.
#[derive(Debug)]
pub struct Irqs {
    indices: Vec<Vec<Vector>>,
}

impl Irqs {
    /// `counts[i]` interrupts at index i, each at most [`MAX_IRQS`]. The five PCI indices exist always and may be empty.
    #[must_use]
    pub fn new(counts: &[u32]) -> Self {
        let indices = counts.len().max(to_usize(pci_irq::COUNT));
        let vectors = |n: usize| counts.get(n).copied().unwrap_or(0).min(MAX_IRQS);
        Self { indices: (0..indices).map(|n| (0..vectors(n)).map(|_| Vector::default()).collect()).collect() }
    }

    /// Gives an index one interrupt, if it has none.
    pub(super) fn offer(&mut self, index: u32) {
        let vectors = self.indices.get_mut(to_usize(index));
        if let Some(vectors) = vectors.filter(|vectors| vectors.is_empty()) {
            vectors.push(Vector::default());
        }
    }

    /// Whether an interrupt has an eventfd.
    #[must_use]
    pub fn is_armed(&self, index: u32, vector: u32) -> bool {
        let vectors = self.indices.get(to_usize(index));
        vectors
            .and_then(|vectors| vectors.get(to_usize(vector)))
            .is_some_and(|vector| vector.eventfd.is_some())
    }

    /// How many indices there are.
    #[must_use]
    pub fn num_irqs(&self) -> u32 {
        u32::try_from(self.indices.len()).unwrap_or(u32::MAX)
    }

    /// How many interrupts an index has, `None` where there is no such index.
    #[must_use]
    pub fn count(&self, index: u32) -> Option<u32> {
        let vectors = self.indices.get(usize::try_from(index).ok()?)?;
        u32::try_from(vectors.len()).ok()
    }

    /// What an index can do; nothing where it is empty.
    #[must_use]
    pub fn flags(&self, index: u32) -> IrqFlags {
        match self.count(index) {
            Some(1..) => IrqFlags::EVENTFD,
            _ => IrqFlags::empty(),
        }
    }

    /// Carries out a request that [`crate::abi::IrqSet::parse`] found well-formed. `fds` are the descriptors it came
    /// with, `bools` the bytes of `DATA_BOOL`. Descriptors that are not kept are closed.
    ///
    /// # Errors
    /// [`IrqError`]; nothing has changed then.
    pub fn set(&mut self, request: IrqRequest, bools: &[u8], fds: Vec<OwnedFd>) -> Result<(), IrqError> {
        let IrqRequest { index, start, count, data, action } = request;
        if data == IrqData::Bool && bools.len() < to_usize(count) {
            return Err(IrqError::Data { expected: count, found: bools.len() });
        }
        check_eventfds(data, count, &fds)?;
        let Some(vectors) = self.indices.get_mut(to_usize(index)) else {
            return Err(IrqError::NotArmed(start));
        };
        if (data, action) == (IrqData::None, IrqAction::Trigger) && count == 0 {
            vectors.iter_mut().for_each(|vector| *vector = Vector::default());
            return Ok(());
        }
        let range = vectors.iter_mut().skip(to_usize(start)).take(to_usize(count));
        match (data, action) {
            (IrqData::Eventfd, IrqAction::Trigger) => {
                let mut fds = fds.into_iter();
                range.for_each(|vector| vector.eventfd = fds.next());
            }
            (IrqData::Eventfd, _) => return Err(IrqError::Unsupported { data, action }),
            (IrqData::None | IrqData::Bool, _) => {
                for (n, vector) in range.enumerate() {
                    if data == IrqData::Bool && bools.get(n).copied().unwrap_or(0) == 0 {
                        continue;
                    }
                    match action {
                        IrqAction::Mask => vector.masked = true,
                        IrqAction::Unmask => {
                            vector.masked = false;
                            if std::mem::take(&mut vector.pending) {
                                vector.fire();
                            }
                        }
                        IrqAction::Trigger => vector.fire(),
                    }
                }
            }
        }
        Ok(())
    }

    /// Fires an interrupt. One that is masked fires when it is unmasked; one without an eventfd is lost, as on
    /// hardware whose interrupt is disabled.
    pub fn trigger(&mut self, index: u32, vector: u32) {
        let vectors = self.indices.get_mut(to_usize(index));
        if let Some(vector) = vectors.and_then(|vectors| vectors.get_mut(to_usize(vector))) {
            vector.fire();
        }
    }

    /// Drops every eventfd and mask: the VMM is gone.
    pub fn disarm(&mut self) {
        self.indices.iter_mut().flatten().for_each(|vector| *vector = Vector::default());
    }
}

/// Whether a request may come with these descriptors: eventfds only, and where they are its data one for each interrupt or none.
pub(super) fn check_eventfds(data: IrqData, count: u32, fds: &[OwnedFd]) -> Result<(), IrqError> {
    if data == IrqData::Eventfd && !fds.is_empty() && fds.len() != to_usize(count) {
        return Err(IrqError::Descriptors { expected: count, found: fds.len() });
    }
    match fds.iter().position(|fd| !is_eventfd(fd)) {
        Some(other) => Err(IrqError::NotAnEventfd(other)),
        None => Ok(()),
    }
}

impl Vector {
    fn fire(&mut self) {
        if self.masked {
            self.pending = true;
        } else if let Some(eventfd) = &self.eventfd {
            signal(eventfd);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};

    fn request(data: IrqData, action: IrqAction, start: u32, count: u32) -> IrqRequest {
        IrqRequest { index: pci_irq::MSI, start, count, data, action }
    }

    fn armed() -> (Irqs, OwnedFd) {
        let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap();
        let mut irqs = Irqs::new(&[0, 2]);
        irqs.set(request(IrqData::Eventfd, IrqAction::Trigger, 1, 1), &[], vec![fd.try_clone().unwrap()])
            .unwrap();
        (irqs, fd)
    }

    fn fired(fd: &OwnedFd) -> bool {
        rustix::io::read(fd, &mut [0u8; 8]).is_ok()
    }

    #[test]
    fn all_five_pci_indices_answer() {
        let irqs = Irqs::new(&[]);
        assert_eq!(irqs.num_irqs(), 5);
        assert!((0..5).all(|index| irqs.count(index) == Some(0)));
        assert_eq!(irqs.count(5), None);
    }

    #[test]
    fn no_request_comes_with_what_is_no_eventfd() {
        for data in [IrqData::None, IrqData::Bool, IrqData::Eventfd] {
            let pipe = OwnedFd::from(std::io::pipe().unwrap().1);
            let result = armed().0.set(request(data, IrqAction::Trigger, 1, 1), &[1], vec![pipe]);
            assert_eq!(result, Err(IrqError::NotAnEventfd(0)), "{data:?}");
        }
    }

    #[test]
    fn an_armed_interrupt_reaches_its_eventfd() {
        let (mut irqs, fd) = armed();
        irqs.trigger(pci_irq::MSI, 1);
        assert!(fired(&fd));
        irqs.trigger(pci_irq::MSI, 0);
        irqs.trigger(9, 9);
        assert!(!fired(&fd));
    }

    #[test]
    fn whoever_armed_an_interrupt_can_try_it() {
        let (mut irqs, fd) = armed();
        for _ in 0..2 {
            irqs.set(request(IrqData::None, IrqAction::Trigger, 1, 1), &[], vec![]).unwrap();
            assert!(fired(&fd));
        }
    }

    #[test]
    fn an_index_without_interrupts_cannot_be_armed() {
        let irqs = Irqs::new(&[0, 2]);
        assert_eq!(
            [0, pci_irq::MSI, 9].map(|index| irqs.flags(index).bits()),
            [0, IrqFlags::EVENTFD.bits(), 0]
        );
    }

    #[test]
    fn a_masked_interrupt_waits() {
        let (mut irqs, fd) = armed();
        irqs.set(request(IrqData::None, IrqAction::Mask, 1, 1), &[], vec![]).unwrap();
        irqs.trigger(pci_irq::MSI, 1);
        assert!(!fired(&fd));
        irqs.set(request(IrqData::Bool, IrqAction::Unmask, 0, 2), &[0, 1], vec![]).unwrap();
        assert!(fired(&fd));
    }

    #[test]
    fn a_full_counter_does_not_block() {
        let fd = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        rustix::io::write(&fd, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        let mut irqs = Irqs::new(&[0, 1]);
        irqs.set(request(IrqData::Eventfd, IrqAction::Trigger, 0, 1), &[], vec![fd]).unwrap();
        irqs.trigger(pci_irq::MSI, 0);
    }

    #[test]
    fn disabling_drops_the_descriptors() {
        let (mut irqs, fd) = armed();
        irqs.set(request(IrqData::None, IrqAction::Trigger, 0, 0), &[], vec![]).unwrap();
        irqs.trigger(pci_irq::MSI, 1);
        assert!(!fired(&fd));
    }

    #[test]
    fn descriptors_must_match_the_range() {
        let (mut irqs, fd) = armed();
        let two = request(IrqData::Eventfd, IrqAction::Trigger, 0, 2);
        assert_eq!(irqs.set(two, &[], vec![fd]), Err(IrqError::Descriptors { expected: 2, found: 1 }));
        assert_eq!(irqs.set(two, &[], vec![]), Ok(()), "none takes them away");
    }

    #[test]
    fn masking_by_eventfd_is_no_operation_of_ours() {
        let (mut irqs, _fd) = armed();
        let refused = |irqs: &mut Irqs, action| {
            Errno::from(irqs.set(request(IrqData::Eventfd, action, 1, 1), &[], vec![]).unwrap_err())
        };
        assert_eq!(
            [IrqAction::Mask, IrqAction::Unmask].map(|action| refused(&mut irqs, action)),
            [Errno::ENOTTY; 2]
        );
    }
}
