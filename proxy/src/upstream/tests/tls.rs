//! TLS to endpoints: whom it trusts, what it says when it does not, how its bytes flow.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use config::model::{ClientCertificate, UpstreamTls};
use rcgen::{CertificateParams, date_time_ymd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::ca::{Ca, SECONDS, Server};
use super::lab::{answer, read_some, run, talk, write_all};
use crate::io::Stream;
use crate::request::cause::{Cause, Rejection};
use crate::upstream::dial::{Speak, dial_for};
use crate::upstream::h2::{Acquired, Wanted, acquire};
use crate::upstream::transport::Transport;

fn failed(detail: &'static str) -> Option<Rejection> {
    Some(Rejection { cause: Cause::UpstreamTlsFailed, detail })
}

#[test]
fn a_request_over_tls() {
    run(async {
        let ca = Ca::new("Ours");
        let server = Server::new(&ca.issue("127.0.0.1", |_| {}), None, &["http/1.1"]).await;
        let lab = server.lab(ca.trusting());
        let (io, end) = server.join(&lab, Speak::Http1).await;
        let (mut io, mut end) = (io.unwrap(), end.unwrap());
        assert_eq!(end.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        // Session tickets are no plaintext: they are there now, and it is still quiet.
        assert!(io.quiet() && io.surely_quiet() && io.poolable());
        assert!(io.plain().is_none() && io.socket().is_some());
        let serving = tokio::spawn(async move {
            let mut head = vec![0; 1024];
            let n = end.read(&mut head).await.unwrap();
            end.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            end.shutdown().await.unwrap();
            (head[..n].to_vec(), end)
        });
        let got = answer(&mut io, "GET / HTTP/1.1\nHost: a\n\n").await;
        assert_eq!(got.body, b"ok");
        assert_eq!(serving.await.unwrap().0, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(!io.quiet());
    });
}

#[test]
fn an_end_without_good_bye_is_an_error() {
    run(async {
        let ca = Ca::new("Ours");
        let server = Server::new(&ca.issue("127.0.0.1", |_| {}), None, &[]).await;
        let lab = server.lab(ca.trusting());
        let (io, end) = server.join(&lab, Speak::Http1).await;
        let (mut io, mut end) = (io.unwrap(), end.unwrap());
        end.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf").await.unwrap();
        end.get_mut().0.shutdown().await.unwrap();
        let (bytes, outcome) = talk(&mut io, b"").await;
        assert!(bytes.ends_with(b"half"));
        assert!(outcome.is_err());
    });
}

/// What rustls already holds makes no event of the socket.
#[test]
fn plaintext_inside_rustls_is_ready() {
    run(async {
        let ca = Ca::new("Ours");
        let server = Server::new(&ca.issue("127.0.0.1", |_| {}), None, &[]).await;
        let lab = server.lab(ca.trusting());
        let (io, end) = server.join(&lab, Speak::Http1).await;
        let (mut io, mut end) = (io.unwrap(), end.unwrap());
        end.write_all(b"abc").await.unwrap();
        std::future::poll_fn(|cx| io.poll_read_ready(cx)).await.unwrap();
        for expected in [b"a", b"b", b"c"] {
            assert!(!io.quiet(), "bytes wait in rustls");
            std::future::poll_fn(|cx| io.poll_read_ready(cx)).await.unwrap();
            let mut one = [0];
            let n = std::future::poll_fn(|cx| io.poll_read(cx, &mut one)).await.unwrap();
            assert_eq!((n, &one), (1, expected));
        }
        assert!(io.quiet());
    });
}

/// Drivers do not flush: what the socket did not take at once goes with the reads that follow.
#[test]
fn written_bytes_leave_without_a_flush() {
    run(async {
        const MUCH: usize = 16 * 1024 * 1024;
        let ca = Ca::new("Ours");
        let server = Server::new(&ca.issue("127.0.0.1", |_| {}), None, &[]).await;
        let lab = server.lab(ca.trusting());
        let (io, end) = server.join(&lab, Speak::Http1).await;
        let (mut io, mut end) = (io.unwrap(), end.unwrap());
        // Until the socket is full and rustls, too.
        let piece = vec![7; 16 * 1024];
        let mut sent = 0;
        std::future::poll_fn(|cx| {
            while let std::task::Poll::Ready(n) = io.poll_write(cx, &piece) {
                sent += n.unwrap();
                assert!(sent < MUCH, "nobody reads, and it is taken all the same");
            }
            std::task::Poll::Ready(())
        })
        .await;
        let buffered =
            || lab.local.shared.gauges.buffered.load(std::sync::atomic::Ordering::Relaxed);
        assert!(buffered() > 0);
        let reading = tokio::spawn(async move {
            let mut all = vec![0; sent];
            end.read_exact(&mut all).await.unwrap();
            end.write_all(b"!").await.unwrap();
            end
        });
        assert_eq!(read_some(&mut io).await.unwrap(), b"!");
        drop(reading.await.unwrap());
        assert_eq!(buffered(), 0);
    });
}

#[test]
fn who_is_not_trusted() {
    run(async {
        let (ca, other) = (Ca::new("Ours"), Ca::new("Another"));
        let old = |params: &mut CertificateParams| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2020, 2, 1);
        };
        let future = |params: &mut CertificateParams| params.not_before = date_time_ymd(2090, 1, 1);
        for (leaf, detail) in [
            (other.issue("127.0.0.1", |_| {}), "unknown_issuer"),
            (ca.issue("api.openclaw.example", |_| {}), "name_mismatch"),
            (ca.issue("127.0.0.1", old), "expired"),
            (ca.issue("127.0.0.1", future), "not_yet_valid"),
        ] {
            let server = Server::new(&leaf, None, &[]).await;
            let (io, _) = server.join(&server.lab(ca.trusting()), Speak::Http1).await;
            assert_eq!(io.err(), failed(detail));
            // The same endpoint is taken where nothing is verified.
            let blind = UpstreamTls { insecure: true, ..ca.trusting() };
            let (io, end) = server.join(&server.lab(blind), Speak::Http1).await;
            let (mut io, mut end) = (io.unwrap(), end.unwrap());
            write_all(&mut io, b"hi").await.unwrap();
            let mut got = [0; 2];
            end.read_exact(&mut got).await.unwrap();
        }
    });
}

#[test]
fn the_server_name_can_be_set() {
    run(async {
        let ca = Ca::new("Ours");
        let server = Server::new(&ca.issue("api.openclaw.example", |_| {}), None, &[]).await;
        let named =
            UpstreamTls { server_name: Some("api.openclaw.example".to_owned()), ..ca.trusting() };
        let (io, end) = server.join(&server.lab(named), Speak::Http1).await;
        assert!(io.is_ok());
        assert_eq!(end.unwrap().get_ref().1.server_name(), Some("api.openclaw.example"));
    });
}

#[test]
fn an_endpoint_may_ask_for_a_certificate() {
    run(async {
        let ca = Ca::new("Ours");
        let leaf = ca.issue("edge.openclaw.example", |_| {});
        let pair = ClientCertificate { chain: ca.file("edge.pem"), key: ca.file("edge.key") };
        std::fs::write(&pair.chain, leaf.certificate.pem()).unwrap();
        std::fs::write(&pair.key, leaf.key.serialize_pem()).unwrap();
        let server = Server::new(&ca.issue("127.0.0.1", |_| {}), Some(&ca), &[]).await;
        let with = UpstreamTls { certificate: Some(pair), ..ca.trusting() };
        let (io, end) = server.join(&server.lab(with), Speak::Http1).await;
        assert!(io.is_ok());
        assert_eq!(end.unwrap().get_ref().1.peer_certificates().unwrap().len(), 1);

        // In TLS 1.3 the client learns of it with its first read.
        let (io, end) = server.join(&server.lab(ca.trusting()), Speak::Http1).await;
        assert!(end.is_err());
        assert!(read_some(&mut io.unwrap()).await.is_err());
    });
}

#[test]
fn http2_must_be_agreed_on() {
    run(async {
        let ca = Ca::new("Ours");
        let leaf = ca.issue("127.0.0.1", |_| {});
        for (alpn, outcome) in [
            (&["h2", "http/1.1"][..], None),
            (&["http/1.1"], failed("alpn")),
            (&[], failed("alpn")),
        ] {
            let server = Server::new(&leaf, None, alpn).await;
            let (io, _) = server.join(&server.lab(ca.trusting()), Speak::Http2).await;
            assert_eq!(io.err(), outcome, "{alpn:?}");
        }
    });
}

#[test]
fn http2_over_tls() {
    run(async {
        let ca = Ca::new("Ours");
        let server = Server::new(&ca.issue("127.0.0.1", |_| {}), None, &["h2"]).await;
        let lab = server.lab(ca.trusting());
        let serving = async {
            let mut connection =
                h2::server::handshake(server.accept().await.unwrap()).await.unwrap();
            while let Some(Ok((request, mut reply))) = connection.accept().await {
                assert_eq!(request.uri().scheme_str(), Some("https"));
                let mut stream = reply.send_response(http::Response::new(()), false).unwrap();
                stream.send_data(bytes::Bytes::from_static(b"ok"), true).unwrap();
            }
        };
        let client = async {
            let wanted = Wanted {
                local: &lab.local,
                endpoint: &lab.endpoint,
                transport: &lab.transport,
                source: None,
                websocket: false,
            };
            let timer = lab.timer(SECONDS);
            let acquired = acquire(&wanted, &timer, || Ok(Box::new(()) as Box<dyn Any>)).await;
            let Ok(Acquired::Stream { mut io, .. }) = acquired else { panic!("no stream") };
            let got = answer(&mut io, "GET / HTTP/1.1\nHost: a\n\n").await;
            assert_eq!(got.body, b"ok");
            drop(io);
            // The server's half ends with the connection.
            assert!(lab.local.h2.close_idle());
        };
        tokio::join!(serving, client);
        assert!(lab.local.h2.is_empty() && !lab.local.h2.close_idle());
    });
}

#[test]
fn an_endpoint_without_tls_or_without_words() {
    run(async {
        let ca = Ca::new("Ours");
        let server = Server::new(&ca.issue("127.0.0.1", |_| {}), None, &[]).await;
        for (said, detail) in
            [(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "not_tls"), (b"", "closed")]
        {
            let lab = server.lab(ca.trusting());
            let timer = lab.timer(SECONDS);
            let shared = &lab.local.shared;
            let dialling =
                dial_for(Speak::Http1, shared, &lab.endpoint, &lab.transport, None, &timer);
            let plain = async {
                let (mut io, _) = server.listener.accept().await.unwrap();
                let _ = io.read(&mut [0; 4096]).await.unwrap();
                io.write_all(said).await.unwrap();
                io.shutdown().await.unwrap();
                io
            };
            let (io, _open) = tokio::join!(dialling, plain);
            assert_eq!(io.err(), failed(detail));
        }
    });
}

#[test]
fn a_handshake_ends_with_the_deadline() {
    run(async {
        let ca = Ca::new("Ours");
        let server = Server::new(&ca.issue("127.0.0.1", |_| {}), None, &[]).await;
        let lab = server.lab(ca.trusting());
        let timer = lab.timer(Duration::from_millis(100));
        let shared = &lab.local.shared;
        let io = dial_for(Speak::Http1, shared, &lab.endpoint, &lab.transport, None, &timer).await;
        assert_eq!(io.err(), Some(Cause::ConnectTimeout.into()));
    });
}

#[test]
fn files_that_cannot_be_used_are_told() {
    let ca = Ca::new("Ours");
    let compiled = |tls: UpstreamTls| {
        let mut spec = config::model::Upstream::new("web".parse().unwrap(), Vec::new());
        spec.tls = Some(tls);
        (Transport::compile(&spec, None), spec)
    };
    let missing = UpstreamTls { ca: Some(ca.file("none.pem")), ..ca.trusting() };
    let (transport, spec) = compiled(missing);
    assert!(
        transport.problem().unwrap().contains("none.pem: No such file"),
        "{:?}",
        transport.problem()
    );
    assert_eq!(Transport::files(&spec), [ca.file("none.pem")]);

    std::fs::write(ca.file("empty.pem"), "nothing").unwrap();
    let (transport, _) = compiled(UpstreamTls { ca: Some(ca.file("empty.pem")), ..ca.trusting() });
    assert!(transport.problem().unwrap().ends_with("no certificate in it"));

    let pair = ClientCertificate { chain: ca.file("ca.pem"), key: ca.file("ca.pem") };
    let (transport, _) = compiled(UpstreamTls { certificate: Some(pair), ..ca.trusting() });
    assert!(transport.problem().unwrap().ends_with("no private key in it"));

    let named = UpstreamTls { server_name: Some("a b".to_owned()), ..ca.trusting() };
    assert!(compiled(named).0.problem().unwrap().starts_with("server_name"));

    let (transport, _) = compiled(ca.trusting());
    assert_eq!(transport.problem(), None);
}

#[test]
fn a_broken_transport_makes_no_connection() {
    run(async {
        let ca = Ca::new("Ours");
        let server = Server::new(&ca.issue("127.0.0.1", |_| {}), None, &[]).await;
        let lab = server.lab(UpstreamTls { ca: Some(ca.file("none.pem")), ..ca.trusting() });
        let timer = lab.timer(SECONDS);
        let shared = &lab.local.shared;
        let io = dial_for(Speak::Http1, shared, &lab.endpoint, &lab.transport, None, &timer).await;
        assert_eq!(io.err(), failed("configuration"));
    });
}

#[test]
fn a_transport_stays_while_nothing_changes() {
    let ca = Ca::new("Ours");
    let mut spec = config::model::Upstream::new("web".parse().unwrap(), Vec::new());
    spec.tls = Some(ca.trusting());
    let first = Transport::compile(&spec, None);
    assert!(Arc::ptr_eq(&first, &Transport::compile(&spec, Some(&first))));
    // The same bytes written again are no change; others are.
    std::fs::write(ca.file("ca.pem"), ca.issuer.pem()).unwrap();
    assert!(Arc::ptr_eq(&first, &Transport::compile(&spec, Some(&first))));
    std::fs::write(ca.file("ca.pem"), Ca::new("Ours").issuer.pem()).unwrap();
    let second = Transport::compile(&spec, Some(&first));
    assert!(!Arc::ptr_eq(&first, &second));
    spec.proxy_protocol = Some(config::model::ProxyProtocolVersion::V2);
    assert!(!Arc::ptr_eq(&second, &Transport::compile(&spec, Some(&second))));
}

/// The second connection resumes the session of the first.
#[test]
fn sessions_are_resumed() {
    run(async {
        let ca = Ca::new("Ours");
        let server = Server::new(&ca.issue("127.0.0.1", |_| {}), None, &[]).await;
        let lab = server.lab(ca.trusting());
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let (io, end) = server.join(&lab, Speak::Http1).await;
            let (mut io, mut end) = (io.unwrap(), end.unwrap());
            end.write_all(b"x").await.unwrap();
            read_some(&mut io).await.unwrap();
            kinds.push(end.get_ref().1.handshake_kind());
            drop(io);
        }
        assert_eq!(kinds[1], Some(rustls::HandshakeKind::Resumed), "{kinds:?}");
    });
}
