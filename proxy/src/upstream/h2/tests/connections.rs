//! Connections: how many, how they end, what endpoints say with GOAWAY.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use config::model::{EndpointAddress, ProxyProtocolVersion, UpstreamProtocol};
use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::server::{acquired, respond, serve, stream};
use crate::request::cause::{Cause, Rejection};
use crate::upstream::h2::{Acquired, Wanted, acquire, open};
use crate::upstream::tests::lab::{Answer, Lab, answer, run, talk, until};

const GET: &str = "GET / HTTP/1.1\nHost: a\n\n";
const PREFACE: usize = 24;

#[test]
fn requests_share_a_connection_that_one_of_them_makes() {
    run(async {
        let server = serve(|_| {}, |_, reply| async { respond(reply, b"ok") }).await;
        let lab = Rc::new(Lab::http2(server.address));
        let done = Rc::new(Cell::new(0));
        for _ in 0..50 {
            let (lab, done) = (lab.clone(), done.clone());
            tokio::task::spawn_local(async move {
                let mut io = stream(&lab).await;
                assert_eq!(answer(&mut io, GET).await.body, b"ok");
                done.set(done.get() + 1);
            });
        }
        until(|| done.get() == 50).await;
        assert_eq!((server.connections.get(), lab.local.h2.len()), (1, 1));
        let wanted = Wanted {
            local: &lab.local,
            endpoint: &lab.endpoint,
            transport: &lab.transport,
            source: None,
            websocket: false,
        };
        assert!(matches!(open(&wanted), Some(Acquired::Stream { reused: true, .. })));
    });
}

#[test]
fn another_connection_when_the_endpoint_takes_no_more_streams() {
    run(async {
        let go = Rc::new(Notify::new());
        let wait = go.clone();
        let two = |builder: &mut h2::server::Builder| {
            builder.max_concurrent_streams(2);
        };
        let server = serve(two, move |_, reply| {
            let wait = wait.clone();
            async move {
                wait.notified().await;
                respond(reply, b"ok");
            }
        })
        .await;
        let lab = Rc::new(Lab::http2(server.address));
        let done = Rc::new(Cell::new(0));
        for _ in 0..5 {
            let (lab, done) = (lab.clone(), done.clone());
            tokio::task::spawn_local(async move {
                let mut io = stream(&lab).await;
                assert_eq!(answer(&mut io, GET).await.body, b"ok");
                done.set(done.get() + 1);
            });
        }
        until(|| server.connections.get() == 3).await;
        until(|| {
            go.notify_waiters();
            done.get() == 5
        })
        .await;
        assert_eq!(server.connections.get(), 3);
        // Places are free again.
        let _both = (stream(&lab).await, stream(&lab).await);
        assert_eq!(server.connections.get(), 3);
    });
}

/// A connection that began with a PROXY header belongs to one client.
#[test]
fn a_connection_with_a_proxy_header_is_not_shared() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = EndpointAddress::Ip(listener.local_addr().unwrap());
        let lab = Lab::new(address, |spec| {
            spec.protocol = UpstreamProtocol::Http2;
            spec.proxy_protocol = Some(ProxyProtocolVersion::V1);
        });
        tokio::task::spawn_local(async move {
            loop {
                let (mut io, _) = listener.accept().await.unwrap();
                let mut line = [0; b"PROXY UNKNOWN\r\n".len()];
                io.read_exact(&mut line).await.unwrap();
                assert_eq!(&line, b"PROXY UNKNOWN\r\n");
                tokio::task::spawn_local(async move {
                    let mut connection = h2::server::handshake(io).await.unwrap();
                    while let Some(Ok((_, reply))) = connection.accept().await {
                        respond(reply, b"ok");
                    }
                });
            }
        });
        for _ in 0..2 {
            let Ok(Acquired::Stream { mut io, reused: false }) = acquired(&lab, false).await else {
                panic!("no new stream");
            };
            assert!(!io.poolable());
            assert_eq!(answer(&mut io, GET).await.body, b"ok");
            assert!(lab.local.h2.is_empty());
        }
    });
}

/// Reads the client's preface and frames up to its first HEADERS.
async fn headers(io: &mut TcpStream) {
    let mut preface = [0; PREFACE];
    io.read_exact(&mut preface).await.unwrap();
    loop {
        let mut head = [0; 9];
        io.read_exact(&mut head).await.unwrap();
        let len = usize::from(head[1]) << 8 | usize::from(head[2]);
        io.read_exact(&mut vec![0; len]).await.unwrap();
        const HEADERS: u8 = 1;
        if head[3] == HEADERS {
            return;
        }
    }
}

const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// On stream 1, with END_STREAM and END_HEADERS: `:status 200`.
const ANSWER: &[u8] = &[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88];

fn goaway(last: u8) -> [u8; 17] {
    let mut frame = [0; 17];
    (frame[2], frame[3], frame[12]) = (8, 7, last);
    frame
}

