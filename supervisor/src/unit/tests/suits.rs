use super::units;

const SIX: &str = "[Network]\nSubnet=fd00:1::/64\n";
const IN: &str = "[Network]\nInternal=true\n";

/// `web.container` with these lines, beside networks, volumes and pods.
fn with(lines: &str) -> Vec<String> {
    let text = format!("[Container]\n{lines}\n");
    let set = units(&[
        ("web.container", &text),
        ("four.network", "[Network]\nSubnet=192.0.2.0/24\n"),
        ("six.network", SIX),
        ("both.network", "[Network]\nIPv6=true\n"),
        ("dual.network", "[Network]\nIPv6=true\nSubnet=fd00:2::/64\n"),
        ("in.network", IN),
        ("broken.network", "[Network]\nSubnet=x\n"),
        ("part.volume", "[Volume]\nDriver=image\nImage=localhost/x\n"),
        ("data.volume", "[Volume]\n"),
        ("mapped.pod", "[Pod]\nUserNS=auto\n"),
        ("plain.pod", "[Pod]\n"),
    ]);
    let its = set.problems.iter().filter(|one| one.path.ends_with("web.container"));
    its.map(|one| format!("{}:{}: {}", one.place.line, one.place.column, one.text)).collect()
}

/// What is said of several files, by their names.
fn of_files(files: &[(&str, &str)]) -> Vec<String> {
    units(files).problems.iter().map(ToString::to_string).collect()
}

#[test]
fn what_a_network_does_not_have_is_told_at_its_place() {
    for (lines, wrong) in [
        (
            "Network=six.network\nIP=192.0.2.7",
            "4:4: the address 192.0.2.7: six.network has no IPv4; give it a Subnet= of IPv4",
        ),
        ("Network=six.network:ip=192.0.2.7", "3:9: the address 192.0.2.7: six.network has no IPv4"),
        (
            "Network=four.network\nIP6=fd00:1::7",
            "4:5: the address fd00:1::7: four.network has no IPv6; write IPv6=true there",
        ),
        ("IP6=fd00:1::7", "3:5: the address fd00:1::7: the default network has no IPv6"),
        ("Network=four.network\nIP=192.0.3.7", "4:4: the address 192.0.3.7 is not inside 192.0.2.0/24 of four.network"),
        ("Network=four.network\nIP=192.0.2.1", "4:4: the address 192.0.2.1 is the host's or the subnet's own"),
        ("Network=four.network\nIP=192.0.2.255", "4:4: the address 192.0.2.255 is the host's or the subnet's own"),
        ("Network=six.network:ip6=fd00:1::", "3:9: the address fd00:1:: is the host's or the subnet's own"),
        (
            "Network=six.network\nPublishPort=127.0.0.1:80:80",
            "4:13: PublishPort=127.0.0.1:80:80: it is on no network with IPv4 that is not internal",
        ),
        (
            "Network=four.network\nPublishPort=[::1]:80:80",
            "4:13: PublishPort=[::1]:80:80: it is on no network with IPv6 that is not internal",
        ),
        (
            "Network=in.network\nPublishPort=80:80",
            "4:13: PublishPort=80:80: its networks are internal, nothing outside reaches it",
        ),
        (
            "Network=in.network\nNetwork=six.network\nPublishPort=0.0.0.0:80:80",
            "5:13: PublishPort=0.0.0.0:80:80: it is on no network with IPv4",
        ),
    ] {
        let said = with(&format!("Image=localhost/x\n{lines}"));
        assert!(said.len() == 1 && said[0].starts_with(wrong), "{lines}: {said:?}");
    }
    for fine in [
        "Network=six.network\nPublishPort=80:80",
        "Network=six.network\nIP6=fd00:1::7",
        "Network=both.network\nIP=192.0.3.7\nIP6=fd00:1::7",
        "Network=dual.network:ip=192.0.3.7\nPublishPort=0.0.0.0:80:80",
        "Network=in.network:ip=192.0.3.7",
        "Network=in.network\nNetwork=four.network:ip=192.0.2.7\nPublishPort=80:80",
        "PublishPort=80:80\nIP=192.0.2.7",
        "PublishPort=80:80/UDP",
    ] {
        assert_eq!(with(&format!("Image=localhost/x\n{fine}")), [""; 0], "{fine}");
    }
    // What is wrong with the network is told there, and nothing of it is known.
    let said = with("Image=localhost/x\nNetwork=broken.network\nIP6=fd00:1::7");
    assert!(!said.iter().any(|one| one.contains("the address")), "{said:?}");
}

