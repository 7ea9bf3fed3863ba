//! The allocator: the C library's, and behind it a reserve, so that a failed allocation is not the end of PID 1.
//!
//! Rust offers no way to survive a null from the allocator (it aborts; unwinding out of an allocator is undefined).
//! So there is no null: what the system refuses comes from 64 KiB kept in the program itself. The event loop's
//! long-lived tables are allocated at start; a handler allocates a few short-lived buffers and frees them before the
//! next one runs, so the reserve is whole again each time and lasts as long as the shortage does. Should it ever be
//! used up, PID 1 executes itself anew ([`super::crash`]): containers, fds and mounts stay.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const UNIT: usize = 64;
const UNITS: usize = 1024;
const WORDS: usize = UNITS / 64;

#[repr(align(64))]
struct Arena(UnsafeCell<[u8; UNIT * UNITS]>);

// SAFETY: handed out in disjoint pieces, each to one owner; the bitmap below says which are free.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(UnsafeCell::new([0; UNIT * UNITS]));
/// One bit a unit: set when it is in use. There are no threads, the atomics only make it `Sync`.
static USED: [AtomicU64; WORDS] = [const { AtomicU64::new(0) }; WORDS];
static REFUSED: AtomicU64 = AtomicU64::new(0);
/// Fault injection: the system's allocator is treated as if it had nothing.
static FAILING: AtomicBool = AtomicBool::new(false);

struct WithReserve;

#[global_allocator]
static ALLOCATOR: WithReserve = WithReserve;

/// How often the system refused memory since the start.
pub(crate) fn refused() -> u64 {
    REFUSED.load(Ordering::Relaxed)
}

#[cfg(debug_assertions)]
pub(crate) fn fail(on: bool) {
    FAILING.store(on, Ordering::Relaxed);
}

// SAFETY: memory comes from the system's allocator or from disjoint units of the arena, aligned to 64 at least;
// which of the two is decided by the address when it is given back.
unsafe impl GlobalAlloc for WithReserve {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !(cfg!(debug_assertions) && FAILING.load(Ordering::Relaxed)) {
            // SAFETY: the caller's layout is passed on.
            let memory = unsafe { System.alloc(layout) };
            if !memory.is_null() {
                return memory;
            }
        }
        REFUSED.fetch_add(1, Ordering::Relaxed);
        let memory = from_reserve(layout);
        if memory.is_null() {
            super::crash::start_over("out of memory");
        }
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        match unit_of(memory) {
            Some(first) => set(first, units(layout), false),
            // SAFETY: not from the arena, so it is the system's, with the same layout.
            None => unsafe { System.dealloc(memory, layout) },
        }
    }
}

fn units(layout: Layout) -> usize {
    layout.size().div_ceil(UNIT)
}

fn unit_of(memory: *mut u8) -> Option<usize> {
    let offset = (memory as usize).checked_sub(ARENA.0.get() as usize)?;
    (offset < UNIT * UNITS).then_some(offset / UNIT)
}

/// The first run of free units that is long enough.
fn from_reserve(layout: Layout) -> *mut u8 {
    let wanted = units(layout);
    if layout.align() > UNIT || wanted > UNITS {
        return std::ptr::null_mut();
    }
    let mut run = 0;
    for unit in 0..UNITS {
        let used = USED[unit / 64].load(Ordering::Relaxed) >> (unit % 64) & 1;
        run = if used == 0 { run + 1 } else { 0 };
        if run == wanted {
            let first = unit + 1 - wanted;
            set(first, wanted, true);
            // SAFETY: first < UNITS, so the place is inside the arena.
            return unsafe { ARENA.0.get().cast::<u8>().add(first * UNIT) };
        }
    }
    std::ptr::null_mut()
}

fn set(first: usize, count: usize, used: bool) {
    for unit in first..first + count {
        let bit = 1 << (unit % 64);
        if used {
            USED[unit / 64].fetch_or(bit, Ordering::Relaxed);
        } else {
            USED[unit / 64].fetch_and(!bit, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_gives_disjoint_pieces_and_takes_them_back() {
        let layout = |bytes| Layout::from_size_align(bytes, 8).unwrap();
        let small: Vec<_> = (0..UNITS).map(|_| from_reserve(layout(UNIT))).collect();
        assert!(small.iter().all(|piece| unit_of(*piece).is_some()));
        assert!(from_reserve(layout(1)).is_null(), "empty");
        for piece in &small[10..13] {
            set(unit_of(*piece).unwrap(), 1, false);
        }
        assert!(from_reserve(layout(4 * UNIT)).is_null(), "no run of four");
        assert_eq!(from_reserve(layout(2 * UNIT + 1)), small[10]);
        set(0, UNITS, false);
        assert!(from_reserve(layout(UNIT * UNITS + 1)).is_null());
        assert!(from_reserve(Layout::from_size_align(1, 4096).unwrap()).is_null());
    }
}
