//! Bodies both ways: sizes, chunks, trailers, and who waits for whom.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::Bytes;
use http::{HeaderMap, Response};
use proptest::prelude::*;
use tokio::sync::Notify;

use super::server::{received, respond, serve, stream};
use crate::io::Stream;
use crate::upstream::io::UpstreamIo;
use crate::upstream::tests::lab::{Answer, Lab, answer, read_some, run, talk, until, write_all};

fn buffered(lab: &Lab) -> usize {
    lab.local.shared.gauges.buffered.load(Ordering::Relaxed)
}

/// Bytes that differ from their neighbours.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

#[test]
fn trailers_go_both_ways() {
    run(async {
        let server = serve(
            |_| {},
            |request, mut reply| async move {
                assert!(!request.headers().contains_key("transfer-encoding"));
                let (body, trailers) = received(request.into_body()).await;
                let mut stream = reply.send_response(Response::new(()), false).unwrap();
                stream.send_data(body.into(), false).unwrap();
                stream.send_trailers(trailers.unwrap()).unwrap();
            },
        )
        .await;
        let lab = Lab::http2(server.address);
        let got = answer(
            &mut stream(&lab).await,
            "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n\
             3;x=1\nabc\n2\nde\n0\nX-Sum: 9\nX-More: 1\n\n",
        )
        .await;
        assert_eq!(got.body, b"abcde");
        assert_eq!(got.trailers, "x-sum: 9\nx-more: 1");
    });
}

#[test]
fn a_sized_answer_keeps_its_length() {
    run(async {
        let server = serve(
            |_| {},
            |_, mut reply| async move {
                let head = Response::builder().header("content-length", "5").body(()).unwrap();
                let mut stream = reply.send_response(head, false).unwrap();
                stream.send_data(Bytes::from_static(b"he"), false).unwrap();
                tokio::task::yield_now().await;
                stream.send_data(Bytes::from_static(b"llo"), true).unwrap();
            },
        )
        .await;
        let lab = Lab::http2(server.address);
        let got = answer(&mut stream(&lab).await, "GET / HTTP/1.1\nHost: a\n\n").await;
        assert!(got.has("content-length: 5") && !got.head().contains("chunked"));
        assert_eq!(got.body, b"hello");
    });
}

/// An endpoint that has not read a hundred small frames may close the connection that others share.
#[test]
fn small_chunks_share_a_frame() {
    run(async {
        let go = Rc::new(Notify::new());
        let wait = go.clone();
        let server = serve(
            |_| {},
            move |request, mut reply| {
                let wait = wait.clone();
                async move {
                    wait.notified().await;
                    let (body, _) = received(request.into_body()).await;
                    let mut stream = reply.send_response(Response::new(()), false).unwrap();
                    stream.send_data(body.into(), true).unwrap();
                }
            },
        )
        .await;
        let lab = Lab::http2(server.address);
        let mut io = stream(&lab).await;
        let mut request =
            b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for byte in pattern(2000) {
            crate::http1::chunked::encode(&mut request, &[byte]);
        }
        write_all(&mut io, &request).await.unwrap();
        assert_eq!(write_until_blocked(&mut io, b"0\r\n\r\n").await, 5);
        go.notify_one();
        let (bytes, end) = talk(&mut io, b"").await;
        end.unwrap();
        assert_eq!(Answer::read(&bytes, false).body, pattern(2000));
    });
}