#[test]
fn pods_want_no_more_than_their_networks_have() {
    let set = units(&[("app.pod", "[Pod]\nNetwork=six.network\nIP=192.0.2.7\n"), ("six.network", SIX)]);
    assert!(set.pods.is_empty() && set.problems[0].text.contains("six.network has no IPv4"), "{:?}", set.problems);
    // It starts on a Podman host, and so it does here.
    let set = units(&[("app.pod", "[Pod]\nNetwork=in.network\nPublishPort=80:80\n"), ("in.network", IN)]);
    assert!(set.pods.len() == 1 && set.problems[0].text.contains("nothing outside reaches it"), "{:?}", set.problems);
}

#[test]
fn an_image_as_a_volume_and_a_folder_as_a_root_have_no_mapped_ids() {
    for (lines, wrong) in [
        (
            "Image=localhost/x\nUserNS=auto\nVolume=data.volume:/a\nVolume=part.volume:/b",
            "5:8: Volume=part.volume: it is an image (Driver=image)",
        ),
        ("Image=localhost/x\nPod=mapped.pod\nVolume=part.volume:/b", "4:8: Volume=part.volume: it is an image"),
        (
            "Image=localhost/x\nPod=plain.pod\nVolume=data.volume:/b:idmap",
            "4:8: idmap takes the ids of a user namespace: write UserNS=auto in plain.pod",
        ),
        ("Rootfs=/srv/x\nPod=mapped.pod", "2:8: Rootfs= in a pod with a user namespace"),
    ] {
        let said = with(lines);
        assert!(said.len() == 1 && said[0].starts_with(wrong), "{lines}: {said:?}");
    }
    for fine in [
        "Image=localhost/x\nUserNS=host\nVolume=part.volume:/b",
        "Image=localhost/x\nUserNS=auto\n[Unit]\nAfter=part.volume",
        "Image=localhost/x\nPod=plain.pod\nVolume=part.volume:/b",
        "Image=localhost/x\nPod=mapped.pod\nVolume=data.volume:/b:idmap",
        "Image=localhost/x\nVolume=idmap:/b",
        "Rootfs=/srv/x\nPod=plain.pod",
    ] {
        assert_eq!(with(fine), [""; 0], "{fine}");
    }
}

/// podman's name of a network is as good as its file's.
#[test]
fn a_network_is_known_by_its_name() {
    let app = ("app.network", "[Network]\nSubnet=192.0.2.0/24\n");
    let web = ("web.network", "[Network]\nNetworkName=front\n");
    let on = |lines: &str| format!("[Container]\nImage=localhost/x\n{lines}\n");
    let (by_name, by_file) = (on("Network=systemd-app:ip=192.0.2.9"), on("Network=app.network:ip=192.0.2.9"));
    let read = |text: &str| units(&[("a", text), app, web]).units.remove("a").map(|unit| (unit.container, unit.links));
    assert_eq!(read(&by_name), read(&by_file));
    assert!(read(&on("Network=front")).is_some());
    assert_eq!(read(&on("Network=podman")), read(&on("Network=bridge")));
    assert_eq!(read(&on("Network=default")), read(&on("Network=bridge")));
    // As podman still takes several of them.
    assert_eq!(read(&on("Network=front,systemd-app")), read(&on("Network=front\nNetwork=systemd-app")));
    let said = of_files(&[("a", &on("Network=front,other")), web]);
    assert!(said.len() == 1 && said[0].starts_with("a.container:3:15: "), "{said:?}");
    for (name, what) in [("host", "is a mode"), ("private", "is a mode"), ("podman", "is the default network")] {
        let said = of_files(&[("x.network", &format!("[Network]\nNetworkName={name}\n"))]);
        assert!(said.len() == 1 && said[0].contains(what), "{said:?}");
    }
    let said = of_files(&[("a", &on("Network=systemd-app:ip=192.0.3.9")), app]);
    assert!(said.len() == 1 && said[0].contains("not inside 192.0.2.0/24 of systemd-app"), "{said:?}");
    let said = of_files(&[("a", &on("Network=web.network\nNetwork=front")), web]);
    assert_eq!(said, ["a.container:4:9: Network=front: that is web.network, on which it is already"]);
    // Without its file it is not silently on another network.
    let said = of_files(&[("a", &on("Network=front")), ("web.network", "[Network]\nNetworkName=front\nSubnet=x\n")]);
    assert!(said.len() == 1 && said[0].starts_with("web.network:3:"), "{said:?}");
    assert!(units(&[("a", &on("Network=front"))]).units.is_empty());
}

