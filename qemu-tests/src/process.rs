//! Child processes that cannot outlive this one.
//!
//! A machine left behind by an aborted test run would eat a core for ever. The kernel's death signal follows the
//! spawning thread, and a test's thread ends long before a machine that several tests share: so one thread,
//! which never ends, spawns for all.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use crate::sys;

type Order = (Command, Sender<io::Result<Child>>);

/// Starts the command in its own process group, so that Ctrl-C in the terminal reaches only us and the guest can
/// be stopped in order.
pub(crate) fn spawn(mut command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                // Nobody left to take the answer: the child has nobody to serve either.
                if let Err(unclaimed) = answer.send(command.spawn())
                    && let Ok(mut child) = unclaimed.0
                {
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
        });
        orders
    });
    command.process_group(0);
    sys::die_with_spawner(&mut command);
    let (answer, result) = channel();
    let gone = || io::Error::other("the thread that spawns processes is gone");
    spawner.send((command, answer)).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}
