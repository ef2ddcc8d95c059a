//! System calls that fail on demand, in the real program.
//!
//! The program is started by a thread that has a seccomp filter, which it inherits: the calls that a test is interested in
//! stop and ask ([`seccomp_unotify(2)`]). A supervisor lets them pass, but for one of them, which it has fail with an error
//! instead. That needs no privilege, no tracer and no change to the program, and reaches programs that make system calls
//! without libc's functions (these do; a preloaded library would not see them).
//!
//! Calls count from the program's first `socketpair`, with which both programs set up their signals: what the loader and
//! the language's runtime do before is not theirs.
//!
//! [`seccomp_unotify(2)`]: https://man7.org/linux/man-pages/man2/seccomp_unotify.2.html
#![expect(unsafe_code, reason = "seccomp(2) and its ioctls have no safe interface")]

use std::ffi::{c_long, c_ulong};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};

use crate::process::Running;

/// A system call: its number, and what messages call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name.
    pub name: &'static str,
    /// Its number.
    pub number: c_long,
}

/// A [`Call`] by its name.
#[macro_export]
macro_rules! call {
    ($name:ident) => {
        $crate::inject::Call { name: stringify!($name), number: $crate::inject::numbers::$name }
    };
}

/// The numbers of the calls that can be made to fail.
#[expect(non_upper_case_globals, reason = "they are called as the calls are")]
#[expect(missing_docs, reason = "each is the system call's number")]
pub mod numbers {
    use std::ffi::c_long;

    macro_rules! numbers {
        ($($name:ident = $number:ident;)*) => { $(pub const $name: c_long = libc::$number;)* };
    }

    numbers! {
        accept4 = SYS_accept4; bind = SYS_bind; brk = SYS_brk; capset = SYS_capset; chmod = SYS_chmod;
        connect = SYS_connect;
        epoll_create1 = SYS_epoll_create1; epoll_ctl = SYS_epoll_ctl; epoll_pwait = SYS_epoll_pwait;
        eventfd2 = SYS_eventfd2; fchmod = SYS_fchmod; fcntl = SYS_fcntl; fstat = SYS_fstat;
        fstatfs = SYS_fstatfs; ftruncate = SYS_ftruncate; getdents64 = SYS_getdents64;
        getrandom = SYS_getrandom; getsockopt = SYS_getsockopt; inotify_add_watch = SYS_inotify_add_watch;
        inotify_init1 = SYS_inotify_init1; io_setup = SYS_io_setup; io_submit = SYS_io_submit;
        ioctl = SYS_ioctl; landlock_add_rule = SYS_landlock_add_rule;
        landlock_create_ruleset = SYS_landlock_create_ruleset;
        landlock_restrict_self = SYS_landlock_restrict_self; listen = SYS_listen; lseek = SYS_lseek; memfd_create = SYS_memfd_create;
        mmap = SYS_mmap; mremap = SYS_mremap; munmap = SYS_munmap; openat = SYS_openat; poll = SYS_poll; ppoll = SYS_ppoll;
        prctl = SYS_prctl; pread64 = SYS_pread64; read = SYS_read; readlink = SYS_readlink; recvfrom = SYS_recvfrom; recvmsg = SYS_recvmsg;
        pwrite64 = SYS_pwrite64; renameat2 = SYS_renameat2; seccomp = SYS_seccomp; sendmsg = SYS_sendmsg; sendto = SYS_sendto;
        setsockopt = SYS_setsockopt; socket = SYS_socket; socketpair = SYS_socketpair; statx = SYS_statx;
        timerfd_create = SYS_timerfd_create; timerfd_settime = SYS_timerfd_settime; unlink = SYS_unlink; write = SYS_write;
    }
}

/// What is to fail: the `nth` of these calls, from 1, counted from when this is armed.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Which call.
    pub call: Call,
    /// Which of them.
    pub nth: u32,
    /// The errno that it fails with.
    pub errno: rustix::io::Errno,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} failing with {:?}", self.call.name, self.nth, self.errno)
    }
}

