//! The system calls that the programs make once they have started.
//!
//! Found by strace(1) over the tests, and by reading: glibc and musl differ in what they call, and so do machines. What is listed
//! here without a check cannot open, execute or reach anything that the process does not hold already; what could, is checked or
//! has to be asked for in the [`Plan`](crate::Plan).
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]

use libc::c_long;

/// What must hold for a call to pass.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Check {
    /// Nothing.
    Free,
    /// Of this argument, counted from 0, none of these bits.
    Without(u8, u32),
    /// This argument is one of these.
    OneOf(u8, &'static [u32]),
    /// This argument, all 64 bits of it, is 0.
    Null(u8),
    /// This argument is our own process.
    Ourselves(u8),
}

/// A call, and when it passes.
pub(crate) type Call = (c_long, Check);

/// The descriptors that it holds, memory, time, and its own end.
pub(crate) const ALWAYS: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fstatfs,
    libc::SYS_readlinkat,
    // Sockets that it holds; new ones only from a listener.
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    // Waiting.
    libc::SYS_ppoll,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_sched_yield,
    libc::SYS_restart_syscall,
    // Interrupts, which are signalled by asynchronous I/O.
    libc::SYS_io_setup,
    libc::SYS_io_submit,
    libc::SYS_io_getevents,
    libc::SYS_io_destroy,
    // Video memory, and what was written of it.
    libc::SYS_memfd_create,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    // Clocks, where the vDSO has none, and other questions.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getcwd,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_sched_getaffinity,
    // Signals to itself, and the first and last steps of threads.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Its socket file; landlock says where.
    libc::SYS_unlinkat,
];

/// What older machines have beside the above.
#[cfg(target_arch = "x86_64")]
pub(crate) const ALWAYS_OLD: &[c_long] = &[
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_readlink,
    libc::SYS_poll,
    libc::SYS_epoll_wait,
    libc::SYS_time,
    libc::SYS_unlink,
];
/// What older machines have beside the above.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const ALWAYS_OLD: &[c_long] = &[];

// Flags of the uapi, which libc has as signed numbers.
const WRITES: u32 = (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND) as u32;
const EXECUTES: u32 = libc::PROT_EXEC as u32;

/// `FIONBIO` (asm-generic/ioctls.h), by which the standard library makes sockets non-blocking.
const FIONBIO: u32 = 0x5421;
/// `UDMABUF_CREATE` (udmabuf.h)
const UDMABUF_CREATE: u32 = 0x4018_7542;
/// `UDMABUF_CREATE_LIST` (udmabuf.h)
const UDMABUF_CREATE_LIST: u32 = 0x4008_7543;
/// `DMA_BUF_IOCTL_SYNC` (dma-buf.h)
const DMA_BUF_SYNC: u32 = 0x4008_6200;

/// What `fcntl` may do, as numbers of the uapi (fcntl.h): `F_GETFD`, `F_SETFD`, `F_GETFL`, `F_SETFL`, `F_DUPFD_CLOEXEC`,
/// `F_ADD_SEALS`, `F_GET_SEALS`.
const FCNTL: &[u32] = &[1, 2, 3, 4, 1030, 1033, 1034];

/// `PR_SET_NAME`, of a thread that begins, and `PR_SET_VMA`, of memory (prctl.h).
const PRCTL: &[u32] = &[15, 0x5356_4d41];

/// The one mode that files are given: for their owner, to read and write.
const PRIVATE: &[u32] = &[0o600];

/// What passes for all, depending on an argument.
pub(crate) const CHECKED: &[Call] = &[
    (libc::SYS_openat, Check::Without(2, WRITES)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, Check::Without(1, WRITES)),
    (libc::SYS_mmap, Check::Without(2, EXECUTES)),
    (libc::SYS_mprotect, Check::Without(2, EXECUTES)),
    (libc::SYS_ioctl, Check::OneOf(1, &[FIONBIO, UDMABUF_CREATE, UDMABUF_CREATE_LIST, DMA_BUF_SYNC])),
    (libc::SYS_fcntl, Check::OneOf(1, FCNTL)),
    (libc::SYS_prctl, Check::OneOf(0, PRCTL)),
    // New video memory, which is for nobody else.
    (libc::SYS_fchmod, Check::OneOf(1, PRIVATE)),
    // Asking for a limit, not setting one.
    (libc::SYS_prlimit64, Check::Null(2)),
    // abort(3)
    (libc::SYS_tgkill, Check::Ourselves(0)),
];

/// `AF_UNIX` (socket.h)
const UNIX: &[u32] = &[1];

/// Connecting to a socket of another program.
pub(crate) const CONNECTS: &[Call] =
    &[(libc::SYS_socket, Check::OneOf(0, UNIX)), (libc::SYS_connect, Check::Free)];

/// Making devices, and sockets for them, and noticing that they are wanted.
pub(crate) const MAKES_DEVICES: &[Call] = &[
    (libc::SYS_socket, Check::OneOf(0, UNIX)),
    (libc::SYS_connect, Check::Free),
    (libc::SYS_bind, Check::Free),
    (libc::SYS_listen, Check::Free),
    (libc::SYS_fchmodat, Check::OneOf(2, PRIVATE)),
    (libc::SYS_renameat2, Check::Free),
    (libc::SYS_getdents64, Check::Free),
    (libc::SYS_inotify_add_watch, Check::Free),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chmod, Check::OneOf(1, PRIVATE)),
];

/// The type of VFIO's requests, `';'` (vfio.h), and the byte of a request number that it is in (asm-generic/ioctl.h).
pub(crate) const VFIO_REQUEST: (u32, u32) = (0xff00, 0x3b00);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_is_opened_to_be_changed() {
        for flag in [libc::O_WRONLY, libc::O_RDWR, libc::O_CREAT, libc::O_TRUNC, libc::O_APPEND] {
            assert_ne!(WRITES & flag.cast_unsigned(), 0, "{flag:#o}");
        }
        for flag in [libc::O_RDONLY, libc::O_CLOEXEC, libc::O_NONBLOCK, libc::O_DIRECTORY, libc::O_NOFOLLOW] {
            assert_eq!(WRITES & flag.cast_unsigned(), 0, "{flag:#o}");
        }
    }
}
