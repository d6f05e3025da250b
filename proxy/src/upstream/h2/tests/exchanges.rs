//! Requests and answers: heads, resets, refusals.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Response, StatusCode};
use tokio::sync::Notify;

use super::server::{respond, serve, stream};
use crate::upstream::tests::lab::{Answer, Lab, answer, read_some, run, talk, until, write_all};

const GET: &str = "GET / HTTP/1.1\nHost: a\n\n";

#[test]
fn a_request_and_its_answer() {
    run(async {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let told = seen.clone();
        let server = serve(
            |_| {},
            move |request, reply| {
                let parts = request.into_parts().0;
                told.borrow_mut().push((parts.method, parts.uri, parts.headers));
                async { respond(reply, b"hello") }
            },
        )
        .await;
        let lab = Lab::http2(server.address);
        let mut io = stream(&lab).await;
        assert!(io.quiet() && !io.poolable() && io.socket().is_none());
        let got =
            answer(&mut io, "GET /a?b=1 HTTP/1.1\nHost: app.openclaw.example\nTE: trailers\n\n")
                .await;
        assert_eq!(got.body, b"hello");
        assert!(got.has("HTTP/1.1 200 OK") && got.has("transfer-encoding: chunked"));
        let seen = seen.borrow();
        let (method, uri, fields) = &seen[0];
        assert_eq!(method, http::Method::GET);
        assert_eq!(uri.to_string(), "http://app.openclaw.example/a?b=1");
        assert_eq!(fields["te"], "trailers");
        assert!(!io.unprocessed());
    });
}

#[test]
fn a_head_may_come_byte_by_byte() {
    run(async {
        let server = serve(|_| {}, |_, reply| async { respond(reply, b"ok") }).await;
        let lab = Lab::http2(server.address);
        let mut io = stream(&lab).await;
        for byte in GET.replace('\n', "\r\n").bytes() {
            write_all(&mut io, &[byte]).await.unwrap();
        }
        assert_eq!(answer(&mut io, "").await.body, b"ok");
    });
}

/// Statuses and methods whose answers have no body, and interim answers before them.
#[test]
fn answers_without_a_body() {
    run(async {
        let server = serve(
            |_| {},
            |request, mut reply| async move {
                let status: u16 = request.uri().path()[1..].parse().unwrap();
                if status == 204 {
                    let mut hints = Response::new(());
                    *hints.status_mut() = StatusCode::from_u16(103).unwrap();
                    hints.headers_mut().insert("link", "</a.css>".parse().unwrap());
                    reply.send_informational(hints).unwrap();
                }
                let mut head = Response::new(());
                *head.status_mut() = StatusCode::from_u16(status).unwrap();
                if status != 204 {
                    head.headers_mut().insert("content-length", "7".parse().unwrap());
                }
                reply.send_response(head, true).unwrap();
            },
        )
        .await;
        let lab = Lab::http2(server.address);
        let got = answer(&mut stream(&lab).await, "HEAD /200 HTTP/1.1\nHost: a\n\n").await;
        assert!(got.has("content-length: 7") && got.body.is_empty());
        let got = answer(&mut stream(&lab).await, "GET /304 HTTP/1.1\nHost: a\n\n").await;
        assert!(got.has("HTTP/1.1 304 Not Modified") && got.body.is_empty());
        let got = answer(&mut stream(&lab).await, "GET /204 HTTP/1.1\nHost: a\n\n").await;
        assert_eq!(got.heads[0], "HTTP/1.1 103 Early Hints\nlink: </a.css>\n\n");
        assert!(got.has("HTTP/1.1 204 No Content") && !got.head().contains("content-length"));
    });
}