/// Writes until it would have to wait for long. What was taken.
async fn write_until_blocked(io: &mut UpstreamIo, bytes: &[u8]) -> usize {
    let (mut sent, mut idle) = (0, 0);
    poll_fn(|cx| {
        // Every other task has had many turns: what can leave has left.
        if idle > 200 || sent == bytes.len() {
            return Poll::Ready(sent);
        }
        match io.poll_write(cx, &bytes[sent..]) {
            Poll::Ready(n) => (sent, idle) = (sent + n.unwrap(), 0),
            Poll::Pending => idle += 1,
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

#[test]
fn an_upload_waits_for_the_endpoint() {
    run(async {
        const MUCH: usize = 3 * 1024 * 1024;
        let (go, got) = (Rc::new(Notify::new()), Rc::new(RefCell::new(Vec::new())));
        let (wait, told) = (go.clone(), got.clone());
        let server = serve(
            |_| {},
            move |request, reply| {
                let (wait, told) = (wait.clone(), told.clone());
                async move {
                    wait.notified().await;
                    *told.borrow_mut() = received(request.into_body()).await.0;
                    respond(reply, b"ok");
                }
            },
        )
        .await;
        let lab = Lab::http2(server.address);
        let mut io = stream(&lab).await;
        let head = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {MUCH}\r\n\r\n");
        write_all(&mut io, head.as_bytes()).await.unwrap();
        let body = pattern(MUCH);
        let sent = write_until_blocked(&mut io, &body).await;
        // The endpoint's window, and what h2 holds.
        assert!((65_535..=65_535 + 64 * 1024).contains(&sent), "{sent}");
        go.notify_one();
        let (bytes, end) = talk(&mut io, &body[sent..]).await;
        end.unwrap();
        assert_eq!(Answer::read(&bytes, false).body, b"ok");
        assert!(*got.borrow() == body);
        drop(io);
        until(|| buffered(&lab) == 0).await;
    });
}

#[test]
fn a_download_waits_for_the_client_and_is_counted() {
    run(async {
        const MUCH: usize = 3 * 1024 * 1024;
        const WINDOW: usize = 256 * 1024;
        let sent = Rc::new(Cell::new(0));
        let told = sent.clone();
        let server = serve(
            |_| {},
            move |_, mut reply| {
                let told = told.clone();
                async move {
                    let mut stream = reply.send_response(Response::new(()), false).unwrap();
                    let mut rest = Bytes::from(pattern(MUCH));
                    while !rest.is_empty() {
                        stream.reserve_capacity(rest.len().min(16 * 1024));
                        let room = poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
                        let piece = rest.split_to(room.min(rest.len()));
                        told.set(told.get() + piece.len());
                        stream.send_data(piece, rest.is_empty()).unwrap();
                    }
                }
            },
        )
        .await;
        let lab = Lab::http2(server.address);
        let mut io = stream(&lab).await;
        write_all(&mut io, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut bytes = read_some(&mut io).await.unwrap();
        // The client takes nothing more: the window fills up, and counts.
        until(|| buffered(&lab) >= WINDOW - 64 * 1024).await;
        assert!(buffered(&lab) <= WINDOW + 64 * 1024, "{}", buffered(&lab));
        assert!(sent.get() < MUCH / 2, "{}", sent.get());
        let (rest, end) = talk(&mut io, b"").await;
        end.unwrap();
        bytes.extend_from_slice(&rest);
        assert!(Answer::read(&bytes, false).body == pattern(MUCH));
        drop(io);
        until(|| buffered(&lab) == 0).await;
    });
}

/// Clients that do not read fill the window that all share: the next request goes elsewhere.
#[test]
fn a_connection_full_of_unread_bytes_gets_no_further_stream() {
    run(async {
        let server = serve(
            |_| {},
            |request, mut reply| async move {
                if request.uri().path() == "/small" {
                    return respond(reply, b"ok");
                }
                let mut stream = reply.send_response(Response::new(()), false).unwrap();
                stream.send_data(pattern(256 * 1024).into(), true).unwrap();
            },
        )
        .await;
        let lab = Lab::http2(server.address);
        let mut stalled = Vec::new();
        for _ in 0..16 {
            let mut io = stream(&lab).await;
            write_all(&mut io, b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            // The head: from here on what waits is known.
            poll_fn(|cx| io.poll_read_ready(cx)).await.unwrap();
            stalled.push(io);
        }
        until(|| buffered(&lab) >= 4 * 1024 * 1024).await;
        let small = "GET /small HTTP/1.1\nHost: a\n\n";
        assert_eq!(answer(&mut stream(&lab).await, small).await.body, b"ok");
        assert_eq!(server.connections.get(), 2);
        for mut io in stalled {
            let (bytes, end) = talk(&mut io, b"").await;
            end.unwrap();
            assert!(Answer::read(&bytes, false).body == pattern(256 * 1024));
        }
        until(|| buffered(&lab) == 0).await;
    });
}

/// An answer before the body has been read: the endpoint wants no more of it.
#[test]
fn an_early_answer_is_read_although_the_upload_ends() {
    run(async {
        let server = serve(
            |_| {},
            |_request, reply| async move {
                respond(reply, b"too large");
            },
        )
        .await;
        let lab = Lab::http2(server.address);
        let mut io = stream(&lab).await;
        let mut request = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n".to_vec();
        request.extend_from_slice(&pattern(3_000_000));
        let (bytes, end) = talk(&mut io, &request).await;
        end.unwrap();
        assert_eq!(Answer::read(&bytes, false).body, b"too large");
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However a request is framed, cut into chunks and written, the endpoint gets the same body
    /// and the same trailers.
    #[test]
    fn any_request_arrives(
        chunks in proptest::collection::vec(1usize..9000, 0..12),
        sized in any::<bool>(),
        trailer in any::<bool>(),
        cuts in proptest::collection::vec(1usize..5000, 1..6),
    ) {
        let body = pattern(chunks.iter().sum());
        let mut request = b"POST /p HTTP/1.1\r\nHost: a\r\n".to_vec();
        if sized {
            request.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
            request.extend_from_slice(&body);
        } else {
            request.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            let mut rest = &body[..];
            for chunk in &chunks {
                crate::http1::chunked::encode(&mut request, &rest[..*chunk]);
                rest = &rest[*chunk..];
            }
            request.extend_from_slice(b"0\r\n");
            request.extend_from_slice(if trailer { b"X-End: yes\r\n\r\n" } else { b"\r\n" });
        }
        let (got, trailers) = run(async {
            let got = Rc::new(RefCell::new((Vec::new(), None::<HeaderMap>)));
            let told = got.clone();
            let server = serve(|_| {}, move |request, reply| {
                let told = told.clone();
                async move {
                    *told.borrow_mut() = received(request.into_body()).await;
                    respond(reply, b"ok");
                }
            })
            .await;
            let lab = Lab::http2(server.address);
            let mut io = stream(&lab).await;
            let (mut rest, mut cuts) = (&request[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                write_all(&mut io, piece).await.unwrap();
                rest = after;
                // Too many small frames that it has not read end the server's connection.
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
            }
            let (bytes, end) = talk(&mut io, b"").await;
            end.unwrap();
            assert_eq!(Answer::read(&bytes, false).body, b"ok");
            got.take()
        });
        prop_assert!(got == body);
        let expected = (!sized && trailer).then(|| "yes".to_owned());
        let trailers = trailers.and_then(|all| Some(all.get("x-end")?.to_str().unwrap().to_owned()));
        prop_assert_eq!(trailers, expected);
    }
}
