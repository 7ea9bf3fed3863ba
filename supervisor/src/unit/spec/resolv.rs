//! The container's /etc/resolv.conf.

use std::net::IpAddr;

/// `text`, the machine's own, with what the unit says in the place of its words of the same kind, as podman has it: `DNS=`,
/// `DNSSearch=` (`.` alone: no domain at all) and `DNSOption=`.
pub fn resolv_conf(text: &str, servers: &[IpAddr], search: &[String], options: &[String]) -> String {
    let said = |keyword: &str| match keyword {
        // Those that are too many for a C library stand in comments.
        "nameserver" | "#" => !servers.is_empty(),
        "search" | "domain" => !search.is_empty(),
        "options" => !options.is_empty(),
        _ => false,
    };
    let kept = text.lines().filter(|line| !said(line.split_ascii_whitespace().next().unwrap_or_default()));
    let mut all: Vec<String> = kept.map(str::to_owned).collect();
    all.extend(servers.iter().map(|server| format!("nameserver {server}")));
    if !search.is_empty() && search != ["."] {
        all.push(format!("search {}", search.join(" ")));
    }
    if !options.is_empty() {
        all.push(format!("options {}", options.join(" ")));
    }
    all.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_unit_says_replaces_the_machines_words_of_its_kind() {
        let machine = "# By orlop.\nnameserver 10.0.0.1\n# nameserver 10.0.0.4\nsearch a.example\noptions rotate\n";
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let made = |servers: &[[u8; 4]], search: &[&str], options: &[&str]| {
            let servers: Vec<IpAddr> = servers.iter().map(|&server| server.into()).collect();
            resolv_conf(machine, &servers, &words(search), &words(options))
        };
        assert_eq!(made(&[], &[], &[]), machine);
        assert_eq!(
            made(&[[192, 0, 2, 1], [192, 0, 2, 2]], &[], &[]),
            "search a.example\noptions rotate\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n"
        );
        assert_eq!(
            made(&[], &["b.example", "c.example"], &["ndots:1", "edns0"]),
            "# By orlop.\nnameserver 10.0.0.1\n# nameserver 10.0.0.4\nsearch b.example c.example\noptions ndots:1 edns0\n"
        );
        assert!(!made(&[], &["."], &[]).contains("search"));
    }
}
