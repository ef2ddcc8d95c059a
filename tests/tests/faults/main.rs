//! What fails around the programs, one thing at a time: peers that die at any byte, servers that do, system calls, descriptors,
//! disks. `docs/src/faults.md` has the list.

mod calls;
mod cuts;
mod deaths;
mod limits;
mod places;
mod refusals;
mod startup;
