//! The shop's customer: writes numbers from 1 on, each until it is acknowledged, and looks whether all of them are there.

use crate::clients::{Postgres, Redis};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often it reads back.
const CHECK_EVERY: u64 = 25;
/// Between two tries where nobody answers.
const PAUSE: Duration = Duration::from_millis(200);
/// A database that is killed comes back within this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// A store of numbers behind a connection that may break.
pub(crate) trait Store: Sized {
    fn open(address: SocketAddr) -> io::Result<Self>;
    /// Once is as good as twice: the answer to the first may be lost.
    fn put(&mut self, number: u64) -> io::Result<()>;
    /// How many there are, and the largest.
    fn look(&mut self) -> io::Result<(u64, u64)>;
}

fn number(text: Option<&String>) -> io::Result<u64> {
    text.and_then(|text| text.parse().ok()).ok_or_else(|| io::Error::other(format!("{text:?} is no number")))
}

impl Store for Postgres {
    fn open(address: SocketAddr) -> io::Result<Self> {
        Self::connect(address)
    }

    fn put(&mut self, n: u64) -> io::Result<()> {
        self.query(&format!("insert into orders values ({n}) on conflict do nothing")).map(drop)
    }

    fn look(&mut self) -> io::Result<(u64, u64)> {
        let count = self.query("select count(*) from orders")?;
        let largest = self.query("select coalesce(max(n), 0) from orders")?;
        Ok((number(count.first())?, number(largest.first())?))
    }
}

impl Store for Redis {
    fn open(address: SocketAddr) -> io::Result<Self> {
        Self::connect(address)
    }

    fn put(&mut self, n: u64) -> io::Result<()> {
        self.command(&format!("SADD orders {n}"))?;
        self.command(&format!("SET largest {n}")).map(drop)
    }

    fn look(&mut self) -> io::Result<(u64, u64)> {
        let count = self.command("SCARD orders")?;
        self.command("SETNX largest 0")?;
        let largest = self.command("INCRBY largest 0")?;
        Ok((number(Some(&count))?, number(Some(&largest))?))
    }
}

/// Tries until it works, over as many connections as that takes.
pub(crate) fn persist<S: Store, T>(
    store: &mut Option<S>,
    address: SocketAddr,
    mut work: impl FnMut(&mut S) -> io::Result<T>,
) -> io::Result<T> {
    let started = Instant::now();
    loop {
        let opened = match store.take() {
            Some(open) => Ok(open),
            None => S::open(address),
        };
        let result = opened.and_then(|mut open| work(&mut open).map(|done| (open, done)));
        match result {
            Ok((open, done)) => {
                *store = Some(open);
                return Ok(done);
            }
            Err(error) if started.elapsed() > PATIENCE => {
                return Err(io::Error::other(format!("not within {} s: {error}", PATIENCE.as_secs())));
            }
            Err(_) => thread::park_timeout(PAUSE),
        }
    }
}

/// Writes until done; the last number acknowledged is in `acknowledged`.
pub(crate) fn write<S: Store>(address: SocketAddr, acknowledged: &AtomicU64, done: &AtomicBool) -> io::Result<()> {
    let mut store = None;
    while !done.load(Ordering::Relaxed) {
        let next = acknowledged.load(Ordering::Relaxed) + 1;
        persist(&mut store, address, |store: &mut S| store.put(next))?;
        acknowledged.store(next, Ordering::Relaxed);
        if next.is_multiple_of(CHECK_EVERY) {
            check::<S>(address, next)?;
        }
    }
    Ok(())
}

/// Every acknowledged number is there; over a connection of its own.
pub(crate) fn check<S: Store>(address: SocketAddr, acknowledged: u64) -> io::Result<()> {
    let (count, largest) = persist(&mut None, address, S::look)?;
    // One more than was acknowledged may be there: its answer was lost.
    let found = count == largest && (acknowledged..=acknowledged + 1).contains(&count);
    if found {
        Ok(())
    } else {
        Err(io::Error::other(format!("{acknowledged} were acknowledged, {count} are there, the largest {largest}")))
    }
}
