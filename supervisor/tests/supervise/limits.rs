//! Limits that are not the cgroup's.

use std::fs;

use crate::{pid1::Pid1, place};

#[test]
fn a_container_and_what_is_executed_in_it_run_on_their_cpus() {
    place::inside("limits::a_container_and_what_is_executed_in_it_run_on_their_cpus", |place| {
        let own = fs::read_to_string("/proc/self/status").unwrap();
        let cpus = own.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t")).unwrap();
        // One of them, and not the first where there are more.
        let last = cpus.rsplit([',', '-']).next().unwrap();
        let show = "grep Cpus_allowed_list /proc/self/status";
        let check = format!("HealthCmd={show}\nHealthInterval=50ms");
        let service = |cpus: &str| format!("[Service]\nCPUAffinity={cpus}\n[Install]\nWantedBy=default.target");
        place.unit("web", &format!("{show}; sleep 1000"), &check, &service(last));
        place.unit("none", "sleep 1000", "", &service("1023"));
        let mut machine = Pid1::boot(place);
        machine.until_active("web");
        let shown = format!("Cpus_allowed_list:\t{last}");
        let said = |machine: &Pid1| machine.logs("/v1/units/web/logs").iter().any(|line| line["message"] == *shown);
        machine.wait("the CPUs of its first process", said);
        let checked = |machine: &Pid1| {
            let log = &machine.unit("web")["health_log"][0];
            log["output"].as_str().is_some_and(|output| output.contains(&shown))
        };
        machine.wait("the CPUs of a check", checked);
        let text = "CPUAffinity=1023: the machine lets it run on none of these";
        machine.wait("a failure", |machine| machine.unit("none")["state"] == "failed");
        let told = machine.unit("none");
        assert!(told.to_string().contains(text), "{told:#}");
        // Whoever starts it next does the same.
        machine.kill_supervisor();
        machine.start_supervisor();
        machine.post("/v1/units/web/restart");
        let twice = |machine: &Pid1| {
            machine.logs("/v1/units/web/logs").iter().filter(|line| line["message"] == *shown).count() == 2
        };
        machine.wait("the CPUs of the next one", twice);
    });
}
