//! Containers on bridges, and a published port: what the kernel needs for them it loads when it is asked to.

use crate::support::{enabled, machine, probe_unit, state};
use std::net::TcpStream;

const KILL: &str = "on-request 9001 write /cg/orlop/cgroup.kill 1";

#[test]
fn containers_reach_each_other_and_are_reached_under_every_supervisor() {
    let on = |command: &str, network: &str| {
        enabled(&probe_unit(command, "").replace("Network=host", network)) + "[Service]\nRestart=always\n"
    };
    let machine = machine("networks")
        .unit("app.network", "[Network]\nSubnet=10.66.0.0/24\nIPv6=yes\n")
        .unit("web.container", &on("serve 80", "Network=app.network:ip=10.66.0.7\nPublishPort=8070:80"))
        .unit("near.container", &on("knock 10.66.0.7:80", "Network=app.network"))
        // On orlop0, by the port of the host.
        .unit("far.container", &on("knock host.containers.internal:8070", ""))
        .unit("kill.container", &enabled(&probe_unit(KILL, "Volume=/sys/fs/cgroup:/cg")))
        .forward(8070)
        .forward(9001)
        .start()
        .unwrap();
    machine.settled().unwrap();
    let answers = |path: &str| {
        let answer = || Ok(machine.http(8070, path).ok().map(|response| response.body));
        machine.wait_until("an answer of the published port", answer).unwrap()
    };
    let pid = answers("/pid");
    for unit in ["near", "far"] {
        machine.wait_for_log(unit, "answered 1").unwrap();
    }
    machine.wait_for_log("kill", "waiting on").unwrap();
    drop(TcpStream::connect(machine.forwarded(9001).unwrap()).unwrap());
    machine
        .wait_until("the next supervisor", || {
            Ok((machine.get("/v1/system")?["supervisor_generation"] == 2).then_some(()))
        })
        .unwrap();
    assert_eq!(answers("/pid"), pid);
    let web = machine.post("/v1/units/web/restart").unwrap();
    assert_eq!((state(&web), &web["networks"][0]["addresses"][0]), ("active", &"10.66.0.7/24".into()), "{web:#}");
    assert_eq!(web["ports"][0]["host_port"], 8070, "{web:#}");
    answers("/");
    for unit in ["near", "far"] {
        let seen = machine.log(unit).unwrap().len();
        let more = || Ok(machine.log(unit)?.iter().skip(seen).any(|line| line.starts_with("answered")).then_some(()));
        machine.wait_until(&format!("{unit} to be answered again"), more).unwrap();
    }
}
