//! The VMMs that this device is for, as they really speak: the client that cloud-hypervisor links, cloud-hypervisor's
//! recorded start, and QEMU's.

mod cloud_hypervisor;
mod published_client;
mod qemu;
mod served;
mod wire;
