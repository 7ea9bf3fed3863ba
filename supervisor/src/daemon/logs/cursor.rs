//! A place in one log, from which it is read on: over rotations, and for the machine's own logs over boots.

use std::{
    collections::VecDeque,
    fs::{self, File, Metadata},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use regex_lite::{Regex, RegexBuilder};

use super::{
    Owner, boots,
    file::{indices, path},
    record::{self, MAX_TEXT_BYTES},
};
use crate::{
    api::{route::LogQuery, types::LogLine},
    daemon::clock,
};

/// Which records are wanted.
#[derive(Debug)]
pub(super) struct Filter {
    since: Option<String>,
    until: Option<String>,
    boot: Option<String>,
    grep: Option<Regex>,
}

impl Filter {
    pub(super) fn new(query: &LogQuery, logs: &Path) -> Result<Self, String> {
        let boot = query.boot.as_deref().map(|word| boots::find(&boots::list(logs), word)).transpose()?;
        let grep = query.grep.as_deref().map(|pattern| {
            // journalctl's rule: a pattern without capitals means both.
            let insensitive = !pattern.chars().any(char::is_uppercase);
            let regex = RegexBuilder::new(pattern).case_insensitive(insensitive).build();
            regex.map_err(|error| {
                format!("{pattern}: not a pattern ({error}); write \\ before a character that is meant itself")
            })
        });
        Ok(Self {
            since: query.since_us.map(clock::rfc3339),
            until: query.until_us.map(clock::rfc3339),
            boot: boot.map(|boot| boot.id),
            grep: grep.transpose()?,
        })
    }

    pub(super) fn takes_all(&self) -> bool {
        self.since.is_none() && self.until.is_none() && self.boot.is_none() && self.grep.is_none()
    }

    pub(super) fn wants_boot(&self, boot: &str) -> bool {
        self.boot.as_ref().is_none_or(|wanted| wanted == boot)
    }

    fn takes(&self, boot: &str, line: &LogLine) -> bool {
        self.wants_boot(boot)
            && self.since.as_ref().is_none_or(|since| line.time >= *since)
            && self.until.as_ref().is_none_or(|until| line.time <= *until)
            && self.grep.as_ref().is_none_or(|grep| grep.is_match(&line.message))
    }
}

#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) owner: Owner,
    /// Still to be read; the first is being read.
    folders: VecDeque<PathBuf>,
    file: Option<BufReader<File>>,
    /// Where the log ended when it was asked for; `None`: what comes is read too.
    end: Option<End>,
    /// Of this file, if the end is in it.
    bytes_left: Option<u64>,
    /// Whose records are being read.
    boot: String,
    line: Vec<u8>,
}

#[derive(Debug)]
struct End {
    /// Kept open, or its inode would be another file's one day.
    _file: File,
    is: Identity,
    bytes: u64,
}

/// Device and inode: a file keeps them when it is rotated.
type Identity = (u64, u64);

fn identity(meta: &Metadata) -> Identity {
    (meta.dev(), meta.ino())
}

impl Cursor {
    /// At the beginning, or before the last so many records.
    pub(super) fn new(owner: Owner, folders: Vec<PathBuf>, tail: Option<usize>, follow: bool) -> io::Result<Self> {
        let mut folders = VecDeque::from(folders);
        // Or who writes faster than we read would keep us for ever.
        let end = if follow { None } else { folders.back().and_then(|folder| end_of(folder)) };
        if !follow && end.is_none() {
            folders.pop_back();
        }
        let mut file = None;
        if let Some(mut missing) = tail {
            // From the newest file back to the one in which the first of them lies.
            let mut later = VecDeque::new();
            while let Some(folder) = folders.pop_back() {
                for index in indices(&folder).into_iter().rev() {
                    let Ok(mut opened) = File::open(path(&folder, index)) else { continue };
                    let found = go_back(&mut opened, &mut missing)?;
                    file = Some(opened);
                    if found {
                        break;
                    }
                }
                later.push_front(folder);
                if missing == 0 && file.is_some() {
                    break;
                }
            }
            folders = later;
        }
        let (boot, line) = (String::new(), Vec::new());
        let mut new = Self { owner, folders, file: None, end, bytes_left: None, boot, line };
        if let Some(file) = file {
            new.read_from(file)?;
        }
        Ok(new)
    }

    fn read_from(&mut self, mut file: File) -> io::Result<()> {
        let is_its = identity(&file.metadata()?);
        let end = self.end.as_ref().filter(|end| end.is == is_its);
        let at = file.stream_position()?;
        self.bytes_left = end.map(|end| end.bytes.saturating_sub(at));
        self.file = Some(BufReader::new(file));
        Ok(())
    }