#[test]
fn goaway_tells_what_was_not_processed() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let lab = Lab::http2(listener.local_addr().unwrap());
        for (last, unprocessed) in [(0, true), (1, false)] {
            let server = async {
                let (mut io, _) = listener.accept().await.unwrap();
                io.write_all(SETTINGS).await.unwrap();
                headers(&mut io).await;
                io.write_all(&goaway(last)).await.unwrap();
                if last == 1 {
                    io.write_all(ANSWER).await.unwrap();
                }
                io
            };
            let client = async {
                let mut io = stream(&lab).await;
                let (bytes, end) = talk(&mut io, b"POST / HTTP/1.1\r\nHost: a\r\n\r\n").await;
                (bytes, end.is_err(), io.unprocessed())
            };
            let (_io, (bytes, error, said)) = tokio::join!(server, client);
            assert_eq!((error, said), (unprocessed, unprocessed), "last {last}");
            assert_eq!(Answer::read(&bytes, false).whole, !unprocessed);
            // Nobody begins another stream on it.
            until(|| lab.local.h2.is_empty()).await;
        }
    });
}

#[test]
fn a_connection_that_ends_in_the_middle_is_no_word_of_refusal() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let lab = Lab::http2(listener.local_addr().unwrap());
        let server = async {
            let (mut io, _) = listener.accept().await.unwrap();
            io.write_all(SETTINGS).await.unwrap();
            headers(&mut io).await;
        };
        let client = async {
            let mut io = stream(&lab).await;
            let (_, end) = talk(&mut io, b"POST / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            assert!(end.is_err() && !io.unprocessed());
        };
        tokio::join!(server, client);
        until(|| lab.local.h2.is_empty()).await;
    });
}

/// It had a stream, and its connection ended before the head was written.
#[test]
fn what_was_never_sent_is_unprocessed() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let lab = Lab::http2(listener.local_addr().unwrap());
        let server = async {
            let (mut io, _) = listener.accept().await.unwrap();
            io.write_all(SETTINGS).await.unwrap();
            io
        };
        let (end, mut io) = tokio::join!(server, stream(&lab));
        drop(end);
        until(|| lab.local.h2.is_empty()).await;
        assert!(!io.quiet());
        let (_, end) = talk(&mut io, b"POST / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(end.is_err() && io.unprocessed());
    });
}

#[test]
fn an_endpoint_that_does_not_speak_http2() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let lab = Lab::http2(listener.local_addr().unwrap());
        let not_http2 = Rejection { cause: Cause::UpstreamProtocol, detail: "not_http2" };
        let server = async {
            let (mut io, _) = listener.accept().await.unwrap();
            io.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            io
        };
        let (_io, failed) = tokio::join!(server, acquired(&lab, false));
        assert_eq!(failed.err(), Some(not_http2));
    });
}

/// One that says nothing is waited for until the deadline; all that wait with it hear of it.
#[test]
fn a_silent_endpoint() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let lab = Rc::new(Lab::http2(listener.local_addr().unwrap()));
        let books = Rc::new(Cell::new(0));
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let (lab, books) = (lab.clone(), books.clone());
                tokio::task::spawn_local(async move {
                    let wanted = Wanted {
                        local: &lab.local,
                        endpoint: &lab.endpoint,
                        transport: &lab.transport,
                        source: None,
                        websocket: false,
                    };
                    let timer = lab.timer(Duration::from_millis(100));
                    let made = || {
                        books.set(books.get() + 1);
                        Ok(Box::new(()) as Box<dyn std::any::Any>)
                    };
                    acquire(&wanted, &timer, made).await.err()
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), Some(Cause::ConnectTimeout.into()));
        }
        assert_eq!(books.get(), 1, "one of them dials");
    });
}

/// The one that dials leaves: another takes over.
#[test]
fn a_dialler_that_is_dropped_does_not_take_the_others_along() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let lab = Rc::new(Lab::http2(listener.local_addr().unwrap()));
        let first = {
            let lab = lab.clone();
            tokio::task::spawn_local(async move { acquired(&lab, false).await.is_ok() })
        };
        let (held, _) = listener.accept().await.unwrap();
        let second = {
            let lab = lab.clone();
            tokio::task::spawn_local(async move { acquired(&lab, false).await.is_ok() })
        };
        tokio::task::yield_now().await;
        first.abort();
        let (mut io, _) = listener.accept().await.unwrap();
        io.write_all(SETTINGS).await.unwrap();
        assert!(second.await.unwrap());
        drop(held);
    });
}

/// The books live as long as the connection, not as long as a stream.
#[test]
fn books_are_closed_with_the_connection() {
    run(async {
        let server = serve(
            |_| {},
            |_, mut reply| async move {
                let mut stream = reply.send_response(Response::new(()), false).unwrap();
                stream.send_data(Bytes::from_static(b"ok"), true).unwrap();
            },
        )
        .await;
        let lab = Lab::http2(server.address);
        let wanted = Wanted {
            local: &lab.local,
            endpoint: &lab.endpoint,
            transport: &lab.transport,
            source: None,
            websocket: false,
        };
        let books = Arc::new(());
        let kept = books.clone();
        let timer = lab.timer(Duration::from_secs(20));
        let acquired = acquire(&wanted, &timer, || Ok(Box::new(kept) as Box<dyn std::any::Any>));
        let Ok(Acquired::Stream { mut io, .. }) = acquired.await else { panic!("no stream") };
        assert_eq!(answer(&mut io, GET).await.body, b"ok");
        drop(io);
        assert_eq!(Arc::strong_count(&books), 2);
        // The process leaves: connections without streams go at once.
        lab.local.shared.drain.begin();
        lab.local.timers.tick(true, false);
        until(|| Arc::strong_count(&books) == 1).await;
        assert!(lab.local.h2.is_empty());
    });
}
