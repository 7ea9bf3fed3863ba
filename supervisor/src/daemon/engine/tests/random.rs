//! Random graphs under random events.

use super::*;
use crate::daemon::testing::Random;

/// Random graphs, random requests, answers in random order, crashes in between: the order is kept, nothing lives twice, every
/// job ends once, and a shutdown ends with nothing left.
#[test]
fn random_machines_keep_order_and_come_to_rest() {
    let mut random = Random::new(0xfeed);
    for round in 0..300 {
        let count = 2 + random.below(12);
        let plans: Vec<(String, Plan)> = (0..count)
            .map(|i| {
                let mut plan = plan();
                for j in 0..i {
                    let (earlier, links) = (name(&format!("u{j}")), &mut plan.links);
                    match random.below(16) {
                        6 => drop(links.binds_to.insert(earlier)),
                        7 => drop(links.part_of.insert(earlier)),
                        8 => drop(links.upholds.insert(earlier)),
                        9 => drop(links.conflicts.insert(earlier)),
                        10 => drop(links.on_failure.insert(earlier)),
                        11 => drop(links.propagates_stop_to.insert(earlier)),
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
            match random.below(8) {
                0 => jobs.extend(world.engine.start(&unit, world.now)),
                1 if random.below(4) == 0 => jobs.extend(world.engine.stop(&unit, world.now)),
                2 if random.below(4) == 0 => jobs.extend(world.engine.restart(&unit, world.now)),
                3 if random.below(4) == 0 => {
                    if let Some(process) = world.live.remove(&unit) {
                        let exit = Event::Exited { process, wait_status: 256, out_of_memory: false };
                        world.engine.event(&unit, exit, world.now);
                    }
                }
                _ if !world.open.is_empty() => world.answer(random.below(world.open.len())),
                _ => {}
            }
            world.take();
        }
        let underway = |entry: &Entry| entry.job.as_ref().is_some_and(|job| job.is_stopping() && job.underway);
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
