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
        (
            "Network=four.network\nNetwork=six.network\nIP6=fd00:1::7",
            "5:5: the address fd00:1::7: four.network has no IPv6",
        ),
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
        "Network=in.network:ip=192.0.3.7",
        "Network=in.network\nNetwork=four.network:ip=192.0.2.7\nPublishPort=80:80",
        "PublishPort=80:80\nIP=192.0.2.7",
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
    let set = units(&[("app.pod", "[Pod]\nNetwork=in.network\nPublishPort=80:80\n"), ("in.network", IN)]);
    assert!(set.pods.is_empty() && set.problems[0].text.contains("nothing outside reaches it"), "{:?}", set.problems);
}

#[test]
fn an_image_as_a_volume_and_a_folder_as_a_root_have_no_mapped_ids() {
    for (lines, wrong) in [
        (
            "Image=localhost/x\nUserNS=auto\nVolume=data.volume:/a\nVolume=part.volume:/b",
            "5:8: Volume=part.volume: it is an image (Driver=image)",
        ),
        ("Image=localhost/x\nPod=mapped.pod\nVolume=part.volume:/b", "4:8: Volume=part.volume: it is an image"),
        ("Rootfs=/srv/x\nPod=mapped.pod", "2:8: Rootfs= in a pod with a user namespace"),
    ] {
        let said = with(lines);
        assert!(said.len() == 1 && said[0].starts_with(wrong), "{lines}: {said:?}");
    }
    for fine in [
        "Image=localhost/x\nUserNS=host\nVolume=part.volume:/b",
        "Image=localhost/x\nPod=plain.pod\nVolume=part.volume:/b",
        "Image=localhost/x\nPod=mapped.pod\nVolume=data.volume:/b",
        "Rootfs=/srv/x\nPod=plain.pod",
    ] {
        assert_eq!(with(fine), [""; 0], "{fine}");
    }
}
