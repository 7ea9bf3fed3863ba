//! Stage 1: from the initramfs to the root.

/// Ends by executing stage 2.
pub(crate) fn run() -> ! {
    std::process::exit(1)
}
