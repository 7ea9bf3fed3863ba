//! Volumes that have files of their own: owners, and what is mounted for them as long as somebody has them.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use crate::{crashes, pid1::Pid1, place};

fn volume(name: &str, keys: &str) {
    fs::write(format!("/etc/containers.d/{name}.volume"), format!("[Volume]\n{keys}\n")).unwrap();
}

fn said(machine: &Pid1, unit: &str, text: &str) -> usize {
    machine.logs(&format!("/v1/units/{unit}/logs")).iter().filter(|line| line["message"] == text).count()
}

/// Mounted for volumes, in the machine's own namespace.
fn mounted(place: &place::Place) -> Vec<String> {
    let mounts = place.mounts();
    let below =
        mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|p| p.starts_with("/run/orlop/volumes/"));
    below.map(str::to_owned).collect()
}

#[test]
fn a_new_volume_has_the_owner_that_its_file_says() {
    place::inside("volumes::a_new_volume_has_the_owner_that_its_file_says", |place| {
        volume("data", "User=70\nGID=71");
        volume("plain", "");
        let script = "stat -c '%%u:%%g %%n' /data /plain /data/old; sleep 1000";
        place.unit("web", script, "StopSignal=KILL\nVolume=data.volume:/data\nVolume=plain.volume:/plain", "");
        let machine = Pid1::boot(place);
        machine.post("/v1/units/web/start");
        for line in ["70:71 /data", "0:0 /plain"] {
            machine.wait(line, |machine| said(machine, "web", line) == 1);
        }
        // Who has one already keeps it as it is.
        machine.post("/v1/units/web/stop");
        let folder = Path::new("/var/lib/orlop/volumes/systemd-data");
        std::os::unix::fs::chown(folder, Some(5), Some(6)).unwrap();
        fs::write(folder.join("old"), "").unwrap();
        machine.post("/v1/units/web/start");
        machine.wait("the old volume", |machine| said(machine, "web", "5:6 /data") == 1);
        assert_eq!(said(&machine, "web", "0:0 /data/old"), 1);
    });
}

#[test]
fn what_is_mounted_for_a_volume_goes_with_its_last_user() {
    place::inside("volumes::what_is_mounted_for_a_volume_goes_with_its_last_user", |place| {
        let shared = place.shared_folder();
        fs::write(shared.join("kept"), "kept\n").unwrap();
        volume("ram", "Device=tmpfs\nType=tmpfs\nOptions=size=64k,nosuid,noexec,uid=70\nGroup=71");
        volume("bound", &format!("Copy=no\nDevice={}\nOptions=bind,ro", shared.display()));
        let keys = "StopSignal=KILL\nVolume=ram.volume:/ram\nVolume=bound.volume:/bound";
        let script = "stat -c '%%u:%%g:%%a %%n' /ram; ls /ram; touch /ram/$$HOSTNAME; head -c 100000 /dev/zero > /ram/full; \
                      echo $$(stat -c %%s /ram/full); rm /ram/full; cp /bin/true /ram/x; /ram/x || echo no programs; \
                      cat /bound/kept; touch /bound/new || echo sealed; sleep 1000";
        place.unit("one", script, &format!("{keys}\nHostName=one\nEnvironment=HOSTNAME=one"), "");
        place.unit("two", script, &format!("{keys}\nHostName=two\nEnvironment=HOSTNAME=two"), "");
        let machine = Pid1::boot(place);
        machine.post("/v1/units/one/start");
        for line in ["70:71:1777 /ram", "no programs", "sealed"] {
            machine.wait(line, |machine| said(machine, "one", line) == 1);
        }
        assert_eq!(fs::metadata("/run/orlop/volumes/systemd-ram/mount").unwrap().permissions().mode() & 0o7777, 0o1777);
        machine.post("/v1/units/two/start");
        machine.wait("the first one's file", |machine| said(machine, "two", "one") == 1);
        assert_eq!(mounted(place).len(), 2, "{:?}", mounted(place));
        machine.post("/v1/units/one/stop");
        machine.wait("two's end of script", |machine| said(machine, "two", "sealed") == 1);
        assert_eq!(mounted(place).len(), 2, "one user is left");
        // The last one's restart begins with a new one, as Podman's does.
        machine.post("/v1/units/two/restart");
        machine.wait("its second start", |machine| said(machine, "two", "sealed") == 2);
        assert_eq!(said(&machine, "two", "one"), 1, "the new one was not empty");
        machine.post("/v1/units/two/stop");
        machine.wait("the end of the mounts", |_| {
            mounted(place).is_empty() && fs::read_dir("/run/orlop/volumes").unwrap().next().is_none()
        });
        assert_eq!(fs::read_to_string(shared.join("kept")).unwrap(), "kept\n");
        assert_eq!(fs::metadata(shared.join("kept")).unwrap().uid(), 0);

        fs::remove_file("/etc/containers.d/bound.volume").unwrap();
        volume("bound", "Copy=no\nDevice=/nowhere/at/all\nType=bind");
        let problem = machine.try_post("/v1/units/one/start").unwrap();
        assert!(problem["detail"].as_str().unwrap().contains("Device=/nowhere/at/all"), "{problem}");
        machine.wait("nothing left of the failure", |_| mounted(place).is_empty());
    });
}

