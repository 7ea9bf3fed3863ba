//! The queue of exits: what PID 1 reaped and the supervisor has not dealt with yet.
//!
//! ```text
//!   push ──►  [ front … sent, not acknowledged … │ … not sent … back ]
//!                        handled(seq) ◄──┘       └──► next_unsent
//! ```
//! Bounded: when it is full the oldest is dropped and counted, so that a supervisor that never acknowledges costs
//! no memory. Sequence numbers are contiguous, so a number is a place. The queue lies in a memory file, which survives
//! when PID 1 executes itself anew (`sys::crash`): no exit is lost by that.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

use handoff::Exit;

use crate::sys;
use crate::sys::shared;

/// Exits kept for a supervisor that is away.
const CAPACITY: usize = 4096;
/// How many exits were taken out and put in so far; their difference is what waits.
const TAKEN: usize = 0;
const PUT: usize = 1;
/// The exit that lies in the first slot.
const BASE: usize = 2;
const DROPPED: usize = 3;
const HEADER: usize = 4;
/// Numbers an exit takes.
const SLOT: usize = 5;
const NUMBERS: usize = HEADER + CAPACITY * SLOT;

/// Where there is no memory to be had for the file: it survives supervisors, but not PID 1's own end.
static PLAIN: [AtomicU64; NUMBERS] = [const { AtomicU64::new(0) }; NUMBERS];

pub(crate) struct ExitQueue {
    numbers: &'static [AtomicU64],
    file: Option<OwnedFd>,
    send_from: u64,
}

impl ExitQueue {
    pub(crate) fn new() -> Self {
        let (numbers, file) = match shared::with_the_next_self(NUMBERS) {
            Ok((numbers, file)) => (numbers, Some(file)),
            Err(_) => (&PLAIN[..], None),
        };
        Self { numbers, file, send_from: 1 }
    }

    /// What a former self left; where it left nothing usable, an empty queue that counts one exit as lost.
    pub(crate) fn adopt(file: RawFd) -> Self {
        let adopted = sys::fds::adopt(file).and_then(|file| Self::of_file(file).ok_or(nix::errno::Errno::EINVAL));
        adopted.unwrap_or_else(|_| {
            let queue = Self::new();
            queue.count_dropped();
            queue
        })
    }

    fn of_file(file: OwnedFd) -> Option<Self> {
        let numbers = shared::of_the_former_self(file.as_fd(), NUMBERS).ok()?;
        let mut queue = Self { numbers, file: Some(file), send_from: 0 };
        let (base, taken, put) = (queue.get(BASE), queue.get(TAKEN), queue.get(PUT));
        // PID 1 was broken: what it left is believed only as far as it makes sense.
        let is_whole = base <= taken && taken <= put && put - taken <= CAPACITY as u64;
        queue.rewind();
        is_whole.then_some(queue)
    }

    /// The file for the next self, -1 when there is none.
    pub(crate) fn file(&self) -> RawFd {
        self.file.as_ref().map_or(-1, |file| file.as_raw_fd())
    }

    fn get(&self, place: usize) -> u64 {
        self.numbers[place].load(Ordering::Acquire)
    }

    fn set(&self, place: usize, value: u64) {
        self.numbers[place].store(value, Ordering::Release);
    }