#[derive(Debug, Default)]
struct State {
    /// The program's first thread, once it has begun.
    target: Option<u32>,
    armed: Option<Fault>,
    /// Calls of the armed kind so far.
    count: u32,
    has_happened: bool,
}

/// The supervisor must not allocate, and whoever holds the lock must not either: the thread with the filter may be stopped
/// within an allocation, with the allocator's lock.
#[derive(Debug, Default)]
struct Control {
    state: Mutex<State>,
    /// `None` where the system gives none.
    listener: OnceLock<Option<OwnedFd>>,
}

impl Control {
    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a call is answered: 0 to let it pass, or the errno.
    fn decide(&self, thread: u32, number: c_long) -> i32 {
        self.with(|state| {
            if state.target.is_none() && number == numbers::socketpair {
                state.target = Some(thread);
            }
            let Some(fault) = state.armed else { return 0 };
            if state.target != Some(thread) || fault.call.number != number || state.has_happened {
                return 0;
            }
            state.count += 1;
            state.has_happened = state.count == fault.nth;
            if state.has_happened { fault.errno.raw_os_error() } else { 0 }
        })
    }
}

/// A program whose system calls can be made to fail.
#[derive(Debug)]
pub struct Faulty {
    /// The program.
    pub program: Running,
    control: Arc<Control>,
    /// The program dies with the thread that started it, which waits for the other end of this.
    _starter: Sender<()>,
}

impl Faulty {
    /// Has `start` start a program of which these calls may be made to fail, with the first fault armed if there is one.
    ///
    /// # Errors
    /// Why this system has no such filters.
    ///
    /// # Panics
    /// If `start` does.
    pub fn start(
        calls: &[Call],
        first: Option<Fault>,
        start: impl FnOnce() -> Running + Send + 'static,
    ) -> Result<Self, String> {
        let filter = filter(calls)?;
        let control = Arc::new(Control::default());
        control.with(|state| state.armed = first);
        let supervisor = thread::spawn({
            let control = Arc::clone(&control);
            move || supervise(&control)
        });
        let (keep, kept) = channel();
        let (done, started) = channel();
        thread::spawn({
            let control = Arc::clone(&control);
            move || {
                // From here to the `unpark` nothing may be allocated.
                let (listener, refusal) = match install(&filter) {
                    Ok(listener) => (Some(listener), None),
                    Err(error) => (None, Some(error)),
                };
                let _ = control.listener.set(listener);
                supervisor.thread().unpark();
                let _ = done.send(match refusal {
                    None => Ok(start()),
                    Some(error) => Err(format!("no seccomp notifications: {error}")),
                });
                let _ = kept.recv();
            }
        });
        let program = started.recv().expect("the program could not be started")?;
        Ok(Self { program, control, _starter: keep })
    }

    /// From now on, this is to fail.
    pub fn arm(&self, fault: Fault) {
        self.control
            .with(|state| *state = State { target: state.target, armed: Some(fault), ..State::default() });
    }

    /// Nothing is to fail any more. Returns whether it did.
    pub fn disarm(&self) -> bool {
        self.control.with(|state| {
            state.armed = None;
            state.has_happened
        })
    }
}

/// From now on, this call fails in the calling thread, and in those that it starts, when its second parameter is `second`.
///
/// # Errors
/// Why this system has no such filters.
pub fn fails_in_this_thread(call: &Call, second: u32, errno: rustix::io::Errno) -> Result<(), String> {
    /// Where `struct seccomp_data` (linux/seccomp.h) has the low half of the second parameter, on a little-endian machine.
    const SECOND: u32 = 24;
    let number = u32::try_from(call.number).map_err(|e| e.to_string())?;
    let errno = u32::try_from(errno.raw_os_error()).map_err(|e| e.to_string())?;
    let (load, is) =
        (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K);
    let program = [
        instruction(load, 0, 0, 0)?,
        instruction(is, 0, 3, number)?,
        instruction(load, 0, 0, SECOND)?,
        instruction(is, 0, 1, second)?,
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno)?,
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW)?,
    ];
    set_filter(&program, 0).map(drop).map_err(|error| format!("no seccomp filter: {error}"))
}