    /// The next record that is wanted; `None`: no more for now.
    pub(super) fn next(&mut self, filter: &Filter) -> io::Result<Option<LogLine>> {
        loop {
            if !self.read_line()? {
                if self.next_file()? {
                    continue;
                }
                return Ok(None);
            }
            // Times are of one width in UTC: texts compare as times do. Most are left out before they are taken apart.
            if filter.since.as_ref().is_some_and(|since| self.line.as_slice() < since.as_bytes())
                && !is_mark(&self.line)
            {
                continue;
            }
            let Some(line) = record::parse(self.owner.as_str(), &self.line) else { continue };
            if line.stream == record::Stream::Boot.word() {
                self.boot = line.message;
            } else if filter.takes(&self.boot, &line) {
                return Ok(Some(line));
            }
        }
    }

    /// One whole line of this file, without its end.
    fn read_line(&mut self) -> io::Result<bool> {
        // More than a record can be; what is longer is not one.
        const LIMIT: u64 = MAX_TEXT_BYTES as u64 + 128;
        let Some(file) = &mut self.file else { return Ok(false) };
        loop {
            self.line.clear();
            let most = self.bytes_left.map_or(LIMIT, |left| left.min(LIMIT));
            let n = file.by_ref().take(most).read_until(b'\n', &mut self.line)?;
            if let Some(left) = &mut self.bytes_left {
                *left -= n as u64;
            }
            if self.line.pop_if(|last| *last == b'\n').is_some() {
                return Ok(true);
            }
            // Half a record: the rest is being written, or belongs to something that is no record.
            if n > 0 && (n as u64) < LIMIT {
                file.seek_relative(-i64::try_from(n).unwrap_or(0))?;
                self.bytes_left = self.bytes_left.map(|left| left + n as u64);
            }
            if (n as u64) < LIMIT {
                return Ok(false);
            }
        }
    }

    /// Goes on to the file after this one; false as long as it is the newest.
    fn next_file(&mut self) -> io::Result<bool> {
        while let Some(folder) = self.folders.front() {
            let read = self.file.as_ref().map(|file| file.get_ref().metadata()).transpose()?;
            let read = read.as_ref().map(identity);
            let files: Vec<(u32, Identity)> = indices(folder)
                .into_iter()
                .filter_map(|index| Some((index, identity(&fs::metadata(path(folder, index)).ok()?))))
                .collect();
            let place = |file: Identity| files.iter().position(|(_, is)| *is == file);
            // Rotated out of existence while we looked away, or not begun: the oldest there is.
            let next = read.and_then(place).map_or(0, |at| at + 1);
            let is_last = self.folders.len() == 1;
            let until = match &self.end {
                // What lies behind the end, and all there is once the end is gone, was not asked for.
                Some(end) if is_last => place(end.is).map_or(0, |at| at + 1),
                _ => files.len(),
            };
            if let Some((index, is)) = files[..until].get(next) {
                match File::open(path(folder, *index)) {
                    Ok(file) if identity(&file.metadata()?) == *is => {
                        self.read_from(file)?;
                        return Ok(true);
                    }
                    // Rotated in this instant.
                    Ok(_) => continue,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                }
            }
            if is_last {
                break;
            }
            self.folders.pop_front();
        }
        Ok(false)
    }
}

/// Where the newest file there is ends; `None`: there is none.
fn end_of(folder: &Path) -> Option<End> {
    let file = indices(folder).into_iter().rev().find_map(|index| File::open(path(folder, index)).ok())?;
    let meta = file.metadata().ok()?;
    Some(End { _file: file, is: identity(&meta), bytes: meta.len() })
}

fn is_mark(line: &[u8]) -> bool {
    line.splitn(3, |byte| *byte == b' ').nth(1) == Some(b"boot")
}

/// Seeks to the first of the last `missing` records, or to the start, and counts those that it passes. Whether it was found.
fn go_back(file: &mut File, missing: &mut usize) -> io::Result<bool> {
    let mut end = file.seek(SeekFrom::End(0))?;
    if *missing == 0 {
        return Ok(true);
    }
    // What was read of the line that begins further ahead, and where it begins as far as is known.
    let mut block = vec![0; 16 << 10];
    let mut head: Vec<u8> = Vec::new();
    let mut whole = false;
    while end > 0 {
        let length = end.min(block.len() as u64);
        end -= length;
        file.seek(SeekFrom::Start(end))?;
        let block = &mut block[..usize::try_from(length).unwrap_or(0)];
        file.read_exact(block)?;
        let mut until = block.len();
        while let Some(at) = block[..until].iter().rposition(|byte| *byte == b'\n') {
            let line_starts = &block[at + 1..until];
            if whole && !begins_with_mark(line_starts, &head) {
                *missing -= 1;
                if *missing == 0 {
                    file.seek(SeekFrom::Start(end + at as u64 + 1))?;
                    return Ok(true);
                }
            }
            (whole, until) = (true, at);
            head.clear();
        }
        // Enough of it to see what it is.
        let mut longer = block[..until].to_vec();
        longer.extend_from_slice(&head);
        longer.truncate(64);
        head = longer;
    }
    if whole && !is_mark(&head) {
        *missing -= 1;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(*missing == 0)
}

/// The line that begins with these bytes and goes on with those.
fn begins_with_mark(line: &[u8], rest: &[u8]) -> bool {
    let start: Vec<u8> = line.iter().chain(rest).copied().take(64).collect();
    is_mark(&start)
}
