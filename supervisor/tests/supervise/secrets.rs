//! Secrets, from the command line into containers, and nowhere else.

use std::{fs, path::Path};

use crate::{
    command::{done, orlop},
    pid1::Pid1,
    place,
};

/// Files below that have these words.
fn files_with(folder: &str, text: &str) -> Vec<String> {
    let has = |path: &Path| fs::read(path).is_ok_and(|all| all.windows(text.len()).any(|part| part == text.as_bytes()));
    let mut found = Vec::new();
    let mut folders = vec![folder.into()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir::<&Path>(std::path::PathBuf::as_path(&folder)).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() && !path.ends_with("shared") && !path.ends_with("rootfs") {
                folders.push(path);
            } else if kind.is_file() && has(&path) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[test]
fn secrets_reach_their_containers_and_lie_nowhere_else() {
    place::inside("secrets::secrets_reach_their_containers_and_lie_nowhere_else", |place| {
        let shared = place.shared_folder();
        fs::write(shared.join("db"), "correct horse").unwrap();
        fs::write(shared.join("token"), "battery staple").unwrap();
        let script = "cmp /run/secrets/db /ask/db && cmp /etc/pw /ask/db && echo same; \
                      test \\\"$$TOKEN\\\" = \\\"$$(cat /ask/token)\\\" && echo alike; \
                      stat -c '%%u:%%g:%%a %%n' /etc/pw /run/secrets/db; echo > /run/secrets/db || echo sealed; sleep 1000";
        let keys = format!(
            "StopSignal=KILL\nVolume={}:/ask:ro\nSecret=db\nSecret=db,target=/etc/pw,uid=7,gid=8,mode=0400\n\
             Secret=token,type=env,target=TOKEN",
            shared.display()
        );
        place.unit("web", script, &keys, "");
        place.unit("apart", script, &format!("UserNS=auto\n{keys}"), "");
        let machine = Pid1::boot(place);
        let problem = machine.try_post("/v1/units/web/start").unwrap();
        assert!(problem["detail"].as_str().unwrap().contains("orlop secret create db"), "{problem}");

        done(&machine, &["secret", "create", "db", shared.join("db").to_str().unwrap()], "");
        done(&machine, &["secret", "create", "token"], "battery staple");
        let twice = orlop(&machine, &["secret", "create", "token", "-"], "x");
        assert!(twice.err.contains("orlop secret set token"), "{}", twice.err);
        assert_eq!(orlop(&machine, &["secret", "rm", "nothing"], "").code, "4");
        for unit in ["web", "apart"] {
            machine.post(&format!("/v1/units/{unit}/start"));
            for line in ["same", "alike", "7:8:400 /etc/pw", "0:0:444 /run/secrets/db", "sealed"] {
                machine.wait(line, |machine| {
                    machine.logs(&format!("/v1/units/{unit}/logs")).iter().any(|said| said["message"] == line)
                });
            }
        }
        let config = Path::new("/run/orlop/units/web/config.json");
        machine.wait("the end of what held a variable's value", |_| !config.exists());
        let shown = done(&machine, &["secret", "ls"], "") + &done(&machine, &["secret", "inspect", "db", "token"], "");
        assert!(shown.contains("db") && shown.contains("token"), "{shown}");
        let told = machine.get("/v1/units").to_string() + &shown;
        for value in ["correct horse", "battery staple"] {
            assert!(!told.contains(value), "{told}");
            for folder in ["/var/lib", "/var/log"] {
                assert_eq!(files_with(folder, value), Vec::<String>::new());
            }
        }

        // Another value is there at the next start; what stopped leaves none behind.
        fs::write(shared.join("token"), "changed").unwrap();
        done(&machine, &["secret", "set", "token"], "changed");
        machine.post("/v1/units/web/restart");
        let alike = |machine: &Pid1| {
            machine.logs("/v1/units/web/logs").iter().filter(|said| said["message"] == "alike").count() == 2
        };
        machine.wait("the new value", alike);
        for unit in ["web", "apart"] {
            machine.post(&format!("/v1/units/{unit}/stop"));
        }
        for value in ["correct horse", "battery staple", "changed"] {
            assert_eq!(files_with("/run/orlop", value), Vec::<String>::new());
        }
        done(&machine, &["secret", "rm", "db", "token"], "");
        assert_eq!(done(&machine, &["secret", "ls"], ""), "");
    });
}
