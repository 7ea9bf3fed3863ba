//! The timers of the machine at work: their units started, their records and stamps written, the clock watched.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use nix::{
    sys::{
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
    unistd::read,
};

use super::{Record, State, Timer, stamps::Stamps};
use crate::{
    api::types::{ActiveState, Health, UnitStatus},
    daemon::{clock, core::Daemon, machine::Now, recover::fnv, store},
    unit::{Declared, TimerSpec, UnitName},
};

#[derive(Default)]
pub(crate) struct Timers {
    all: BTreeMap<UnitName, Timer>,
    /// Whose file is gone, or has mistakes: with it they go on.
    without_file: BTreeMap<UnitName, Timer>,
    /// Readable when the clock was set.
    clock: Option<TimerFd>,
    stamps: Stamps,
}

impl Timers {
    pub(crate) fn get(&self, name: &UnitName) -> Option<&Timer> {
        self.all.get(name)
    }

    pub(crate) fn next_deadline(&self, now: Now) -> Option<std::time::Duration> {
        self.all.values().filter_map(|timer| timer.deadline(now)).min()
    }

    /// A descriptor that is readable when somebody sets the clock (timerfd_create(2)).
    pub(crate) fn watch_clock(&mut self) -> nix::Result<&TimerFd> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_REALTIME, flags)?;
        arm(&timer)?;
        Ok(self.clock.insert(timer))
    }
}

fn arm(timer: &TimerFd) -> nix::Result<()> {
    let never = Expiration::OneShot(TimeSpec::new(i64::MAX / 4, 0));
    timer.set(never, TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET)
}

impl Daemon {
    /// The unit files were read (anew).
    pub(crate) fn load_timers(&mut self) {
        let (now, machine) = (clock::now(), fs::read_to_string(self.paths.machine_id()).unwrap_or_default());
        let files = self.files.timers().clone();
        let mut changed = Vec::new();
        let Timers { all, without_file, .. } = &mut self.timers;
        without_file.extend(all.extract_if(.., |name, _| !files.contains_key(name)));
        for (name, file) in files {
            let known = all.remove(&name).or_else(|| without_file.remove(&name));
            let timer = match known {
                Some(mut timer) if timer.spec != file.spec => {
                    timer.spec.clone_from(&file.spec);
                    timer.look_again(now);
                    changed.push(name.clone());
                    timer
                }
                Some(timer) => timer,
                None => {
                    let fixed = fnv(&format!("{machine}{name}"));
                    let mut timer = Timer::new(file.spec.clone(), fixed, now);
                    // Its file had mistakes when this supervisor began, or it is about to begin.
                    if let Some(record) = stored(&self.paths.timer_state(&name)) {
                        timer.record = record;
                    }
                    timer
                }
            };
            all.insert(name, timer);
        }
        changed.iter().for_each(|name| self.save_timer(name));
    }

    /// At the boot; what an earlier supervisor left was read with the files.
    pub(crate) fn begin_timers(&mut self) {
        let files = self.files.timers().clone();
        for (name, file) in files {
            if !self.paths.timer_state(&name).exists() {
                if file.enabled {
                    self.start_timer(&name);
                }
                continue;
            }
            let Some(timer) = self.timers.all.get_mut(&name) else { continue };
            // The clock was set or the file written anew while nobody was there.
            timer.look_again(clock::now());
            // Killed between the timer's record and the unit's: it never came to the start.
            if let Some(entry) = self.engine.get(&timer.spec.unit)
                && entry.job.is_none()
                && entry.record.state.at_rest()
            {
                timer.try_again(entry.record.began_us, clock::now());
            }
        }
        match self.timers.watch_clock() {
            Ok(timer) => {
                let token = u64::from(super::super::core::class::CLOCK) << 32;
                let event = nix::sys::epoll::EpollEvent::new(nix::sys::epoll::EpollFlags::EPOLLIN, token);
                if let Err(errno) = self.epoll.add(timer, event) {
                    log::error!("watch the clock: {errno}");
                }
            }
            Err(errno) => log::error!("watch the clock: {errno}"),
        }
    }

    pub(crate) fn start_timer(&mut self, name: &UnitName) {
        let (stamp, now) = (self.paths.timer_stamp(name), clock::now());
        let Some(timer) = self.timers.all.get_mut(name) else { return };
        let mut last = None;
        if timer.spec.persistent {
            last = fs::read_to_string(&stamp).ok().and_then(|text| text.trim().parse().ok());
            if last.is_none() {
                // What is missed from now on is made up for.
                self.timers.stamps.write(stamp, now.wall_us);
            }
        }
        timer.start(last, now);
        self.save_timer(name);
    }

