//! From an accepted socket to a protocol: whose connection it is, where a load balancer says so;
//! then plain HTTP/1.1, or a TLS handshake and what ALPN chose.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use prometheus::IntGauge;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::listener::{Admission, count_rejected};
use super::proxy_protocol;
use super::tls::{self, MAX_TLS_BUFFER};
use super::{h1, h2};
use crate::clock;
use crate::io::TlsIo;
use crate::local::Local;
use crate::request::client::{Client, TlsInfo};
use crate::route::table::ListenerPolicy;

/// Serves the connection in a task of its own.
pub fn spawn(
    local: Rc<Local>,
    policy: Arc<ListenerPolicy>,
    mut admission: Admission,
    io: TcpStream,
    peer: SocketAddr,
) {
    if policy.proxy_protocol.is_empty() {
        return begin(local, policy, admission, io, peer);
    }
    tokio::task::spawn_local(async move {
        let client = match proxy_protocol::read(&local, &io, policy.timeouts.handshake).await {
            // A load balancer's own connection counts on nobody.
            Ok(None) => Ok(peer),
            Ok(Some(source)) => admission.claim(&policy, source).map(|()| source).map_err(Some),
            Err(refused) => Err(refused.reason()),
        };
        match client {
            Ok(client) => begin(local, policy, admission, io, client),
            Err(Some(reason)) => count_rejected(&local, admission.listener, reason),
            Err(None) => {}
        }
    });
}

/// `peer`: whoever is to be taken for the other end.
fn begin(
    local: Rc<Local>,
    policy: Arc<ListenerPolicy>,
    admission: Admission,
    io: TcpStream,
    peer: SocketAddr,
) {
    if policy.tls.is_none() {
        let client = Client::new(admission.listener, peer, None).at(io.local_addr());
        let open = Open::count(Some(&policy.counts.http1));
        tokio::task::spawn_local(async move {
            let _held = (admission, open);
            h1::serve(local, client, io).await;
        });
        return;
    }
    tokio::task::spawn_local(async move {
        let listener = admission.listener;
        if let Some(stream) = handshake(&local, &policy, io).await {
            if tls::is_validation(&stream) {
                return count_validation(&local, peer, &stream);
            }
            let tls = tls_info(&local, &policy, &stream);
            let local_address = stream.get_ref().0.local_addr();
            let client = Client::new(listener, peer, Some(tls)).at(local_address);
            serve_tls(local, policy, admission, client, stream);
        }
    });
}

/// Continues in a task as small as its protocol needs: the handshake's state is gone by then.
fn serve_tls(
    local: Rc<Local>,
    policy: Arc<ListenerPolicy>,
    admission: Admission,
    client: Client,
    stream: TlsStream<TcpStream>,
) {
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = Box::new(TlsIo::new(&local.shared, stream, MAX_TLS_BUFFER));
    if http2 {
        let open = Open::count(policy.counts.tls.as_ref().map(|tls| &tls.http2));
        tokio::task::spawn_local(async move {
            let _held = (admission, open);
            h2::serve(local, client, stream).await;
        });
    } else {
        let open = Open::count(Some(&policy.counts.http1));
        let f = async move {
            let _held = (admission, open);
            h1::serve(local, client, stream).await;
        };
        tokio::task::spawn_local(f);
    }
}

/// The open-connections gauge, for as long as a connection lives.
struct Open(Option<IntGauge>);

impl Open {
    fn count(gauge: Option<&IntGauge>) -> Open {
        gauge.inspect(|gauge| gauge.inc());
        Open(gauge.cloned())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.as_ref().inspect(|gauge| gauge.dec());
    }
}

/// One handshake under way on this worker.
struct Handshake(Rc<Local>);

impl Handshake {
    fn begin(local: &Rc<Local>, limit: usize) -> Option<Handshake> {
        if local.handshakes.get() >= limit {
            return None;
        }
        local.handshakes.set(local.handshakes.get() + 1);
        Some(Handshake(local.clone()))
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.handshakes.set(self.0.handshakes.get().saturating_sub(1));
    }
}

async fn handshake(
    local: &Rc<Local>,
    policy: &ListenerPolicy,
    io: TcpStream,
) -> Option<TlsStream<TcpStream>> {
    let config = policy.tls.as_ref()?;
    let counts = policy.counts.tls.as_ref()?;
    let failed = |reason: &'static str| {
        counts.failed(&local.shared.metrics, reason);
        None
    };
    let Some(_under_way) = Handshake::begin(local, policy.limits.handshakes) else {
        return failed("too_many");
    };
    let started = clock::process_us();
    let timer = local.timers.timer();
    timer.set(policy.timeouts.handshake);
    let accepting = tls::accept(config, &local.shared.challenges, io);
    let mut accepting = std::pin::pin!(accepting);
    let outcome = poll_fn(|cx| match accepting.as_mut().poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending if timer.check(cx).is_some() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await;
    match outcome {
        None => failed("timeout"),
        Some(Err(error)) => failed(failure(&error)),
        Some(Ok(mut stream)) => {
            stream.get_mut().1.set_buffer_limit(Some(MAX_TLS_BUFFER));
            let session = stream.get_ref().1;
            let resumed = session.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
            let took_us = clock::process_us() - started;
            counts.finished(&local.shared.metrics, version(session), resumed, took_us);
            Some(stream)
        }
    }
}

/// The kind of failure, from a closed set.
fn failure(error: &io::Error) -> &'static str {
    use rustls::Error;
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        None => "connection",
        Some(Error::AlertReceived(_)) => "alert_received",
        Some(Error::General(_)) => "no_certificate",
        Some(Error::NoApplicationProtocol) => "alpn",
        Some(Error::PeerIncompatible(_)) => "incompatible",
        Some(Error::InvalidMessage(_) | Error::InappropriateMessage { .. }) => "not_tls",
        Some(_) => "other",
    }
}

/// A CA has seen its certificate; the connection is closed.
fn count_validation(local: &Local, peer: SocketAddr, stream: &TlsStream<TcpStream>) {
    let shared = &local.shared;
    shared.metrics.acme_challenges.tls_alpn_01.inc();
    if let Some(name) = stream.get_ref().1.server_name() {
        shared.challenges.count_alpn(name, peer.ip().to_canonical());
    }
}

fn version(session: &rustls::ServerConnection) -> &'static str {
    match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "other",
    }
}

fn tls_info(local: &Local, policy: &ListenerPolicy, stream: &TlsStream<TcpStream>) -> TlsInfo {
    let session = stream.get_ref().1;
    let server_name = session.server_name();
    TlsInfo {
        version: version(session),
        server_name: server_name.map(Into::into),
        certificate: local.shared.certs.shown(server_name, policy.default_certificate.as_deref()),
    }
}
