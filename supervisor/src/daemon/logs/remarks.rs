//! What the supervisor says of a unit in the unit's own log: each line once, at whatever instant it dies.
//!
//! ```text
//! note   number and text beside the unit's record, written with the change they tell of   killed: the next one tells it
//! tell   the line in the unit's spool                                                     killed: the spool knows its number
//! write  as everything else, see `spool`
//! ```

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    MAX_MESSAGE_BYTES,
    caps::Caps,
    source::{Owner, REMARK, Source, owner_and_stream, seen, spool_path, tagged},
    spool::{self, Spool},
};
use crate::daemon::clock;

const WORD: &str = "orlop";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remark {
    number: u64,
    time_us: i64,
    text: String,
}

/// What a unit's record keeps of them.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remarks {
    /// `None`: not known, and to be found in the spool.
    last: Option<u64>,
    /// Those of one turn of the loop.
    noted: Vec<Remark>,
}

impl Remarks {
    /// `told`: the number of the last one in the spool.
    pub(crate) fn note(&mut self, text: &str, told: impl FnOnce() -> u64) {
        let number = self.last.unwrap_or_else(told) + 1;
        self.last = Some(number);
        let text = text.replace('\n', " ");
        let text = text[..text.floor_char_boundary(MAX_MESSAGE_BYTES)].to_owned();
        self.noted.push(Remark { number, time_us: clock::wall_us(), text });
    }

    pub(crate) fn take(&mut self) -> Vec<Remark> {
        std::mem::take(&mut self.noted)
    }
}

/// The spools that they are told into, one for each unit.
#[derive(Debug)]
pub(super) struct Told {
    spools: PathBuf,
    sources: BTreeMap<Owner, (Arc<Source>, u64)>,
}

impl Told {
    pub(super) fn new(spools: PathBuf) -> Self {
        Self { spools, sources: BTreeMap::new() }
    }

    pub(super) fn spools(&self) -> &Path {
        &self.spools
    }

    fn source(&mut self, owner: &Owner) -> io::Result<&mut (Arc<Source>, u64)> {
        if !self.sources.contains_key(owner) {
            let spool = Spool::open_lines(spool_path(&self.spools, owner, WORD, 0))?;
            let last = seen(&spool);
            let source = Source::new(owner.clone(), None, Caps::default(), spool, None);
            self.sources.insert(owner.clone(), (Arc::new(source), last));
        }
        self.sources.get_mut(owner).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn last(&mut self, owner: &Owner) -> u64 {
        self.source(owner).map_or(0, |source| source.1)
    }

    /// What has to be written now; nothing when the spool had it already. What finds no room is counted.
    pub(super) fn tell(&mut self, owner: &Owner, remark: &Remark) -> io::Result<Option<Arc<Source>>> {
        let (source, last) = self.source(owner)?;
        if remark.number <= *last {
            return Ok(None);
        }
        let line = tagged(REMARK, remark.time_us, remark.number, &remark.text);
        if !source.spool.append(line.as_bytes()) {
            source.spool.lose(1);
            return Ok(None);
        }
        *last = remark.number;
        Ok(Some(Arc::clone(source)))
    }

    /// No more will come. False: some are not written yet.
    pub(super) fn forget(&mut self, owner: &Owner) -> bool {
        let Ok((source, _)) = self.source(owner) else { return false };
        let all_written = source.spool.is_empty() && source.spool.lost() == 0;
        if all_written {
            source.spool.remove();
            self.sources.remove(owner);
        }
        all_written
    }

    /// With what an earlier supervisor told and did not write.
    pub(super) fn left(&mut self) -> Vec<Arc<Source>> {
        let of = |path: &Path| owner_and_stream(path).filter(|(owner, stream)| stream.is_none() && !owner.is_pseudo());
        let owners = spool::left(&self.spools).into_iter().filter_map(|path| Some(of(&path)?.0));
        owners.filter_map(|owner| Some(Arc::clone(&self.source(&owner).ok()?.0))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remark_is_told_once_whatever_the_record_remembers() {
        let folder = tempfile::tempdir().unwrap();
        let web = Owner::parse("web").unwrap();
        let text = |told: &mut Told| {
            let mut bytes = Vec::new();
            told.source(&web).unwrap().0.spool.read(&mut bytes).unwrap();
            let lines = String::from_utf8(bytes).unwrap();
            lines.lines().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let mut told = Told::new(folder.path().into());
        let mut remarks = Remarks::default();
        remarks.note("one", || told.last(&web));
        let written = remarks.clone();
        for remark in remarks.take() {
            assert!(told.tell(&web, &remark).unwrap().is_some());
        }
        // Killed before the record was written again: what it noted is noted anew, under the same number.
        let mut told = Told::new(folder.path().into());
        assert_eq!(told.left().len(), 1);
        for mut remarks in [written, Remarks { last: Some(0), noted: Vec::new() }] {
            if remarks.noted.is_empty() {
                remarks.note("one", || unreachable!());
            }
            assert!(remarks.take().iter().all(|remark| told.tell(&web, remark).unwrap().is_none()));
        }
        // A record that cannot be read counts on from the spool, in the log or not.
        told.source(&web).unwrap().0.spool.commit(0, 0, 0).unwrap();
        let mut remarks = Remarks::default();
        remarks.note("two\nlines", || told.last(&web));
        assert!(told.tell(&web, &remarks.take()[0]).unwrap().is_some());
        assert_eq!(text(&mut told), ["one", "lines"]);
    }
}
