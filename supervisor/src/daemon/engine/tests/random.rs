//! Random graphs under random events.

use super::*;
use crate::daemon::testing::Random;

/// Random graphs, random requests, answers in random order, deadlines, crashes of containers and supervisors in between: the order is
/// kept, nothing lives twice, every job ends once, and a shutdown ends with nothing left.
#[test]
fn random_machines_keep_order_and_come_to_rest() {
    let mut random = Random::new(0xfeed);
    for round in 0..3000 {
        let count = 2 + random.below(12);
        let plans: Vec<(String, Plan)> = (0..count)
            .map(|i| {
                let mut plan = plan();
                let mut one_in = |n| random.below(n) == 0;
                (plan.policy.oneshot, plan.policy.remain_after_exit) = (one_in(6), one_in(6));
                (plan.policy.restart_direct, plan.stop_when_unneeded) = (one_in(3), one_in(12));
                plan.job_timeout = one_in(12).then_some(Duration::from_secs(20));
                plan.policy.restart = match random.below(6) {
                    0 => RestartOn::Always,
                    1 => RestartOn::OnFailure,
                    2 => RestartOn::OnSuccess,
                    _ => RestartOn::No,
                };
                for j in 0..i {
                    let (earlier, links) = (name(&format!("u{j}")), &mut plan.links);
                    match random.below(16) {
                        6 => drop(links.binds_to.insert(earlier)),
                        7 => drop(links.part_of.insert(earlier)),
                        8 => drop(links.upholds.insert(earlier)),
                        9 => drop(links.conflicts.insert(earlier)),
                        10 => drop(links.on_failure.insert(earlier)),
                        11 => drop(links.propagates_stop_to.insert(earlier)),
                        12 => drop(links.requires.insert(earlier)),
                        13 => drop(links.requisite.insert(earlier)),
                        14 => drop(links.on_success.insert(earlier)),
                        0 => drop(plan.links.after.insert(name(&format!("u{j}")))),
                        1 => {
                            plan.links.after.insert(name(&format!("u{j}")));
                            plan.links.requires.insert(name(&format!("u{j}")));
                        }
                        _ => {}
                    }
                }
                (format!("u{i}"), plan)
            })
            .collect();
        let plans: Vec<(&str, Plan)> = plans.iter().map(|(name, plan)| (name.as_str(), plan.clone())).collect();
        let mut world = World::new(&plans);
        let mut jobs = Vec::new();
        for _ in 0..random.below(200) {
            let unit = name(plans[random.below(count)].0);
            match random.below(10) {
                0 => jobs.extend(world.engine.start(&unit, world.now)),
                1 if random.below(4) == 0 => jobs.extend(world.engine.stop(&unit, world.now)),
                2 if random.below(4) == 0 => jobs.extend(world.engine.restart(&unit, world.now)),
                3 if random.below(4) == 0 => {
                    if let Some(process) = world.live.remove(&unit) {
                        let wait_status = if random.below(2) == 0 { 256 } else { 0 };
                        let exit = Event::Exited { process, wait_status, out_of_memory: false };
                        world.engine.event(&unit, exit, world.now);
                    }
                }
                4 => {
                    // What is killed is gone by the time of the next try, and who asks the runtime to forget hears of it.
                    let prompt =
                        |(_, action): &(UnitName, Action)| matches!(action, Action::KillCgroup | Action::Clean { .. });
                    while let Some(index) = world.open.iter().position(prompt) {
                        world.answer(index);
                        world.take();
                    }
                    world.now.mono = world.engine.next_deadline().unwrap_or(world.now.mono);
                    world.engine.tick(world.now);
                }
                5 if random.below(6) == 0 => {
                    jobs.retain(|job| world.done.contains_key(job));
                    jobs.extend(world.another_supervisor(&mut random));
                }
                _ if !world.open.is_empty() => world.answer(random.below(world.open.len())),
                _ => {}
            }
            world.take();
        }
        // One whose stop was given up (`JobTimeoutSec=`) is on its way all the same.
        let underway = |entry: &Entry| {
            let given_up = match &entry.record.state {
                State::Creating { abort, .. } => abort.is_some(),
                State::Starting { stop, .. } => *stop,
                state => state.active(&entry.plan.policy) == ActiveState::Deactivating,
            };
            given_up || entry.job.as_ref().is_some_and(|job| job.is_stopping() && job.underway)
        };
        world.ordered = world.engine.units().filter(|(_, entry)| !underway(entry)).map(|(n, _)| n.clone()).collect();
        world.engine.shut_down(world.now);
        for _ in 0..2000 {
            world.take();
            if world.engine.quiet() {
                break;
            }
            if world.open.is_empty() {
                world.now.mono = world.engine.next_deadline().unwrap_or(world.now.mono);
                world.engine.tick(world.now);
            } else {
                world.answer(random.below(world.open.len()));
            }
        }
        world.take();
        assert!(world.engine.quiet(), "round {round}: {:?}", world.diary);
        assert!(world.live.is_empty(), "round {round}: {:?}", world.live);
        for job in jobs {
            assert!(world.done.contains_key(&job), "round {round}: job {job} never ended");
        }
    }
}

impl World {
    /// The supervisor dies and the next one takes over what was written, as `recover` does it. What its operations and threads were
    /// at is not answered any more; a create may have come through. Returns the jobs that go on.
    fn another_supervisor(&mut self, random: &mut Random) -> Vec<JobId> {
        for (unit, action) in std::mem::take(&mut self.open) {
            if matches!(action, Action::Create { .. }) && random.below(2) == 0 {
                self.next_pid += 1;
                self.live.insert(unit, Process { pid: self.next_pid, start_ticks: 1 });
            }
        }
        let old = std::mem::take(&mut self.engine);
        self.engine.next_job = old.next_job;
        self.engine.load(old.units.iter().map(|(unit, entry)| (unit.clone(), entry.plan.clone())).collect(), self.now);
        for (unit, entry) in &old.units {
            let job = entry.job.as_ref().map(|job| (job.kind, job.underway));
            self.engine.restore(unit.clone(), entry.plan.policy.clone(), entry.record.clone(), job);
        }
        // Who was starting goes on, whatever was asked of others meanwhile.
        self.jobs_before = 0;
        for unit in old.units.keys() {
            self.engine.event(unit, Event::Interrupted, self.now);
        }
        self.engine.resume(self.now);
        let jobs = old.units.keys().filter_map(|unit| Some(self.engine.get(unit)?.job.as_ref()?.id));
        jobs.chain(self.done.keys().copied().filter(|id| *id >= old.next_job)).collect()
    }
}
