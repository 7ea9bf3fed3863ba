//! Reads a unit's log back: a thread per reader that walks the files and sends NDJSON in chunks. The channel holds one chunk; a
//! client that does not read makes its thread wait and costs nothing else.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, SyncSender},
    },
    time::Duration,
};

use super::{
    Logs, News,
    file::{MAX_FILES, path},
    record::{self, MAX_TEXT_BYTES},
};
use crate::{
    api::route::LogQuery,
    daemon::{clock, mailbox},
    unit::UnitName,
};

/// A chunk is sent when it is this long, or when there is nothing more for now.
const CHUNK_BYTES: usize = 16 << 10;
/// How often a reader that waits looks whether somebody still wants it.
const LOOK_UP: Duration = Duration::from_secs(30);

/// The loop's end of a reader. Dropping it ends the thread.
pub(crate) struct Reading {
    pub(crate) chunks: Receiver<Vec<u8>>,
    wanted: Arc<AtomicBool>,
    news: Arc<News>,
    unit: UnitName,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.wanted.store(false, Ordering::Relaxed);
        // Wakes the thread, and whoever else follows this log: they look and wait again.
        self.news.tell(&self.unit);
    }
}

/// Starts to read. `wake` is called whenever a chunk lies in the channel, and after the last one.
pub(crate) fn read(logs: &Logs, unit: &UnitName, query: LogQuery, wake: impl Fn() + Send + 'static) -> Option<Reading> {
    let (sender, chunks) = mpsc::sync_channel(1);
    let wanted = Arc::new(AtomicBool::new(true));
    let mut reader = Reader {
        folder: logs.folder(unit),
        unit: unit.clone(),
        news: Arc::clone(logs.news()),
        wanted: Arc::clone(&wanted),
        sender,
        chunk: Vec::new(),
        wake: Box::new(wake),
    };
    let news = Arc::clone(logs.news());
    let started = mailbox::spawn("log reader", move || {
        if let Err(error) = reader.run(query) {
            log::warn!("{}: {error}", reader.folder.display());
        }
        let Reader { sender, wake, .. } = reader;
        drop(sender);
        wake();
    });
    started.then(|| Reading { chunks, wanted, news, unit: unit.clone() })
}

struct Reader {
    folder: PathBuf,
    unit: UnitName,
    news: Arc<News>,
    wanted: Arc<AtomicBool>,
    sender: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    wake: Box<dyn Fn() + Send>,
}

