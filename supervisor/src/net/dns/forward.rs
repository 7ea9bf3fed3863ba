//! Questions that others have to answer: each by a socket and a number of its own, so that an answer that was made up has to guess both
//! (RFC 5452).

use std::{
    fs,
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::Path,
    time::{Duration, Instant},
};

use super::{PORT, zone};

/// For one server. resolv.conf(5) has 5 s for a client's question, so a second server gets its turn.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// More than that no C library asks.
const SERVERS: usize = 3;

/// A question on its way.
#[derive(Debug)]
pub(super) struct Forward {
    pub(super) client: SocketAddr,
    /// Which of the sockets it came by, as its place in the list of then.
    pub(super) by: usize,
    pub(super) socket: UdpSocket,
    pub(super) deadline: Instant,
    question: Vec<u8>,
    /// What the client has in the place of ours.
    id: [u8; 2],
    servers: std::vec::IntoIter<IpAddr>,
}

impl Forward {
    /// `None`: there is nobody to ask.
    pub(super) fn begin(by: usize, client: SocketAddr, mut question: Vec<u8>, servers: Vec<IpAddr>) -> Option<Self> {
        let id = [*question.first()?, *question.get(1)?];
        question[..2].copy_from_slice(&RandomState::new().hash_one(client).to_ne_bytes()[..2]);
        let mut servers = servers.into_iter();
        let (socket, deadline) = send(&mut servers, &question)?;
        Some(Self { client, by, socket, deadline, question, id, servers })
    }

    /// Asks the next server. False: there is none.
    pub(super) fn ask_next(&mut self) -> bool {
        let Some((socket, deadline)) = send(&mut self.servers, &self.question) else { return false };
        (self.socket, self.deadline) = (socket, deadline);
        true
    }

    /// Makes what came the client's answer, if it is one.
    pub(super) fn accept(&self, answer: &mut [u8]) -> bool {
        let is_ours = is_answer(&self.question, answer);
        if is_ours {
            answer[..2].copy_from_slice(&self.id);
        }
        is_ours
    }

    /// What the client hears when nobody answers.
    pub(super) fn failure(&self) -> Vec<u8> {
        let mut failure = zone::failure(&self.question).unwrap_or_default();
        failure.splice(..2, self.id);
        failure
    }
}

/// An answer has the number and the question of what was asked, letter by letter; errors may come without the question.
pub(super) fn is_answer(question: &[u8], answer: &[u8]) -> bool {
    let Some(head) = answer.first_chunk::<12>() else { return false };
    let asked = question.get(12..).unwrap_or_default();
    // One name without pointers, its type and class; what is behind belongs to EDNS.
    let mut end = 0;
    while let Some(length) = asked.get(end).filter(|length| **length != 0) {
        end += usize::from(*length) + 1;
    }
    let asked = asked.get(..end + 5).unwrap_or(asked);
    let same = answer[12..].starts_with(asked) || (head[4..6] == [0, 0] && head[3] & 15 != 0);
    question.starts_with(&head[..2]) && head[2] & 0x80 != 0 && same
}

fn send(servers: &mut impl Iterator<Item = IpAddr>, question: &[u8]) -> Option<(UdpSocket, Instant)> {
    servers.find_map(|server| {
        let ask = || -> io::Result<UdpSocket> {
            let any: IpAddr =
                if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind((any, 0))?;
            socket.set_nonblocking(true)?;
            socket.connect((server, PORT))?;
            socket.send(question)?;
            Ok(socket)
        };
        let asked = ask().inspect_err(|error| log::debug!("ask the name server {server}: {error}"));
        Some((asked.ok()?, Instant::now() + PATIENCE))
    })
}

/// Those that a container or network has, or the machine's.
pub(super) fn servers(given: Vec<IpAddr>, resolv_conf: &Path) -> Vec<IpAddr> {
    let mut servers = given;
    if servers.is_empty() {
        let text = fs::read_to_string(resolv_conf).unwrap_or_default();
        let server = |line: &str| line.strip_prefix("nameserver ")?.trim().parse().ok();
        servers = text.lines().filter_map(server).collect();
    }
    servers.truncate(SERVERS);
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_from_what_is_none() {
        let head = |flags, questions| vec![1, 2, flags, 0, 0, questions, 0, 0, 0, 0, 0, 0];
        let name = [&[3][..], b"web", &[0, 0, 1, 0, 1]].concat();
        let question = [head(1, 1), name.clone(), vec![0, 0, 41, 16, 0]].concat();
        let answer = [head(0x81, 1), name.clone(), vec![9, 9]].concat();
        assert!(is_answer(&question, &answer));
        assert!(!is_answer(&question, &[head(1, 1), name].concat()), "a question");
        let mut wrong = answer.clone();
        wrong[14] ^= 1;
        assert!(!is_answer(&question, &wrong), "of another name");
        wrong = answer;
        wrong[0] = 7;
        assert!(!is_answer(&question, &wrong), "with another number");
        let mut bare = head(0x81, 0);
        assert!(!is_answer(&question, &bare));
        bare[3] = 2;
        assert!(is_answer(&question, &bare), "a failure");
        assert!(!is_answer(&question, &[]) && !is_answer(&[], &bare));
    }

    #[test]
    fn a_container_may_have_its_own_servers() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("resolv.conf");
        fs::write(&path, "# nameserver 192.0.2.9\nnameserver 192.0.2.1\nsearch x\nnameserver ::1\n").unwrap();
        let own: IpAddr = [192, 0, 2, 7].into();
        assert_eq!(servers(vec![own], &path), [own]);
        assert_eq!(servers(Vec::new(), &path), ["192.0.2.1", "::1"].map(|ip| ip.parse::<IpAddr>().unwrap()));
        assert!(servers(Vec::new(), &home.path().join("none")).is_empty());
    }
}
