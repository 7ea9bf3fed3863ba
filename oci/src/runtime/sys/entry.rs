//! What std would do before `main`, as far as it is wanted: its own start is left out (see `main.rs`).

use std::ffi::{CStr, c_char, c_int};
use std::ptr;
use std::sync::OnceLock;

use super::memory::Pages;
use super::{Result, check};
use crate::runtime::cli;

/// The program's `main`, as the C runtime calls it: what std does before its own (a stack for handlers of overflow, a table of
/// threads) costs a fifth of a short command, and is for nothing here. To be written once, at the top of the program.
#[macro_export]
macro_rules! entry {
    () => {
        #[cfg_attr(not(test), unsafe(no_mangle))]
        #[allow(unsafe_code)] // the name is the C runtime's
        extern "C" fn main(count: ::std::ffi::c_int, words: *const *const ::std::ffi::c_char) -> ::std::ffi::c_int {
            // SAFETY: the C runtime gives the kernel's list of `count` strings, which live as long as the program.
            unsafe { $crate::runtime::start(count, words) }
        }
    };
}

static WORDS: OnceLock<Vec<&'static CStr>> = OnceLock::new();

/// The command line: known once `enter` was called.
pub(crate) fn words() -> &'static [&'static CStr] {
    WORDS.get().map_or(&[], Vec::as_slice)
}

/// The strings this program was called with, arguments and environment, are not to be read in its memory as long as this is there: a copy
/// of that memory (a process beside it, see `copy_beside`) has them nowhere. They lie in pages that no copy gets, and come back from
/// there. What was made of the arguments, paths and an id, is not hidden.
pub(crate) struct Hidden {
    pages: Pages,
    from: *mut u8,
    bytes: usize,
}

impl Hidden {
    /// None where they are not known.
    pub(crate) fn new() -> Result<Option<Hidden>> {
        let Some(first) = words().first() else { return Ok(None) };
        let from = first.as_ptr().cast_mut().cast::<u8>();
        let mut end = from.addr();
        let own = words().iter().map(|word| (word.as_ptr().addr(), word.count_bytes()));
        for (start, length) in own.chain(environment()) {
            // The kernel puts one behind the other (execve(2)).
            if start == end {
                end += length + 1;
            }
        }
        let bytes = end - from.addr();
        let mut pages = Pages::new(bytes)?;
        pages.keep_from_copies()?;
        // SAFETY: from the first string to the last there is memory of ours alone, and the pages are as long.
        unsafe { ptr::copy_nonoverlapping(from, pages.bytes().as_mut_ptr(), bytes) };
        // SAFETY: as above; whoever reads a string meanwhile finds it empty.
        unsafe { ptr::write_bytes(from, 0, bytes) };
        Ok(Some(Hidden { pages, from, bytes }))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // SAFETY: where they have come from.
        unsafe { ptr::copy_nonoverlapping(self.pages.bytes().as_ptr(), self.from, self.bytes) };
    }
}

/// Address and length of each string.
fn environment() -> impl Iterator<Item = (usize, usize)> {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: the C library's, which nobody changes here: there is one thread, and it sets no variable.
    let mut next = unsafe { environ };
    std::iter::from_fn(move || {
        if next.is_null() {
            return None;
        }
        // SAFETY: the list ends in null, behind which nobody looks.
        let word = unsafe { *next };
        if word.is_null() {
            return None;
        }
        next = next.wrapping_add(1);
        // SAFETY: each is a string that lives on.
        Some((word.addr(), unsafe { CStr::from_ptr(word) }.count_bytes()))
    })
}

/// The program, from the command line to its exit status.
///
/// # Safety
/// `words` has to point to `count` strings that live as long as the program.
pub unsafe fn start(count: c_int, words: *const *const c_char) -> c_int {
    // SAFETY: the caller's promise is passed on.
    let entered = unsafe { enter(count, words) };
    cli::main(entered).into()
}

/// Keeps the command line, and makes the process what std promises its users.
///
/// # Safety
/// `words` has to point to `count` strings that live as long as the program.
unsafe fn enter(count: c_int, words: *const *const c_char) -> Result<()> {
    let word = |index| {
        // SAFETY: the caller's promise: there are `count` pointers.
        let word = unsafe { *words.wrapping_add(index) };
        // SAFETY: and each of them is a string that lives on.
        unsafe { CStr::from_ptr(word) }
    };
    let _ = WORDS.set((0..usize::try_from(count).unwrap_or(0)).map(word).collect());
    stdio()?;
    // Writing to a reader that is gone is an error, not the end.
    // SAFETY: the disposition takes no handler of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    // A caller that ignores its children's ends passes that on, and the kernel then keeps no exit status for us.
    // SAFETY: as above.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    Ok(())
}

/// Closed standard streams would be given to the next files that are opened: the container's stdin could be its folder.
fn stdio() -> Result<()> {
    let mut three = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: three pollfds are given and counted.
    check(unsafe { libc::poll(three.as_mut_ptr(), 3, 0) })?;
    for _ in three.iter().filter(|one| one.revents & libc::POLLNVAL != 0) {
        // The lowest free number: in their order it is the one that is missing. It stays open.
        // SAFETY: the path is a constant.
        check(unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) })?;
    }
    Ok(())
}