/// gRPC: a status in trailers, or in a head without anything after it.
#[test]
fn grpc_answers() {
    run(async {
        let server = serve(
            |_| {},
            |request, mut reply| async move {
                let head = Response::builder().header("content-type", "application/grpc");
                if request.uri().path() == "/only" {
                    let head = head.header("grpc-status", "5").body(()).unwrap();
                    reply.send_response(head, true).unwrap();
                    return;
                }
                let mut stream = reply.send_response(head.body(()).unwrap(), false).unwrap();
                stream.send_data(Bytes::from_static(b"message"), false).unwrap();
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().unwrap());
                trailers.insert("grpc-message", "fine".parse().unwrap());
                stream.send_trailers(trailers).unwrap();
            },
        )
        .await;
        let lab = Lab::http2(server.address);
        let got = answer(&mut stream(&lab).await, "POST /s HTTP/1.1\nHost: a\n\n").await;
        assert_eq!(got.body, b"message");
        assert_eq!(got.trailers, "grpc-status: 0\ngrpc-message: fine");
        let got = answer(&mut stream(&lab).await, "POST /only HTTP/1.1\nHost: a\n\n").await;
        assert!(got.has("grpc-status: 5") && got.has("content-length: 0"));
    });
}

#[test]
fn only_a_refused_stream_is_unprocessed() {
    run(async {
        for (reason, unprocessed) in [
            (Reason::REFUSED_STREAM, true),
            (Reason::INTERNAL_ERROR, false),
            (Reason::CANCEL, false),
        ] {
            let server = serve(
                |_| {},
                move |_, mut reply| async move {
                    reply.send_reset(reason);
                },
            )
            .await;
            let lab = Lab::http2(server.address);
            let mut io = stream(&lab).await;
            let (bytes, end) = talk(&mut io, b"POST / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            assert!(bytes.is_empty() && end.is_err());
            assert_eq!(io.unprocessed(), unprocessed, "{reason}");
        }
    });
}

/// Whatever the code says, the answer is not complete.
#[test]
fn a_reset_in_the_middle_is_an_error() {
    run(async {
        for reason in [Reason::NO_ERROR, Reason::CANCEL, Reason::REFUSED_STREAM] {
            let go = Rc::new(Notify::new());
            let wait = go.clone();
            let server = serve(
                |_| {},
                move |_, mut reply| {
                    let wait = wait.clone();
                    async move {
                        let mut stream = reply.send_response(Response::new(()), false).unwrap();
                        stream.send_data(Bytes::from_static(b"half"), false).unwrap();
                        wait.notified().await;
                        stream.send_reset(reason);
                    }
                },
            )
            .await;
            let lab = Lab::http2(server.address);
            let mut io = stream(&lab).await;
            write_all(&mut io, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"half\r\n") {
                bytes.extend_from_slice(&read_some(&mut io).await.unwrap());
            }
            go.notify_one();
            let (rest, end) = talk(&mut io, b"").await;
            assert!(rest.is_empty() && end.is_err(), "{reason}");
            assert!(!io.unprocessed(), "{reason}: the answer had begun");
            let got = Answer::read(&bytes, false);
            assert!(got.body == b"half" && !got.whole);
        }
    });
}

#[test]
fn a_dropped_stream_is_cancelled_at_once() {
    run(async {
        let reset = Rc::new(RefCell::new(None));
        let told = reset.clone();
        let server = serve(
            |_| {},
            move |_, mut reply| {
                let told = told.clone();
                async move {
                    let mut stream = reply.send_response(Response::new(()), false).unwrap();
                    let reason = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
                    *told.borrow_mut() = Some(reason.unwrap());
                }
            },
        )
        .await;
        let lab = Lab::http2(server.address);
        let mut io = stream(&lab).await;
        write_all(&mut io, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let head = read_some(&mut io).await.unwrap();
        assert!(head.starts_with(b"HTTP/1.1 200 OK"));
        drop(io);
        until(|| reset.borrow().is_some()).await;
        assert_eq!(*reset.borrow(), Some(Reason::CANCEL));
        // The connection itself is as good as before.
        assert_eq!(lab.local.h2.len(), 1);
    });
}
