//! /proc/net/tcp and /proc/net/tcp6 (proc_net_tcp(5) of old): text to rows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// As in the kernel's tcp_states.h.
    pub state: u8,
    /// Who made the socket.
    pub uid: u32,
    /// 0: no process has it any more.
    pub inode: u64,
}

pub const ESTABLISHED: u8 = 1;
pub const TIME_WAIT: u8 = 6;
pub const LISTEN: u8 = 10;

/// Both tables. Lines of another form are left out.
pub fn rows(table: &str) -> impl Iterator<Item = Row> {
    table.lines().filter_map(row)
}

/// `sl local remote st tx:rx tr:when retrnsmt uid timeout inode ...`
fn row(line: &str) -> Option<Row> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let local = address(fields.next()?)?;
    let remote = address(fields.next()?)?;
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let uid = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    Some(Row { local, remote, state, uid, inode })
}

/// `0100007F:01BB`. The address is printed as words of 32 bits in the machine's byte order.
fn address(field: &str) -> Option<SocketAddr> {
    let (ip, port) = field.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = ip.get(8 * at..8 * at + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at)?);
            }
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Whether a socket that listens at `taken` keeps us from `wanted`. Whether one on `[::]` also has
/// IPv4 is not in the table; mostly it has.
pub fn clash(wanted: SocketAddr, taken: SocketAddr) -> bool {
    let (ours, theirs) = (wanted.ip().to_canonical(), taken.ip().to_canonical());
    let any_v6 = |ip: IpAddr| ip.is_ipv6() && ip.is_unspecified();
    wanted.port() == taken.port()
        && (ours == theirs
            || any_v6(ours)
            || any_v6(theirs)
            || (ours.is_ipv4() == theirs.is_ipv4()
                && (ours.is_unspecified() || theirs.is_unspecified())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As the kernel writes it.
    fn field(address: SocketAddr) -> String {
        let words = |octets: &[u8]| {
            let words = octets.chunks_exact(4);
            let word = |four: &[u8]| u32::from_ne_bytes(four.try_into().unwrap());
            words.map(|four| format!("{:08X}", word(four))).collect::<String>()
        };
        let ip = match address.ip() {
            IpAddr::V4(ip) => words(&ip.octets()),
            IpAddr::V6(ip) => words(&ip.octets()),
        };
        format!("{ip}:{:04X}", address.port())
    }

    fn line(row: &Row) -> String {
        let Row { local, remote, state, uid, inode } = *row;
        let (local, remote) = (field(local), field(remote));
        format!(
            "   0: {local} {remote} {state:02X} 00000000:00000000 00:00000000 00000000 {uid:>5}        0 {inode} 1 0000000015f29e5c 100 0 0 10 0"
        )
    }

    proptest! {
        #[test]
        fn what_the_kernel_writes_is_read(
            local: SocketAddr, remote: SocketAddr, state: u8, uid: u32, inode: u64
        ) {
            let bare = |a: SocketAddr| SocketAddr::new(a.ip(), a.port());
            let row = Row { local: bare(local), remote: bare(remote), state, uid, inode };
            let table = format!("  sl  local_address rem_address   st\n{}\n", line(&row));
            prop_assert_eq!(rows(&table).collect::<Vec<_>>(), [row]);
        }

        #[test]
        fn anything_else_is_left_out(text in "\\PC*(\n[ 0-9A-F:é]*){0,5}") {
            for row in rows(&text) {
                prop_assert!(text.contains(&row.inode.to_string()));
            }
        }
    }

    #[test]
    fn a_listener_of_this_process_is_found() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let listener = std::net::TcpListener::bind(any).unwrap();
            let own = listener.local_addr().unwrap();
            let table = if own.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
            let table = std::fs::read_to_string(table).unwrap();
            assert!(rows(&table).any(|row| row.local == own && row.state == LISTEN), "{own}");
        }
    }

    #[test]
    fn who_is_in_whose_way() {
        for (wanted, taken, clashes) in [
            ("[::]:80", "0.0.0.0:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "[::]:80", true),
            ("0.0.0.0:80", "192.0.2.1:80", true),
            ("192.0.2.1:80", "0.0.0.0:80", true),
            ("192.0.2.1:80", "[::]:80", true),
            ("192.0.2.1:80", "[::ffff:192.0.2.1]:80", true),
            ("192.0.2.1:80", "192.0.2.2:80", false),
            ("0.0.0.0:80", "[::1]:80", false),
            ("[::1]:80", "127.0.0.1:80", false),
            ("[::]:80", "0.0.0.0:81", false),
        ] {
            let told = clash(wanted.parse().unwrap(), taken.parse().unwrap());
            assert_eq!(told, clashes, "{wanted} {taken}");
        }
    }
}