/// Answers until no process with the filter is left.
fn supervise(control: &Control) {
    let listener = loop {
        match control.listener.get() {
            Some(Some(listener)) => break listener,
            Some(None) => return,
            None => thread::park(),
        }
    };
    loop {
        let mut fds = [PollFd::new(listener, PollFlags::IN)];
        if poll(&mut fds, None).is_err() {
            continue;
        }
        if !fds[0].revents().contains(PollFlags::IN) {
            return;
        }
        // SAFETY: it is made of integers, for which zero is a value; the kernel wants it zeroed.
        let mut request: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the ioctl fills the struct, which `install` has found to be as large as the kernel's.
        let result =
            unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut request) };
        if result < 0 {
            // A signal took the caller out of the call: it will ask again.
            continue;
        }
        let errno = control.decide(request.pid, c_long::from(request.data.nr));
        let pass = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or(1);
        let flags = if errno == 0 { pass } else { 0 };
        let mut answer = libc::seccomp_notif_resp { id: request.id, val: 0, error: -errno, flags };
        // SAFETY: the ioctl reads the struct, of the kernel's size too. It fails where the caller was killed meanwhile.
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer) };
    }
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> Result<libc::sock_filter, String> {
    Ok(libc::sock_filter { code: u16::try_from(code).map_err(|e| e.to_string())?, jt, jf, k })
}

/// A classic BPF program that stops at these calls and lets all others pass.
fn filter(calls: &[Call]) -> Result<Vec<libc::sock_filter>, String> {
    // `nr` is the first word of `struct seccomp_data`.
    let mut program = vec![instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)?];
    for number in calls.iter().map(|call| call.number).chain([numbers::socketpair]) {
        let number = u32::try_from(number).map_err(|e| e.to_string())?;
        program.push(instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number)?);
        program.push(instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_USER_NOTIF)?);
    }
    program.push(instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW)?);
    Ok(program)
}

/// Gives the calling thread, and what it starts, the filter; returns where its questions arrive. Allocates nothing.
fn install(filter: &[libc::sock_filter]) -> std::io::Result<OwnedFd> {
    let mut sizes = libc::seccomp_notif_sizes { seccomp_notif: 0, seccomp_notif_resp: 0, seccomp_data: 0 };
    // SAFETY: this operation writes the struct it is given.
    let asked = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_NOTIF_SIZES, 0, &raw mut sizes) };
    if asked < 0 {
        return Err(std::io::Error::last_os_error());
    }
    let (notif, resp) = (size_of::<libc::seccomp_notif>(), size_of::<libc::seccomp_notif_resp>());
    if (usize::from(sizes.seccomp_notif), usize::from(sizes.seccomp_notif_resp)) != (notif, resp) {
        return Err(std::io::ErrorKind::Unsupported.into());
    }
    let listener = set_filter(filter, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
    match i32::try_from(listener) {
        Ok(fd) if fd >= 0 => {
            // SAFETY: the call has made this descriptor for us, close-on-exec.
            Ok(unsafe { OwnedFd::from_raw_fd(fd) })
        }
        _ => Err(std::io::ErrorKind::Unsupported.into()),
    }
}

/// Gives the calling thread, and what it starts, a filter. Allocates nothing. Returns what seccomp(2) does.
fn set_filter(filter: &[libc::sock_filter], flags: c_ulong) -> std::io::Result<c_long> {
    // SAFETY: it takes integers only.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    let len = libc::c_ushort::try_from(filter.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the kernel reads the program of this length during the call, and nothing after it.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
}
