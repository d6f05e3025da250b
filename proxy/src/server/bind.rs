//! Listening sockets: one per worker and address, in two steps. [`reserve`] takes the addresses,
//! so that a second process on the same ports is refused before anything else happens; then
//! [`Reserved::listen`] opens them, once certificates are loaded.
//!
//! An inherited socket is one for all workers: each accepts from a duplicate of its descriptor. To
//! bind siblings beside it by `SO_REUSEPORT` would need the right to do so (ports below 1024), and
//! their queues would be lost with the process, which is what inheriting is to prevent.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use config::model::Listener;
use config::value::Name;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::assign::{Given, Source, assign};
use super::holder;
use super::inherit::Inherited;
use crate::downstream::listener::{After, Listening};
use crate::route::table::BoundAddress;

/// Addresses that are ours and not open yet.
pub struct Reserved(Vec<Slot>);

struct Slot {
    /// Index into the snapshot's listeners.
    id: usize,
    listener: Name,
    tls: bool,
    first: Socket,
    address: SocketAddr,
    after: After,
}

/// What one worker accepts from.
pub type WorkerListeners = Vec<Listening>;

/// Why an address is not ours.
#[derive(Debug)]
pub struct BindError {
    listener: Name,
    address: SocketAddr,
    source: io::Error,
}

/// Takes every bind address that is not inherited. Without `share` an address on which anybody
/// listens is an error, also another openclaw-edge whose sockets would share it.
///
/// # Errors
/// For people: an address cannot be had, or an inherited socket is nobody's.
pub fn reserve<'a>(
    listeners: impl IntoIterator<Item = &'a Listener>,
    share: bool,
    inherited: Vec<Inherited>,
) -> Result<Reserved, String> {
    let listeners: Vec<&Listener> = listeners.into_iter().collect();
    let given = inherited.into_iter().map(adopt).collect::<Result<Vec<_>, _>>()?;
    let binds: Vec<_> = listeners.iter().map(|one| (&one.name, one.bind.as_slice())).collect();
    let known: Vec<Given> = given.iter().map(|(_, given)| given.clone()).collect();
    let own = if share && migrates() { After::NextProcess } else { After::Nobody };
    let mut slots = Vec::new();
    for (id, (listener, sources)) in listeners.iter().zip(assign(&binds, &known)?).enumerate() {
        for source in sources {
            let (first, address, after) = match source {
                Source::Given(at) => (clone_of(&given[at].0)?, given[at].1.address, After::Others),
                Source::Bind(wanted) => {
                    let failed = |source| {
                        let listener = listener.name.clone();
                        BindError { listener, address: wanted, source }.to_string()
                    };
                    let (first, address) = reserve_one(wanted, share).map_err(failed)?;
                    (first, address, own)
                }
            };
            let (listener, tls) = (listener.name.clone(), listener.tls.is_some());
            slots.push(Slot { id, listener, tls, first, address, after });
        }
    }
    Ok(Reserved(slots))
}

/// Whether a connection that is being made when its socket closes goes to another one of the same
/// address (Linux 5.14).
fn migrates() -> bool {
    let set = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_migrate_req");
    set.is_ok_and(|set| set.trim() == "1")
}

fn clone_of(socket: &Socket) -> Result<Socket, String> {
    socket.try_clone().map_err(|why| format!("an inherited socket: {why}"))
}

/// A listening TCP socket of somebody else, made as ours are.
fn adopt(inherited: Inherited) -> Result<(Socket, Given), String> {
    let Inherited { fd, name } = inherited;
    let socket = Socket::from(fd);
    let address = socket.local_addr().ok().and_then(|address| address.as_socket());
    let stream = socket.r#type().is_ok_and(|kind| kind == Type::STREAM);
    let (Some(address), true, Ok(true)) = (address, stream, socket.is_listener()) else {
        return Err(format!("the inherited descriptor named {name:?} is no listening TCP socket"));
    };
    let prepared = prepare(&socket);
    prepared.map_err(|why| format!("the inherited socket {address} ({name}): {why}"))?;
    Ok((socket, Given { address, name }))
}

impl Reserved {
    /// Opens every address for each of `workers` workers; connections queue from here on.
    pub fn listen(
        self,
        workers: usize,
    ) -> Result<(Vec<WorkerListeners>, Vec<BoundAddress>), BindError> {
        let mut per_worker: Vec<WorkerListeners> = (0..workers).map(|_| Vec::new()).collect();
        let mut bound = Vec::new();
        for slot in self.0 {
            let Slot { id, listener, tls, first, address, after } = slot;
            let opened = match after {
                After::Others => duplicates(first, workers),
                After::NextProcess | After::Nobody => open(first, address, workers),
            };
            let sockets = opened.map_err(|source| BindError {
                listener: listener.clone(),
                address,
                source,
            })?;
            for (worker, socket) in per_worker.iter_mut().zip(sockets) {
                worker.push(Listening { id, socket: socket.into(), after });
            }
            bound.push(BoundAddress { listener, address, tls });
        }
        Ok((per_worker, bound))
    }

    /// The addresses, with the ports that port 0 became.
    pub fn addresses(&self) -> Vec<BoundAddress> {
        let bound = |slot: &Slot| BoundAddress {
            listener: slot.listener.clone(),
            address: slot.address,
            tls: slot.tls,
        };
        self.0.iter().map(bound).collect()
    }
}

