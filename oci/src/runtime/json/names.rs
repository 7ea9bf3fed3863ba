//! Names in another case than the spec's. Engines and runtimes written in Go read them so (encoding/json): what asks for a protection in
//! such a word has it under runc.

/// Every name a reader knows that is not of small letters alone.
const MIXED: [&str; 56] = [
    "additionalGids",
    "apparmorProfile",
    "blockIO",
    "cgroupsPath",
    "checkBeforeUpdate",
    "closID",
    "commandLine",
    "consoleSize",
    "containerID",
    "createContainer",
    "createRuntime",
    "defaultAction",
    "defaultErrnoRet",
    "disableOOMKiller",
    "enableCMT",
    "enableMBM",
    "enableMonitoring",
    "errnoRet",
    "execCPUAffinity",
    "fileMode",
    "gidMappings",
    "hcaHandles",
    "hcaObjects",
    "hostID",
    "hugepageLimits",
    "intelRdt",
    "ioPriority",
    "kernelTCP",
    "l3CacheSchema",
    "leafWeight",
    "listenerMetadata",
    "listenerPath",
    "maskedPaths",
    "memBwSchema",
    "memoryPolicy",
    "mountLabel",
    "netDevices",
    "noNewPrivileges",
    "ociVersion",
    "oomScoreAdj",
    "pageSize",
    "readonlyPaths",
    "realtimePeriod",
    "realtimeRuntime",
    "rootfsPropagation",
    "selinuxLabel",
    "startContainer",
    "throttleReadBpsDevice",
    "throttleReadIOPSDevice",
    "throttleWriteBpsDevice",
    "throttleWriteIOPSDevice",
    "timeOffsets",
    "uidMappings",
    "useHierarchy",
    "valueTwo",
    "weightDevice",
];

/// The spec's spelling of a name that nobody took as it stands: there may be one.
pub(super) fn meant(name: &str) -> String {
    let known = MIXED.iter().find(|known| known.eq_ignore_ascii_case(name));
    known.map_or_else(|| name.to_ascii_lowercase(), |known| (*known).to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::{Reader, Taken};
    use super::*;

    #[test]
    fn every_name_the_readers_know_is_found_in_any_case() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/runtime/config");
        let mut count = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            // The patterns of a match: names in quotes, with `|` between them.
            for before in text.lines().filter_map(|line| line.split_once(" =>")).map(|(before, _)| before.trim()) {
                let names = before.split(" if ").next().unwrap_or_default().split(" | ");
                for name in names.filter_map(|word| word.strip_prefix('"')?.strip_suffix('"')) {
                    // Not the values of fields: those are in capitals.
                    if name.starts_with(|c: char| c.is_ascii_lowercase()) {
                        assert_eq!(meant(&name.to_ascii_uppercase()), name);
                        count += 1;
                    }
                }
            }
        }
        assert!(count > 100, "{count}");
    }

    #[test]
    fn a_name_in_another_case_is_taken() {
        let mut reader = Reader::new(r#"{"NoNewPrivileges": 1, "noNewPrivileges": 2, "CPU": 3, "Cpux": 4}"#);
        let mut got = Vec::new();
        let mut field = |r: &mut Reader<'_>, name: &str| match name {
            "noNewPrivileges" | "cpu" => r.integer::<u8>().map(|one| got.push(one)).map(|()| Taken::Yes),
            _ => Ok(Taken::No),
        };
        reader.object_with(&["cpu"], &mut field).unwrap();
        assert_eq!(got, [1, 2, 3]);
        let remarks =
            ["NoNewPrivileges: taken as noNewPrivileges", "CPU: taken as cpu", "Cpux: unknown property, ignored"];
        assert_eq!(reader.finish().unwrap(), remarks);
    }
}