    fn slot(&self, index: u64) -> &'static [AtomicU64] {
        let at = HEADER + usize::try_from(index - self.get(BASE)).unwrap_or(0) % CAPACITY * SLOT;
        &self.numbers[at..at + SLOT]
    }

    /// Appends an exit and gives it its number (the one inside is overwritten). It is there with the last store: a
    /// fault in the middle of this leaves the queue as it was.
    pub(crate) fn push(&mut self, exit: Exit) {
        let index = self.get(PUT);
        if self.len() == CAPACITY {
            self.set(TAKEN, self.get(TAKEN) + 1);
            self.count_dropped();
        }
        if self.len() == 0 {
            // Back to the memory's start: a queue that stays short touches few pages of it.
            self.set(BASE, index);
        }
        let status = u64::from(exit.wait_status.cast_unsigned());
        let values =
            [u64::from(exit.pid) | status << 32, exit.start_ticks, exit.user_us, exit.system_us, exit.max_rss_kib];
        for (place, value) in self.slot(index).iter().zip(values) {
            place.store(value, Ordering::Release);
        }
        self.set(PUT, index + 1);
        self.send_from = self.send_from.max(self.front_seq());
    }

    /// Sequence numbers begin with 1.
    fn front_seq(&self) -> u64 {
        self.get(TAKEN) + 1
    }

    /// The oldest exit this supervisor was not told yet; [`Self::sent`] moves on.
    pub(crate) fn next_unsent(&self) -> Option<Exit> {
        let index = self.send_from - 1;
        if index >= self.get(PUT) {
            return None;
        }
        let slot = self.slot(index);
        let get = |place: usize| slot[place].load(Ordering::Acquire);
        let [pid, status] = [get(0), get(0) >> 32].map(|half| u32::try_from(half & 0xffff_ffff).unwrap_or(0));
        Some(Exit {
            seq: self.send_from,
            pid,
            start_ticks: get(1),
            wait_status: status.cast_signed(),
            user_us: get(2),
            system_us: get(3),
            max_rss_kib: get(4),
        })
    }

    /// The number of the exit that came last; 0 before the first.
    pub(crate) fn newest(&self) -> u64 {
        self.get(PUT)
    }

    /// This supervisor was told of every exit up to this one.
    pub(crate) fn is_sent(&self, seq: u64) -> bool {
        self.send_from > seq
    }

    pub(crate) fn sent(&mut self, seq: u64) {
        self.send_from = self.send_from.max(seq + 1);
    }

    /// Forgets every exit up to and with `seq`, as far as they were sent: nothing is lost by a wrong number.
    pub(crate) fn handled(&mut self, seq: u64) {
        let until = seq.min(self.send_from - 1);
        if until > self.get(TAKEN) {
            self.set(TAKEN, until);
        }
    }

    /// A new supervisor: everything not acknowledged is sent again.
    pub(crate) fn rewind(&mut self) {
        self.send_from = self.front_seq();
    }

    /// An exit that could not be recorded.
    pub(crate) fn count_dropped(&self) {
        self.set(DROPPED, self.get(DROPPED) + 1);
    }

    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.get(PUT) - self.get(TAKEN)).unwrap_or(CAPACITY)
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.get(DROPPED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(pid: u32) -> Exit {
        Exit { seq: 0, pid, start_ticks: 0, wait_status: 0, user_us: 0, system_us: 0, max_rss_kib: 0 }
    }

    fn send_all(queue: &mut ExitQueue) -> Vec<u32> {
        let mut pids = Vec::new();
        while let Some(exit) = queue.next_unsent() {
            pids.push(exit.pid);
            queue.sent(exit.seq);
        }
        pids
    }

    #[test]
    fn an_exit_stays_until_it_is_acknowledged() {
        let mut queue = ExitQueue::new();
        (1..=3).for_each(|pid| queue.push(exit(pid)));
        assert_eq!(send_all(&mut queue), [1, 2, 3]);
        queue.handled(2);
        queue.push(exit(4));
        assert_eq!(send_all(&mut queue), [4], "sent once to one supervisor");
        queue.rewind();
        assert_eq!(send_all(&mut queue), [3, 4], "the next supervisor gets what was not acknowledged");
        queue.handled(4);
        assert_eq!((queue.len(), queue.dropped()), (0, 0));
        queue.push(exit(5));
        assert_eq!(send_all(&mut queue), [5]);
    }

    #[test]
    fn an_acknowledgement_of_what_was_never_sent_loses_nothing() {
        let mut queue = ExitQueue::new();
        (1..=3).for_each(|pid| queue.push(exit(pid)));
        let first = queue.next_unsent().unwrap();
        queue.sent(first.seq);
        queue.handled(u64::MAX);
        assert_eq!(send_all(&mut queue), [2, 3]);
    }

    #[test]
    fn when_full_the_oldest_goes_and_is_counted() {
        let full = u32::try_from(CAPACITY).unwrap();
        let mut queue = ExitQueue::new();
        (1..=full + 7).for_each(|pid| queue.push(exit(pid)));
        assert_eq!((queue.len(), queue.dropped()), (CAPACITY, 7));
        assert!(send_all(&mut queue).into_iter().eq(8..=full + 7));
        // Drops among the sent ones do not move the place of the unsent ones.
        queue.push(exit(11));
        assert_eq!(send_all(&mut queue), [11]);
    }

    #[test]
    fn the_next_self_finds_what_was_not_acknowledged() {
        let mut queue = ExitQueue::new();
        queue.push(exit(1));
        send_all(&mut queue);
        queue.handled(1);
        let last = Exit { seq: 3, pid: u32::MAX, wait_status: i32::MIN, start_ticks: 1, user_us: 2, ..exit(0) };
        queue.push(exit(2));
        queue.push(last);
        send_all(&mut queue);
        let file = queue.file.as_ref().unwrap().try_clone().unwrap();
        let mut next = ExitQueue::of_file(file).unwrap();
        assert_eq!(next.next_unsent(), Some(Exit { seq: 2, ..exit(2) }));
        next.sent(2);
        assert_eq!(next.next_unsent(), Some(last));
        assert_eq!((next.len(), next.dropped()), (2, 0));
        // A count that cannot be is no queue.
        next.set(TAKEN, 9);
        assert!(ExitQueue::of_file(next.file.unwrap()).is_none());
    }
}