#[test]
fn one_address_is_one_units() {
    let net = ("app.network", "[Network]\nNetworkName=app\n");
    let with = |lines: &str| format!("[Container]\nImage=localhost/x\n{lines}\n");
    let (a, b) = (with("Network=app.network:ip=192.0.2.9"), with("Network=app\nIP=192.0.2.9"));
    let said = of_files(&[("a", &a), ("b", &b), net]);
    assert_eq!(said, ["b.container:4:4: a has the address 192.0.2.9 of this network already (a.container:3)"]);
    // Of two networks, and of two that never run side by side.
    assert_eq!(of_files(&[("a", &a), ("b", &with("IP=192.0.2.9")), net]), [""; 0]);
    let rival = format!("[Unit]\nConflicts=a.service\n{b}");
    assert_eq!(of_files(&[("a", &a), ("b", &rival), net]), [""; 0]);
}

#[test]
fn networks_have_subnets_and_interfaces_of_their_own() {
    let net = |lines: &str| format!("[Network]\n{lines}\n");
    let (wide, half, other) = (net("Subnet=10.5.0.0/24"), net("Subnet=10.5.0.128/25"), net("Subnet=10.5.1.0/24"));
    let said = of_files(&[("a.network", &half), ("b.network", &wide), ("c.network", &other)]);
    assert_eq!(
        said,
        ["b.network:2:8: Subnet=10.5.0.0/24: it overlaps 10.5.0.128/25 of a-network (a.network:2); choose another"]
    );
    let said = of_files(&[("a.network", &net("Subnet=fd00::/64\nSubnet=10.0.0.0/8\nSubnet=fd00::/48"))]);
    assert!(
        said.len() == 1 && said[0].starts_with("a.network:4:8: Subnet=fd00::/48: it overlaps fd00::/64"),
        "{said:?}"
    );
    let said = of_files(&[("a.network", &net("InterfaceName=br0")), ("b.network", &net("InterfaceName=br0"))]);
    assert_eq!(
        said,
        ["b.network:2:15: a-network has this name of a network interface already, br0 (a.network:2); choose another"]
    );
}

#[test]
fn what_a_unit_says_of_its_networks_agrees() {
    let with = |lines: &str| with(&format!("Image=localhost/x\n{lines}"));
    for (lines, wrong) in [
        ("Network=four.network:ip=192.0.2.7\nIP=192.0.2.8", "4:4: IP=192.0.2.8: Network= has its ip= already"),
        (
            "Network=four.network\nNetwork=six.network\nIP=192.0.2.8",
            "5:4: IP= is for one network; of several write Network=x.network:ip=192.0.2.8",
        ),
        (
            "Network=four.network:interface_name=lan\nNetwork=six.network:interface_name=lan",
            "4:9: interface_name= is the one of another network already",
        ),
        ("Network=four.network\nNetwork=four.network", "4:9: it is on this network already"),
        ("Network=none\nAddHost=up:host-gateway", "4:9: from Network=none nothing leads to the host"),
    ] {
        let said = with(lines);
        assert!(said.len() == 1 && said[0].starts_with(wrong), "{lines}: {said:?}");
    }
    assert_eq!(with("Network=four.network\nNetwork=six.network:interface_name=eth0"), [""; 0]);
}

#[test]
fn nobody_conflicts_with_what_it_needs() {
    let web = "[Unit]\nConflicts=db.service\nRequires=db.container\n[Container]\nImage=localhost/x\n";
    let db = "[Container]\nImage=localhost/x\n";
    let said = of_files(&[("web", web), ("db", db)]);
    let expected = "web.container:2:11: Conflicts=db.service: Requires= names it as well (web.container:3); a unit cannot start beside \
                    what it conflicts with";
    assert_eq!(said, [expected]);
    assert_eq!(of_files(&[("web", &web.replace("Requires", "After")), ("db", db)]), [""; 0]);
}

/// What is asked for is compared with what there is, and each is bounded.
#[test]
fn a_network_has_no_more_subnets_than_it_can_use() {
    let subnets = |count: usize| (0..count).map(|i| format!("Subnet=10.{}.{}.0/24\n", i / 256, i % 256)).collect();
    let net = |subnets: String| format!("[Network]\n{subnets}");
    let asks = "Network=x.network:ip=192.0.2.7\n".repeat(300);
    let web = format!("[Container]\nImage=localhost/x\n{asks}");
    let said = of_files(&[("x.network", &net(subnets(257)))]);
    assert_eq!(said, ["x.network:258:8: a network has at most 256 subnets; divide it, or write wider ones"]);
    let said = of_files(&[("x.network", &net(subnets(256))), ("web", &web)]);
    let outside = said.iter().filter(|one| one.contains("is not inside")).count();
    assert_eq!(outside, 100, "{}", said.len());
}
