//! Accepts connections of one listening socket on one worker, within the limits.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};

use super::address_table::AddressKey;
use super::connection;
use super::retire::{self, retire};
use crate::clock;
use crate::local::Local;
use crate::route::table::ListenerPolicy;
use crate::state::MAX_LISTENERS;
use crate::timer::Timer;

/// Pause after accept failed for want of descriptors or memory: it would fail again at once.
const BACK_OFF: Duration = Duration::from_millis(50);

/// A listening socket of one worker, non-blocking.
pub struct Listening {
    /// Index into the snapshot's listeners.
    pub id: usize,
    pub socket: std::net::TcpListener,
    pub after: After,
}

/// Who takes connections of this socket's address when it closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It is inherited. Others have it too: the workers beside this one, and whoever handed it over.
    Others,
    /// A process that shares the ports, and to which the kernel moves what is on its way.
    NextProcess,
    /// Nobody that the kernel would move them to.
    Nobody,
}

impl After {
    /// How long handshakes that have begun are let to end before the socket closes. `None`: its
    /// queue outlives this process.
    fn handshakes(self) -> Option<Duration> {
        match self {
            After::Others => None,
            After::NextProcess => Some(retire::IN_THE_KERNEL),
            After::Nobody => Some(retire::HANDSHAKE),
        }
    }
}

/// Accepts until the drain begins and the queue is empty, then closes the socket: closing with
/// connections in the queue would reset them (facts/security.md §7). Of an inherited socket the
/// queue outlives this process: it is left to the next one, at once.
pub async fn accept_loop(local: Rc<Local>, id: usize, socket: TcpListener, after: After) {
    let timer = local.timers.timer();
    let inherited = after == After::Others;
    loop {
        match next(&local, &socket, &timer, inherited).await {
            None => {
                let Some(span) = after.handshakes() else { return };
                end_handshakes(&local, id, &socket, span).await;
                return empty_queue(&local, id, socket);
            }
            Some(Ok((io, peer))) => admit(&local, id, io, peer),
            Some(Err(error)) => failed(&local, id, &error).await,
        }
    }
}

/// Takes those whose handshake has begun, and lets none begin.
async fn end_handshakes(local: &Rc<Local>, id: usize, socket: &TcpListener, span: Duration) {
    if retire::begin_no_more(socket).is_err() {
        return;
    }
    let serve = async {
        loop {
            match socket.accept().await {
                Ok((io, peer)) => {
                    retire::unbar(&io);
                    admit(local, id, io, peer);
                }
                Err(error) => failed(local, id, &error).await,
            }
        }
    };
    let _ = tokio::time::timeout(span, serve).await;
}

/// Takes what waits in the queue and closes the socket.
fn empty_queue(local: &Rc<Local>, id: usize, socket: TcpListener) {
    let Ok(socket) = socket.into_std() else { return };
    retire(socket, |io, peer| {
        let accepted = io.set_nonblocking(true).and_then(|()| TcpStream::from_std(io));
        if let Ok(io) = accepted {
            admit(local, id, io, peer);
        }
    });
}

async fn next(
    local: &Local,
    socket: &TcpListener,
    timer: &Timer,
    inherited: bool,
) -> Option<io::Result<(TcpStream, SocketAddr)>> {
    poll_fn(|cx| match inherited && local.draining() {
        true => Poll::Ready(None),
        false => next_or_drain(local, socket, timer, cx),
    })
    .await
}

fn next_or_drain(
    local: &Local,
    socket: &TcpListener,
    timer: &Timer,
    cx: &mut Context<'_>,
) -> Poll<Option<io::Result<(TcpStream, SocketAddr)>>> {
    match socket.poll_accept(cx) {
        Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
        Poll::Pending if local.draining() => Poll::Ready(None),
        Poll::Pending => {
            // Registers for the wake-up that a drain sends to every timer.
            let _ = timer.check(cx);
            Poll::Pending
        }
    }
}