impl Reader {
    fn run(&mut self, query: LogQuery) -> io::Result<()> {
        let mut seen = self.news.count(&self.unit);
        let since = query.since_us.map(clock::rfc3339);
        // Oldest first; opened now, so that a rotation in between changes nothing for what is already there.
        let mut files: Vec<File> =
            (0..MAX_FILES).rev().filter_map(|index| File::open(path(&self.folder, index)).ok()).collect();
        if let Some(tail) = query.tail {
            start_of_tail(&mut files, tail)?;
        }
        let mut newest = None;
        for file in files {
            let mut file = BufReader::new(file);
            if !self.copy(&mut file, since.as_deref())? {
                return Ok(());
            }
            newest = Some(file);
        }
        while self.flush() && query.follow {
            self.news.wait(&self.unit, seen, LOOK_UP);
            if !self.wanted.load(Ordering::Relaxed) {
                return Ok(());
            }
            seen = self.news.count(&self.unit);
            loop {
                if let Some(file) = &mut newest
                    && !self.copy(file, since.as_deref())?
                {
                    return Ok(());
                }
                match next_file(&self.folder, newest.as_ref().map(BufReader::get_ref))? {
                    Some(file) => newest = Some(BufReader::new(file)),
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// Everything up to the end of the file; false when nobody listens any more.
    fn copy(&mut self, file: &mut BufReader<File>, since: Option<&str>) -> io::Result<bool> {
        // More than a record can be; what is longer is not one.
        const LIMIT: u64 = MAX_TEXT_BYTES as u64 + 128;
        let mut line = Vec::new();
        loop {
            line.clear();
            let n = file.by_ref().take(LIMIT).read_until(b'\n', &mut line)?;
            let Some(text) = line.strip_suffix(b"\n") else {
                // Half a record: the rest is being written, or belongs to something that is no record.
                if n > 0 && (n as u64) < LIMIT {
                    file.seek_relative(-i64::try_from(n).unwrap_or(0))?;
                } else if n > 0 {
                    continue;
                }
                return Ok(true);
            };
            // Times are of one width in UTC: texts compare as times do.
            if since.is_some_and(|since| text < since.as_bytes()) {
                continue;
            }
            let Some(record) = record::parse(self.unit.as_str(), text) else { continue };
            if serde_json::to_writer(&mut self.chunk, &record).is_ok() {
                self.chunk.push(b'\n');
            }
            if self.chunk.len() >= CHUNK_BYTES && !self.flush() {
                return Ok(false);
            }
        }
    }

    fn flush(&mut self) -> bool {
        if self.chunk.is_empty() {
            return self.wanted.load(Ordering::Relaxed);
        }
        let sent = self.sender.send(std::mem::take(&mut self.chunk)).is_ok();
        (self.wake)();
        sent
    }
}

/// The file to read after this one: none as long as it is the newest.
fn next_file(folder: &Path, read: Option<&File>) -> io::Result<Option<File>> {
    let read = read.map(File::metadata).transpose()?.map(|meta| (meta.dev(), meta.ino()));
    let index = (0..MAX_FILES)
        .find(|index| fs::metadata(path(folder, *index)).is_ok_and(|meta| Some((meta.dev(), meta.ino())) == read));
    match (index, read) {
        (Some(0), _) => Ok(None),
        (Some(index), _) => Ok(File::open(path(folder, index - 1)).ok()),
        // Rotated out of existence while we looked away: go on with the oldest there is.
        (None, Some(_)) => Ok((0..MAX_FILES).rev().find_map(|index| File::open(path(folder, index)).ok())),
        (None, None) => Ok(File::open(path(folder, 0)).ok()),
    }
}

/// Leaves out the files before the last `tail` records and seeks to the first of them.
fn start_of_tail(files: &mut Vec<File>, tail: usize) -> io::Result<()> {
    let mut missing = tail;
    for index in (0..files.len()).rev() {
        let file = &mut files[index];
        let mut end = file.seek(SeekFrom::End(0))?;
        let mut block = vec![0; 16 << 10];
        let mut newest = true;
        while end > 0 {
            let length = end.min(block.len() as u64);
            end -= length;
            file.seek(SeekFrom::Start(end))?;
            let block = &mut block[..usize::try_from(length).unwrap_or(0)];
            file.read_exact(block)?;
            for at in (0..block.len()).rev().filter(|at| block[*at] == b'\n') {
                // The newline that ends the last record begins nothing.
                if std::mem::take(&mut newest) {
                    continue;
                }
                if missing <= 1 {
                    let start = end + at as u64 + 1;
                    let start = if missing == 0 { file.metadata()?.len() } else { start };
                    file.seek(SeekFrom::Start(start))?;
                    files.drain(..index);
                    return Ok(());
                }
                missing -= 1;
            }
        }
        // Its first record has no newline before it.
        if !newest {
            missing = missing.saturating_sub(1);
        }
        file.seek(SeekFrom::Start(0))?;
        if missing == 0 {
            if tail == 0 {
                file.seek(SeekFrom::End(0))?;
            }
            files.drain(..index);
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::fd::OwnedFd, time::Instant};

    use super::*;
    use crate::{
        api::types::LogLine,
        daemon::logs::{Stream, file::LogFile},
    };

    fn name() -> UnitName {
        UnitName::parse("web").unwrap()
    }

    fn logs(folder: &Path) -> Logs {
        Logs::start(folder.into(), folder.join("spools"), |text| panic!("{text}")).unwrap()
    }

    fn all(reading: &Reading) -> Vec<LogLine> {
        let text: Vec<u8> = reading.chunks.iter().flatten().collect();
        text.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect()
    }

    fn messages(logs: &Logs, query: LogQuery) -> Vec<String> {
        all(&read(logs, &name(), query, || {}).unwrap()).into_iter().map(|line| line.message).collect()
    }

    #[test]
    fn tails_of_any_length_cross_files() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = LogFile::new(folder.path().join("web"), 1000);
        for i in 0..60 {
            let mut batch = Vec::new();
            let time = clock::rfc3339(i * 1_000_000);
            record::write(&mut batch, &time, Stream::Out, false, i.to_string().as_bytes());
            file.append(&batch, 1).unwrap();
        }
        let logs = logs(folder.path());
        let everything = messages(&logs, LogQuery::default());
        assert_eq!(everything.last().unwrap(), "59");
        for tail in 0..=everything.len() + 3 {
            let expected = &everything[everything.len().saturating_sub(tail)..];
            assert_eq!(messages(&logs, LogQuery { tail: Some(tail), ..LogQuery::default() }), expected, "tail {tail}");
        }
        let since = LogQuery { since_us: Some(57_500_000), ..LogQuery::default() };
        assert_eq!(messages(&logs, since), ["58", "59"]);
        let nothing = UnitName::parse("nothing").unwrap();
        assert!(all(&read(&logs, &nothing, LogQuery::default(), || {}).unwrap()).is_empty());
    }

    #[test]
    fn a_follower_sees_what_a_container_writes_and_then_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let logs = logs(folder.path());
        let query = LogQuery { follow: true, ..LogQuery::default() };
        let reading = read(&logs, &name(), query, || {}).unwrap();
        let (pipe, mut writer) = io::pipe().unwrap();
        let pipe: OwnedFd = pipe.into();
        nix::fcntl::fcntl(&pipe, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
        let (done, ended) = mpsc::channel();
        logs.follow(&name(), Stream::Err, 1, pipe, move || done.send(()).unwrap());
        writer.write_all(b"hello\nhalf").unwrap();
        drop(writer);
        ended.recv_timeout(Duration::from_secs(20)).unwrap();
        logs.remark(&name(), "exited with status 0");
        let mut lines = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(20);
        while lines.len() < 3 {
            let chunk = reading.chunks.recv_timeout(deadline - Instant::now()).unwrap();
            lines.extend(chunk.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(<[u8]>::to_vec));
        }
        let lines: Vec<LogLine> = lines.iter().map(|line| serde_json::from_slice(line).unwrap()).collect();
        let seen: Vec<_> = lines.iter().map(|l| (l.stream.as_str(), l.message.as_str(), l.partial)).collect();
        let expected = [("stderr", "hello", false), ("stderr", "half", true), ("orlop", "exited with status 0", false)];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_follower_walks_over_every_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let web = folder.path().join("web");
        let append = |log: &mut LogFile, text: &str| {
            let mut batch = Vec::new();
            record::write(&mut batch, &clock::rfc3339(0), Stream::Out, false, text.as_bytes());
            log.append(&batch, 1).unwrap();
        };
        // One record fills a file.
        let mut log = LogFile::new(web.clone(), 10);
        append(&mut log, "0");
        let first = File::open(path(&web, 0)).unwrap();
        assert!(next_file(&web, Some(&first)).unwrap().is_none());
        append(&mut log, "1");
        append(&mut log, "2");
        let mut second = next_file(&web, Some(&first)).unwrap().unwrap();
        let mut text = String::new();
        second.read_to_string(&mut text).unwrap();
        assert!(text.ends_with(" 1\n"), "{text}");
        append(&mut log, "3");
        append(&mut log, "4");
        let mut oldest = next_file(&web, Some(&first)).unwrap().unwrap();
        text.clear();
        oldest.read_to_string(&mut text).unwrap();
        assert!(text.ends_with(" 2\n"), "{text}");
    }
}
