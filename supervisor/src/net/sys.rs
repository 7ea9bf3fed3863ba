//! Packet sockets, for which nix has no addresses that can be written in safe code.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// IPv4 in Ethernet, in network order.
const ETH_P_IP: u16 = 0x0800_u16.to_be();

fn address(index: u32, mac: [u8; 6]) -> io::Result<libc::sockaddr_ll> {
    let mut sll_addr = [0; 8];
    sll_addr[..6].copy_from_slice(&mac);
    Ok(libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?,
        sll_protocol: ETH_P_IP,
        sll_ifindex: i32::try_from(index).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr,
    })
}

fn length<T>() -> libc::socklen_t {
    // Structures of a few bytes: the conversion cannot fail.
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

/// Binds a packet socket to IPv4 on one card.
pub(super) fn bind_packet(socket: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    let address = address(index, [0; 6])?;
    // SAFETY: the address is a whole sockaddr_ll, given with its size, and lives over the call.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length::<libc::sockaddr_ll>()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends an IPv4 packet to every station on a card's wire.
pub(super) fn send_to_all(socket: BorrowedFd<'_>, index: u32, packet: &[u8]) -> io::Result<()> {
    let address = address(index, [0xff; 6])?;
    // SAFETY: the packet is given with its length, the address is a whole sockaddr_ll with its size; both live over the
    // call.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            (&raw const address).cast(),
            length::<libc::sockaddr_ll>(),
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets only UDP to one port through: the thread is not woken by the rest of the traffic.
pub(super) fn filter_udp_port(socket: BorrowedFd<'_>, port: u16) -> io::Result<()> {
    let op = |code: u32, jt, jf, k| libc::sock_filter { code: u16::try_from(code).unwrap_or_default(), jt, jf, k };
    let mut program = [
        // The protocol is UDP, and it is no later fragment.
        op(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 9),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 6, 17),
        op(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, 6),
        op(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 4, 0, 0x1fff),
        // X is the IP header's length; the port stands two bytes behind.
        op(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0, 0, 0),
        op(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, 0, 0, 2),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, u32::from(port)),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, 0xffff),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ];
    let program =
        libc::sock_fprog { len: u16::try_from(program.len()).map_err(io::Error::other)?, filter: program.as_mut_ptr() };
    // SAFETY: the option takes a sock_fprog, given with its size; its instructions live over the call, the kernel
    // copies them.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            length::<libc::sock_fprog>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