async fn failed(local: &Local, id: usize, error: &io::Error) {
    complain(error);
    count_rejected(local, id, "accept_error");
    if !peer_fault(error) {
        tokio::time::sleep(BACK_OFF).await;
    }
}

/// At most one line per second and process: without descriptors this happens at every attempt.
fn complain(error: &io::Error) {
    static LAST_MS: AtomicU64 = AtomicU64::new(0);
    let now_ms = clock::process_ms() + 1000;
    let last = LAST_MS.load(Ordering::Relaxed);
    if now_ms.saturating_sub(last) >= 1000 {
        LAST_MS.store(now_ms, Ordering::Relaxed);
        tracing::warn!(%error, "accept failed");
    }
}

/// Errors of the one connection rather than of the process (accept(2)).
fn peer_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

fn admit(local: &Rc<Local>, id: usize, io: TcpStream, peer: SocketAddr) {
    let snapshot = local.snapshot();
    let Some(policy) = snapshot.listeners.get(id) else { return };
    policy.counts.accepted.inc();
    match Admission::enter(local, id, policy, peer) {
        Ok(admission) => connection::spawn(local.clone(), policy.clone(), admission, io, peer),
        Err(reason) => count_rejected(local, id, reason),
    }
}

fn contains(nets: &[IpNet], address: IpAddr) -> bool {
    nets.iter().any(|net| net.contains(&address))
}

pub fn count_rejected(local: &Local, id: usize, reason: &'static str) {
    let snapshot = local.snapshot();
    if let Some(policy) = snapshot.listeners.get(id) {
        policy.counts.rejected(&local.shared.metrics, reason);
    }
}

/// A connection's place under the limits; given back on drop.
pub struct Admission {
    local: Rc<Local>,
    pub listener: usize,
    address: Option<AddressKey>,
}

impl Admission {
    fn enter(
        local: &Rc<Local>,
        listener: usize,
        policy: &ListenerPolicy,
        peer: SocketAddr,
    ) -> Result<Admission, &'static str> {
        let named = !policy.proxy_protocol.is_empty();
        if named && !contains(&policy.proxy_protocol, peer.ip().to_canonical()) {
            return Err("proxy_protocol_untrusted");
        }
        let count = open(local, listener);
        if count.fetch_add(1, Ordering::Relaxed) >= policy.max_connections {
            count.fetch_sub(1, Ordering::Relaxed);
            return Err("connections");
        }
        local.connections.set(local.connections.get() + 1);
        let mut admission = Admission { local: local.clone(), listener, address: None };
        // Otherwise the peer is a load balancer; its header says whose connection it is.
        if !named {
            admission.claim(policy, peer)?;
        }
        Ok(admission)
    }

    /// Takes a place among the connections of this client, new ones and open ones.
    pub fn claim(
        &mut self,
        policy: &ListenerPolicy,
        client: SocketAddr,
    ) -> Result<(), &'static str> {
        let address = client.ip().to_canonical();
        if address.is_loopback() || contains(&self.local.snapshot().trusted_proxies, address) {
            return Ok(());
        }
        if policy.connection_rate.as_ref().is_some_and(|rate| !rate.pass(address)) {
            return Err("connection_rate");
        }
        let key = AddressKey::of(address);
        if !self.local.shared.addresses.enter(key, policy.limits.connections_per_ip) {
            return Err("connections_per_ip");
        }
        self.address = Some(key);
        Ok(())
    }
}

fn open(local: &Local, listener: usize) -> &AtomicUsize {
    &local.shared.gauges.connections[listener.min(MAX_LISTENERS - 1)]
}

impl Drop for Admission {
    fn drop(&mut self) {
        open(&self.local, self.listener).fetch_sub(1, Ordering::Relaxed);
        if let Some(key) = self.address {
            self.local.shared.addresses.leave(key);
        }
        self.local.connections.set(self.local.connections.get().saturating_sub(1));
    }
}
