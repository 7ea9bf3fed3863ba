//! Reads logs back: a thread per reader that walks the files of several logs, merges them in the order of time, and sends NDJSON in
//! chunks. The channel holds one chunk; a client that does not read makes its thread wait and costs nothing else.

use std::{
    collections::BTreeSet,
    fs, io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, SyncSender},
    },
    time::Duration,
};

use super::{
    Logs, News, Owner, boots,
    cursor::{Cursor, Filter},
};
use crate::{api::route::LogQuery, daemon::mailbox};

/// A chunk is sent when it is this long, or when there is nothing more for now.
const CHUNK_BYTES: usize = 16 << 10;
/// How often a reader that waits looks whether somebody still wants it.
const LOOK_UP: Duration = Duration::from_secs(30);

/// The loop's end of a reader. Dropping it ends the thread.
pub(crate) struct Reading {
    pub(crate) chunks: Receiver<Vec<u8>>,
    wanted: Arc<AtomicBool>,
    news: Arc<News>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.wanted.store(false, Ordering::Relaxed);
        self.news.wake();
    }
}

/// Starts to read. `wake` is called whenever a chunk lies in the channel, and after the last one. An error says what is wrong with
/// the query; `None`: there is no thread to be had.
pub(crate) fn read(logs: &Logs, query: LogQuery, wake: impl Fn() + Send + 'static) -> Result<Option<Reading>, String> {
    let filter = Filter::new(&query, &logs.folder)?;
    let (sender, chunks) = mpsc::sync_channel(1);
    let wanted = Arc::new(AtomicBool::new(true));
    let mut reader = Reader {
        folder: logs.folder.clone(),
        query,
        filter,
        news: Arc::clone(&logs.news),
        wanted: Arc::clone(&wanted),
        sender,
        chunk: Vec::new(),
        wake: Box::new(wake),
    };
    let news = Arc::clone(&logs.news);
    let started = mailbox::spawn("log reader", move || {
        if let Err(error) = reader.run() {
            log::warn!("read logs: {error}");
        }
        let Reader { sender, wake, .. } = reader;
        drop(sender);
        wake();
    });
    Ok(started.then(|| Reading { chunks, wanted, news }))
}

struct Reader {
    folder: PathBuf,
    query: LogQuery,
    filter: Filter,
    news: Arc<News>,
    wanted: Arc<AtomicBool>,
    sender: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    wake: Box<dyn Fn() + Send>,
}

impl Reader {
    fn run(&mut self) -> io::Result<()> {
        let mut seen = self.news.count(&self.query.owners);
        // The last of several logs are among the last of each, unless some are left out.
        let newest = self.query.tail.filter(|_| self.filter.takes_all());
        let mut cursors = self.cursors(&mut BTreeSet::new(), newest, self.query.follow)?;
        let mut skip = match self.query.tail {
            Some(tail) if cursors.len() > 1 || !self.filter.takes_all() => {
                let mut all = 0_usize;
                for cursor in &mut self.cursors(&mut BTreeSet::new(), newest, false)? {
                    while cursor.next(&self.filter)?.is_some() {
                        all += 1;
                    }
                    if !self.is_wanted() {
                        return Ok(());
                    }
                }
                all.saturating_sub(tail)
            }
            _ => 0,
        };
        let mut known: BTreeSet<Owner> = cursors.iter().map(|cursor| cursor.owner.clone()).collect();
        loop {
            if !self.merge(&mut cursors, &mut skip)? || !self.flush() || !self.query.follow {
                return Ok(());
            }
            let wanted = Arc::clone(&self.wanted);
            self.news.wait(&self.query.owners, seen, || wanted.load(Ordering::Relaxed), LOOK_UP);
            if !self.is_wanted() {
                return Ok(());
            }
            seen = self.news.count(&self.query.owners);
            cursors.extend(self.cursors(&mut known, None, true)?);
        }
    }

    /// One for each log that is asked for, there, and not yet known.
    fn cursors(&self, known: &mut BTreeSet<Owner>, tail: Option<usize>, follow: bool) -> io::Result<Vec<Cursor>> {
        let owners = if self.query.owners.is_empty() { all(&self.folder) } else { self.query.owners.clone() };
        let boots = boots::list(&self.folder);
        let mut cursors = Vec::new();
        for owner in owners {
            if !known.insert(owner.clone()) {
                continue;
            }
            let folders = if owner.is_pseudo() {
                boots
                    .iter()
                    .filter(|boot| self.filter.wants_boot(&boot.id))
                    .map(|b| b.folder.join(owner.as_str()))
                    .collect()
            } else {
                vec![self.folder.join(owner.as_str())]
            };
            cursors.push(Cursor::new(owner, folders, tail, follow)?);
        }
        Ok(cursors)
    }

    /// Everything there is now, in the order of time; false when nobody listens any more.
    fn merge(&mut self, cursors: &mut [Cursor], skip: &mut usize) -> io::Result<bool> {
        let mut heads = Vec::new();
        for cursor in cursors.iter_mut() {
            heads.push(cursor.next(&self.filter)?);
        }
        loop {
            // Few logs, as a rule; of equal times the first log's.
            let first = heads.iter().enumerate().filter_map(|(at, head)| Some((&head.as_ref()?.time, at))).min();
            let Some((_, at)) = first else { return Ok(true) };
            let line = std::mem::replace(&mut heads[at], cursors[at].next(&self.filter)?);
            if *skip > 0 {
                *skip -= 1;
                continue;
            }
            if serde_json::to_writer(&mut self.chunk, &line).is_ok() {
                self.chunk.push(b'\n');
            }
            if self.chunk.len() >= CHUNK_BYTES && !self.flush() {
                return Ok(false);
            }
        }
    }

    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    fn flush(&mut self) -> bool {
        if self.chunk.is_empty() {
            return self.is_wanted();
        }
        let sent = self.sender.send(std::mem::take(&mut self.chunk)).is_ok();
        (self.wake)();
        sent
    }
}

/// The machine's own logs and those of all units that ever wrote one.
fn all(folder: &std::path::Path) -> Vec<Owner> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let units = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut owners: Vec<Owner> = units.filter_map(|entry| Owner::parse(entry.file_name().to_str()?).ok()).collect();
    owners.sort();
    super::PSEUDO.into_iter().map(Owner::pseudo).chain(owners).collect()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