#[test]
fn a_volume_of_an_image_shows_its_files_and_keeps_what_was_changed() {
    place::inside("volumes::a_volume_of_an_image_shows_its_files_and_keeps_what_was_changed", |place| {
        fs::write("/etc/containers.d/site.image", "[Image]\nImage=localhost/many:latest\nArch=s390x\n").unwrap();
        volume("site", "Driver=image\nImage=site.image");
        let script = "ls -d /site/of-*; test -e /site/kept && echo kept; test -e /site/usr || echo changed; \
                      touch /site/kept; rmdir /site/usr; sleep 1000";
        let keys = "StopSignal=KILL\nVolume=site.volume:/site";
        for unit in ["one", "two"] {
            place.unit(unit, script, keys, "");
        }
        place.unit("mapped", script, &format!("UserNS=auto\n{keys}"), "");
        let mut machine = Pid1::boot(place);
        machine.post("/v1/units/one/start");
        machine.wait("the image's files", |machine| said(machine, "one", "/site/of-another") == 1);
        machine.wait("the end of its script", |_| place.sleeps("one"));
        machine.post("/v1/units/two/start");
        // Both have the same one.
        machine.wait("what the other has changed", |machine| said(machine, "two", "changed") == 1);
        assert_eq!((said(&machine, "two", "kept"), mounted(place).len()), (1, 1));
        machine.post("/v1/units/two/stop");
        machine.kill_supervisor();
        machine.start_supervisor();
        machine.post("/v1/units/one/stop");
        machine.wait("the end of the mount", |_| mounted(place).is_empty());
        machine.post("/v1/units/one/start");
        machine.wait("what it has changed before", |machine| said(machine, "one", "changed") == 1);
        assert_eq!(said(&machine, "one", "/site/of-another"), 2);
        let problem = machine.try_post("/v1/units/mapped/start").unwrap();
        assert!(problem["detail"].as_str().unwrap().contains("Driver=image"), "{problem}");
        machine.post("/v1/units/one/stop");
        machine.wait("the end of the mount", |_| mounted(place).is_empty());
        // The image's own files are as they were.
        let layers = fs::read_dir("/var/lib/orlop/layers").unwrap().flatten();
        let shared = layers.map(|layer| layer.path()).find(|layer| layer.join("of-another").exists()).unwrap();
        assert!(shared.join("usr").exists() && !shared.join("kept").exists());
    });
}

/// As `killed_at_any_instant_nothing_is_lost_and_nothing_starts_twice`, and as often.
#[test]
fn a_volume_is_mounted_once_whenever_supervisors_are_killed() {
    place::inside("volumes::a_volume_is_mounted_once_whenever_supervisors_are_killed", |place| {
        let shared = place.shared_folder();
        fs::write(shared.join("kept"), "kept\n").unwrap();
        volume("ram", "Device=tmpfs\nType=tmpfs\nOptions=size=64k");
        volume("bound", &format!("Copy=no\nDevice={}\nOptions=bind", shared.display()));
        let keys = "StopSignal=KILL\nVolume=ram.volume:/ram\nVolume=bound.volume:/bound";
        let script = "test -e /bound/kept && echo whole || echo broken; touch /ram/mark; sleep 1000";
        for unit in ["one", "two"] {
            place.unit(unit, script, keys, "[Unit]\nStartLimitIntervalSec=0");
        }
        let mut machine = Pid1::boot(place);
        for round in 0..crashes() {
            let job =
                ["one/start", "two/start", "one/stop", "two/restart", "two/stop"][usize::try_from(round % 5).unwrap()];
            machine.try_post(&format!("/v1/units/{job}?no_block=true"));
            // As there: the moments differ from round to round.
            machine.let_run(Duration::from_millis(round * 11 % 70));
            machine.kill_supervisor();
            machine.start_supervisor();
            let all = mounted(place);
            let of = |name: &str| all.iter().filter(|path| path.contains(name)).count();
            assert!(of("systemd-ram") <= 1 && of("systemd-bound") <= 1, "round {round}: {all:?}");
        }
        for unit in ["one", "two"] {
            machine.post(&format!("/v1/units/{unit}/restart"));
        }
        assert_eq!(
            mounted(place).iter().filter(|path| path.ends_with("/mount") && !path.contains(".unused")).count(),
            2
        );
        assert!(Path::new("/run/orlop/volumes/systemd-ram/mount/mark").exists(), "it is not what the containers have");
        // What one leaves that is killed between two steps.
        fs::create_dir_all("/run/orlop/volumes/.unused-7").unwrap();
        for unit in ["one", "two"] {
            assert_eq!(said(&machine, unit, "broken"), 0);
            machine.post(&format!("/v1/units/{unit}/stop"));
        }
        machine.wait("the end of the mounts", |_| {
            mounted(place).is_empty() && fs::read_dir("/run/orlop/volumes").unwrap().next().is_none()
        });
        assert_eq!(fs::read_to_string(shared.join("kept")).unwrap(), "kept\n");
    });
}
