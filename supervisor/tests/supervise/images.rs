//! Images that have files of their own.

use std::fs;

use crate::{pid1::Pid1, place};

#[test]
fn an_images_file_says_whose_programs_are_wanted() {
    place::inside("images::an_images_file_says_whose_programs_are_wanted", |place| {
        for (name, keys) in [
            ("own", "TLSVerify=no\nAuthFile=/nowhere\nCreds=me:secret\nRetry=5\nPolicy=newer"),
            ("other", "Arch=s390x\nOS=linux"),
            ("none", "Arch=s390x\nVariant=z99\nImageTag=localhost/shell:latest"),
        ] {
            let text = format!("[Image]\nImage=localhost/many:latest\n{keys}\n");
            fs::write(format!("/etc/containers.d/{name}.image"), text).unwrap();
            place.unit(name, "ls -d /of-*; sleep 1000", "StopSignal=KILL", "");
            place.edit(name, |text| text.replace("localhost/shell:latest", &format!("{name}.image")));
        }
        let machine = Pid1::boot(place);
        for (unit, found) in [("own", "/of-the-machine"), ("other", "/of-another")] {
            machine.post(&format!("/v1/units/{unit}/start"));
            machine.wait(found, |machine| {
                machine.logs(&format!("/v1/units/{unit}/logs")).iter().any(|line| line["message"] == found)
            });
        }
        let problem = machine.try_post("/v1/units/none/start").unwrap();
        assert!(problem["detail"].as_str().unwrap().contains("wanted is one for linux/s390x/z99"), "{problem}");
    });
}