/// Binds without `SO_REUSEPORT` (unless shared): the kernel then refuses an address that anybody
/// listens on.
fn reserve_one(wanted: SocketAddr, share: bool) -> io::Result<(Socket, SocketAddr)> {
    or_ipv4(wanted, |address| {
        let socket = new_socket(address)?;
        if share {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&SockAddr::from(address))?;
        let bound = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok((socket, bound))
    })
}

/// `[::]` becomes `0.0.0.0` where there is no IPv6.
fn or_ipv4<T>(wanted: SocketAddr, bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    match bind(wanted) {
        Err(e) if wanted.is_ipv6() && wanted.ip().is_unspecified() && no_ipv6(&e) => {
            let instead = SocketAddr::from((Ipv4Addr::UNSPECIFIED, wanted.port()));
            tracing::warn!("{wanted} cannot be bound ({e}), using {instead}: IPv4 only");
            bind(instead)
        }
        result => result,
    }
}

/// The first socket listens before it may share: of two processes that started at once the kernel
/// refuses the second here. The other sockets join the first.
fn open(first: Socket, address: SocketAddr, workers: usize) -> io::Result<Vec<Socket>> {
    first.listen(BACKLOG)?;
    first.set_reuse_port(true)?;
    let mut sockets = vec![first];
    while sockets.len() < workers {
        let socket = new_socket(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&SockAddr::from(address))?;
        socket.listen(BACKLOG)?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// The same socket for everybody.
fn duplicates(first: Socket, workers: usize) -> io::Result<Vec<Socket>> {
    let mut sockets = vec![first];
    while sockets.len() < workers {
        sockets.push(sockets[0].try_clone()?);
    }
    Ok(sockets)
}

fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a former process in TIME_WAIT are no obstacle.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    prepare(&socket)?;
    Ok(socket)
}

/// Accepted sockets inherit the first two.
fn prepare(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    crate::io::keep_alive(socket)?;
    socket.set_nonblocking(true)
}

fn no_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        error.raw_os_error().map(Errno::from_raw_os_error),
        Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)
    )
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BindError { listener, address, source } = self;
        write!(f, "listener {listener}: cannot bind {address}: ")?;
        match source.kind() {
            io::ErrorKind::AddrInUse => {
                match holder::of_port(address.port()) {
                    Some(holder) => write!(f, "{holder} listens there")?,
                    None => f.write_str("another process listens there")?,
                }
                f.write_str("; stop it, or serve beside it with --share-ports")
            }
            io::ErrorKind::PermissionDenied => write!(
                f,
                "{source}; ports below 1024 need root or the capability CAP_NET_BIND_SERVICE"
            ),
            _ => write!(f, "{source}"),
        }
    }
}

impl std::error::Error for BindError {}

const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn take(address: &str, share: bool) -> io::Result<(Socket, SocketAddr)> {
        reserve_one(address.parse().unwrap(), share)
    }

    #[test]
    fn port_zero_is_one_port_for_all_workers_and_both_families() {
        let (first, address) = take("[::]:0", false).unwrap();
        assert_ne!(address.port(), 0);
        let sockets = open(first, address, 3).unwrap();
        assert_eq!(sockets.len(), 3);
        for socket in &sockets {
            let bound = socket.local_addr().unwrap().as_socket().unwrap();
            assert_eq!(bound.port(), address.port());
        }
        TcpStream::connect(("127.0.0.1", address.port())).unwrap();
        TcpStream::connect(("::1", address.port())).unwrap();
    }

    #[test]
    fn without_ipv6_any_address_is_any_ipv4_address_and_no_other_is() {
        use rustix::io::Errno;
        let without = |wanted: &str, errno: Errno| {
            or_ipv4(wanted.parse().unwrap(), |address| match address {
                SocketAddr::V6(_) => Err(errno.into()),
                SocketAddr::V4(_) => Ok(address.to_string()),
            })
        };
        for errno in [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL] {
            assert_eq!(without("[::]:80", errno).unwrap(), "0.0.0.0:80");
            assert!(without("[::1]:80", errno).is_err());
        }
        assert!(without("[::]:80", Errno::ADDRINUSE).is_err());
        assert_eq!(without("192.0.2.1:80", Errno::AFNOSUPPORT).unwrap(), "192.0.2.1:80");
    }

    #[test]
    fn held_ports_are_refused_unless_shared() {
        let (first, address) = take("127.0.0.1:0", false).unwrap();
        let sockets = open(first, address, 2).unwrap();
        let text = address.to_string();
        assert_eq!(take(&text, false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let (shared, same) = take(&text, true).unwrap();
        assert_eq!(same, address);
        let beside = open(shared, same, 2).unwrap();
        drop((sockets, beside));
        take(&text, false).unwrap();
    }

    #[test]
    fn of_two_that_start_at_once_one_is_refused() {
        let (first, address) = take("127.0.0.1:0", false).unwrap();
        let (second, _) = take(&address.to_string(), false).unwrap();
        let _sockets = open(first, address, 2).unwrap();
        assert_eq!(open(second, address, 2).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn the_message_names_the_holder() {
        let (first, address) = take("127.0.0.1:0", false).unwrap();
        let _sockets = open(first, address, 1).unwrap();
        let message = holder::of_port(address.port()).unwrap();
        assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
    }
}
