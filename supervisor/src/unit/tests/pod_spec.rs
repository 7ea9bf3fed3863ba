//! What each key of a pod makes of a container in it.

use serde_json::{Value, json};

use super::{spec::config_of, units};
use crate::unit::{Dns, Network, Unit, spec::be_member};

/// A container with these lines, in a pod with those.
fn member(pod: &str, lines: &str) -> Unit {
    let pod = format!("[Pod]\nPodName=app\n{pod}\n");
    let web = format!("[Container]\nImage=localhost/x\nPod=app.pod\n{lines}\n");
    let mut set = units(&[("web", &web), ("app.pod", &pod), ("data.volume", "[Volume]\n")]);
    assert!(set.problems.is_empty(), "{:?}", set.problems);
    let mut unit = set.units.remove("web").unwrap();
    be_member(&mut unit, &set.pods["app-pod"].spec);
    unit
}

fn mounts_at(unit: &Unit, destination: &str) -> Vec<Value> {
    let config = config_of(unit);
    let all = config["mounts"].as_array().unwrap().iter();
    all.filter(|mount| mount["destination"] == destination).map(|mount| mount["source"].clone()).collect()
}

#[test]
fn a_container_has_what_its_pod_says() {
    assert_eq!(config_of(&member("", ""))["hostname"], "app");
    assert_eq!(config_of(&member("HostName=boat", ""))["hostname"], "boat");
    let has_network = |unit: &Unit| config_of(unit)["linux"]["namespaces"].to_string().contains("network");
    assert!(has_network(&member("", "")) && !has_network(&member("Network=host", "")));
    assert_eq!(member("Network=none", "").container.network, Network::None);
    assert_eq!(mounts_at(&member("Volume=data.volume:/data", ""), "/data"), [json!("/volume")]);
    // In its place, not over it.
    let own = member("Volume=data.volume:/data\nVolume=data.volume:/other", "Volume=/srv/own:/data\nTmpfs=/other");
    assert_eq!((mounts_at(&own, "/data"), mounts_at(&own, "/other")), (vec![json!("/srv/own")], vec![json!("tmpfs")]));
    let unit = member("AddHost=db:192.0.2.1\nDNS=192.0.2.53\nDNSSearch=a.example\nDNSOption=ndots:2", "");
    assert_eq!(unit.container.hosts, [("db".to_owned(), Some("192.0.2.1".parse().unwrap()))]);
    let expected = Dns::Generated {
        servers: vec!["192.0.2.53".parse().unwrap()],
        options: vec!["ndots:2".to_owned()],
        search: vec!["a.example".to_owned()],
    };
    assert_eq!(unit.container.dns, expected);
}
