//! IPv4 and UDP headers around a DHCP message, for the time when the card has no address: the kernel's own UDP would
//! drop answers then, when reverse-path filtering is on.

use std::net::Ipv4Addr;

pub(crate) const SERVER_PORT: u16 = 67;
pub(crate) const CLIENT_PORT: u16 = 68;
const UDP: u8 = 17;
const IP_BYTES: usize = 20;
const UDP_BYTES: usize = 8;

/// A packet from nobody to everybody.
pub(crate) fn broadcast(message: &[u8]) -> Vec<u8> {
    let length = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes();
    let udp_length = length(UDP_BYTES + message.len());
    let mut packet = Vec::with_capacity(IP_BYTES + UDP_BYTES + message.len());
    packet.extend([0x45, 0]);
    packet.extend(length(IP_BYTES + UDP_BYTES + message.len()));
    packet.extend([0, 0, 0, 0, 64, UDP, 0, 0]);
    packet.extend(Ipv4Addr::UNSPECIFIED.octets());
    packet.extend(Ipv4Addr::BROADCAST.octets());
    let sum = !sum(&packet, 0);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(CLIENT_PORT.to_be_bytes());
    packet.extend(SERVER_PORT.to_be_bytes());
    packet.extend(udp_length);
    packet.extend([0, 0]);
    packet.extend(message);
    let sum = match !udp_sum(&packet) {
        // Zero would mean "none".
        0 => 0xffff,
        sum => sum,
    };
    packet[IP_BYTES + 6..IP_BYTES + 8].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The message in a packet for a DHCP client. UDP's checksum is not looked at: on virtual wires it is still to be
/// computed by a card that does not exist, and what the message must contain is checked behind.
pub(crate) fn message(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    let header = usize::from(first & 15) * 4;
    if first >> 4 != 4 || header < IP_BYTES {
        return None;
    }
    let ip = packet.get(..header)?;
    let number = |bytes: &[u8]| usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    // Behind the packet's own end lies the padding of a short frame.
    let packet = packet.get(..number(&ip[2..4]))?;
    let is_fragment = number(&ip[6..8]) & 0x3fff != 0;
    if ip[9] != UDP || is_fragment || sum(ip, 0) != 0xffff {
        return None;
    }
    let udp = packet.get(header..)?;
    if udp.len() < UDP_BYTES || number(&udp[2..4]) != usize::from(CLIENT_PORT) {
        return None;
    }
    udp.get(UDP_BYTES..number(&udp[4..6]))
}

/// The sum of a datagram and its pseudo header: both addresses, the protocol, the length.
fn udp_sum(packet: &[u8]) -> u16 {
    let pseudo = [&packet[12..20], &[0, UDP], &packet[IP_BYTES + 4..IP_BYTES + 6]].concat();
    sum(&packet[IP_BYTES..], sum(&pseudo, 0))
}

/// RFC 1071, not yet inverted.
fn sum(bytes: &[u8], start: u16) -> u16 {
    let mut sum = u32::from(start);
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let mut packet = broadcast(b"a message of odd size");
        assert_eq!((sum(&packet[..IP_BYTES], 0), udp_sum(&packet)), (0xffff, 0xffff));
        assert_eq!(message(&packet), None, "it is for a server");
        packet[22..24].copy_from_slice(&CLIENT_PORT.to_be_bytes());
        assert_eq!(message(&packet).unwrap(), b"a message of odd size");
        packet.extend([0; 30]);
        assert_eq!(message(&packet).unwrap(), b"a message of odd size", "padding is cut");
        for length in 0..49 {
            assert_eq!(message(&packet[..length]), None);
        }
        // A changed header, a fragment, lengths that lie.
        for (at, value) in [(8, 1), (0, 0x46), (0, 0x41), (0, 0x65), (6, 0x20), (9, 6), (25, 200)] {
            let mut bad = packet.clone();
            bad[at] = value;
            assert_eq!(message(&bad), None, "byte {at}");
        }
    }
}