    pub(crate) fn stop_timer(&mut self, name: &UnitName) {
        if let Some(timer) = self.timers.all.get_mut(name) {
            timer.stop(clock::now());
        }
        self.save_timer(name);
    }

    fn save_timer(&self, name: &UnitName) {
        let Some(timer) = self.timers.all.get(name) else { return };
        let path = self.paths.timer_state(name);
        let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
        let written = folder.and_then(|()| store::replace(&path, &serde_json::to_vec(&timer.record)?));
        if let Err(error) = written {
            log::error!("{name}: write its state: {error}");
        }
    }

    pub(crate) fn tick_timers(&mut self, now: Now) {
        if self.engine.is_shutting_down() {
            return;
        }
        let mut due = Vec::new();
        for (name, timer) in &mut self.timers.all {
            let before = timer.record.state;
            if before == State::Running
                && self.engine.get(&timer.spec.unit).is_none_or(|entry| {
                    let state = entry.record.state.active(&entry.plan.policy);
                    entry.job.is_none() && matches!(state, ActiveState::Inactive | ActiveState::Failed)
                })
            {
                timer.unit_rests(now);
            }
            if timer.tick(now) {
                due.push((name.clone(), timer.spec.unit.clone(), timer.spec.persistent));
            } else if timer.record.state != before {
                due.push((name.clone(), name.clone(), false));
            }
        }
        for (name, unit, persistent) in due {
            // Before the deed: a supervisor that dies now is followed by one that looks at the unit.
            self.save_timer(&name);
            if persistent {
                self.timers.stamps.write(self.paths.timer_stamp(&name), now.wall_us);
            }
            if unit != name {
                log::info!("{name}: starts {unit}");
                if self.engine.start(&unit, now).is_none() {
                    log::warn!("{name}: there is no {unit} to start");
                }
            }
        }
    }

    pub(crate) fn tell_timers(&mut self, unit: &UnitName, from: ActiveState, to: ActiveState) {
        let now = clock::now();
        let its = |(_, timer): &(&UnitName, &mut Timer)| timer.spec.unit == *unit;
        let mut changed = Vec::new();
        for (name, timer) in self.timers.all.iter_mut().filter(its) {
            timer.unit_changed(from, to, now);
            changed.push(name.clone());
        }
        changed.iter().for_each(|name| self.save_timer(name));
    }

    pub(crate) fn on_clock_set(&mut self) {
        if let Some(clock) = &self.timers.clock {
            // ECANCELED is the message.
            let _ = read(clock, &mut [0; 8]);
            if let Err(errno) = arm(clock) {
                log::error!("watch the clock: {errno}");
            }
        }
        log::info!("the clock was set");
        let now = clock::now();
        self.timers.all.values_mut().for_each(|timer| timer.look_again(now));
        let active = self.timers.all.iter().filter(|(_, timer)| timer.record.state != State::Inactive);
        let active: Vec<UnitName> = active.map(|(name, _)| name.clone()).collect();
        active.iter().for_each(|name| self.save_timer(name));
    }

    pub(crate) fn timer_statuses(&self) -> impl Iterator<Item = UnitStatus> {
        self.files
            .timers()
            .iter()
            .filter_map(|(name, file)| Some(self.timer_status(name, file, self.timers.get(name)?)))
    }

    pub(crate) fn timer_status(&self, name: &UnitName, file: &Arc<Declared<TimerSpec>>, timer: &Timer) -> UnitStatus {
        let (now, active) = (clock::now(), timer.record.state != State::Inactive);
        let micros = |span: std::time::Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        let next = match timer.record.state {
            State::Waiting(elapse) => elapse.left(now).map(|left| clock::rfc3339(now.wall_us + micros(left))),
            _ => None,
        };
        UnitStatus {
            description: file.description.clone(),
            state: if active { ActiveState::Active } else { ActiveState::Inactive },
            sub_state: timer.sub_state().to_owned(),
            since: clock::rfc3339(timer.record.since_us),
            enabled: file.enabled,
            path: file.path.display().to_string(),
            triggers: Some(timer.spec.unit.to_string()),
            next_elapse: next,
            last_trigger: timer.record.triggered_us.map(clock::rfc3339),
            health: Health::None,
            ..UnitStatus::nothing(name.to_string())
        }
    }
}

/// What an earlier supervisor of this boot kept. One that cannot be read costs history: the timer begins anew.
fn stored(path: &Path) -> Option<Record> {
    let text = fs::read(path).ok()?;
    let record = serde_json::from_slice(&text);
    record
        .inspect_err(|error| {
            log::error!("{}: {error}", path.display());
            let _ = fs::remove_file(path);
        })
        .ok()
}
