//! bpf(2): load a program that guards a cgroup's devices, and attach it.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::{Result, check_fd, check_long};

const BPF_PROG_LOAD: i32 = 5;
const BPF_PROG_ATTACH: i32 = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_PROG_GET_FD_BY_ID: i32 = 13;
const BPF_OBJ_GET_INFO_BY_FD: i32 = 15;
const BPF_PROG_QUERY: i32 = 16;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_F_REPLACE: u32 = 4;

/// The head of `union bpf_attr` as BPF_PROG_LOAD reads it; fields behind it are zero by the kernel's rule.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    licence: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaces: u32,
}

#[repr(C)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    unused: u32,
}

#[repr(C)]
struct Info {
    program: u32,
    size: u32,
    to: u64,
}

/// The head of `struct bpf_prog_info`.
#[repr(C)]
pub(crate) struct Identity {
    kind: u32,
    pub(crate) id: u32,
    /// The kernel's hash of its instructions.
    pub(crate) tag: u64,
}

impl Identity {
    pub(crate) fn is_for_devices(&self) -> bool {
        self.kind == BPF_PROG_TYPE_CGROUP_DEVICE
    }
}

/// Loads a device program: one u64 an instruction.
pub(crate) fn load_device_program(program: &[u64]) -> Result<OwnedFd> {
    let load = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).unwrap_or(u32::MAX),
        instructions: program.as_ptr().addr() as u64,
        licence: c"Apache-2.0".as_ptr().addr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the structure is the head of bpf_attr with its size given; the program and the licence outlive the call.
    check_fd(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<Load>()) })
}

/// The device program that is attached to a cgroup itself, if there is one.
pub(crate) fn device_program_of(cgroup: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    let mut id = 0_u32;
    let target = cgroup.as_raw_fd().unsigned_abs();
    let ids = (&raw mut id).addr() as u64;
    let query = Query { target, kind: BPF_CGROUP_DEVICE, query_flags: 0, attach_flags: 0, ids, count: 1, unused: 0 };
    let size = size_of::<Query>();
    // SAFETY: the structure is the head of bpf_attr with its size given, and has room for as many ids as it says.
    let found = check_long(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw const query, size) });
    match found {
        // More than one: the first one is as good as any other.
        Err(super::Errno(libc::ENOSPC)) => {}
        other => drop(other?),
    }
    if id == 0 {
        return Ok(None);
    }
    program(id).map(Some)
}

/// The program of this number.
pub(crate) fn program(id: u32) -> Result<OwnedFd> {
    let attr = [id, 0, 0, 0];
    let size = size_of_val(&attr);
    // SAFETY: the array is the head of bpf_attr with its size given.
    check_fd(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_GET_FD_BY_ID, attr.as_ptr(), size) })
}

/// What a program is, as far as we ask.
pub(crate) fn identity(program: BorrowedFd<'_>) -> Result<Identity> {
    let mut identity = Identity { kind: 0, id: 0, tag: 0 };
    let info = Info {
        program: program.as_raw_fd().unsigned_abs(),
        size: u32::try_from(size_of::<Identity>()).unwrap_or(0),
        to: (&raw mut identity).addr() as u64,
    };
    let size = size_of::<Info>();
    // SAFETY: the structure is the head of bpf_attr with its size given; it names `identity` with its size, which outlives the call.
    check_long(unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &raw const info, size) })?;
    Ok(identity)
}

/// Attaches it to a cgroup, beside programs others may have attached (a device must pass them all), or in the place of one.
pub(crate) fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    instead: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let attach = Attach {
        target: cgroup.as_raw_fd().unsigned_abs(),
        program: program.as_raw_fd().unsigned_abs(),
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI | if instead.is_some() { BPF_F_REPLACE } else { 0 },
        replaces: instead.map_or(0, |fd| fd.as_raw_fd().unsigned_abs()),
    };
    let size = size_of::<Attach>();
    // SAFETY: the structure is the head of bpf_attr with its size given.
    check_long(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attach, size) }).map(drop)
}
