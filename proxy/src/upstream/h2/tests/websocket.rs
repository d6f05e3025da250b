//! WebSocket by extended CONNECT (RFC 8441).

use bytes::Bytes;
use http::{Method, Response, StatusCode};

use super::server::{acquired, received, serve};
use crate::io::Stream;
use crate::upstream::h2::Acquired;
use crate::upstream::tests::lab::{Answer, Lab, read_some, run, talk, write_all};

const UPGRADE: &[u8] = b"GET /chat HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chat\r\n\
    Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[test]
fn a_websocket_is_a_stream_of_bytes() {
    run(async {
        let extended = |builder: &mut h2::server::Builder| {
            builder.enable_connect_protocol();
        };
        let server = serve(extended, |request, mut reply| async move {
            assert_eq!(request.method(), Method::CONNECT);
            assert_eq!(request.uri().path(), "/chat");
            assert!(request.extensions().get::<h2::ext::Protocol>().is_some());
            let head = Response::builder().header("sec-websocket-protocol", "chat");
            let mut stream = reply.send_response(head.body(()).unwrap(), false).unwrap();
            let mut body = request.into_body();
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                stream.send_data(data, false).unwrap();
            }
            stream.send_data(Bytes::from_static(b"bye"), true).unwrap();
        })
        .await;
        let lab = Lab::http2(server.address);
        let Ok(Acquired::Stream { mut io, .. }) = acquired(&lab, true).await else {
            panic!("no stream");
        };
        write_all(&mut io, UPGRADE).await.unwrap();
        let head = Answer::read(&read_some(&mut io).await.unwrap(), false);
        assert!(head.has("HTTP/1.1 101 Switching Protocols"));
        assert!(head.has("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(head.has("upgrade: websocket") && head.has("connection: Upgrade"));
        assert!(head.has("sec-websocket-protocol: chat"));
        for word in [&b"one"[..], b"two"] {
            write_all(&mut io, word).await.unwrap();
            assert_eq!(read_some(&mut io).await.unwrap(), word);
        }
        std::future::poll_fn(|cx| io.poll_shutdown(cx)).await.unwrap();
        let (rest, end) = talk(&mut io, b"").await;
        end.unwrap();
        assert_eq!(rest, b"bye");
    });
}

#[test]
fn a_refusal_is_an_ordinary_answer() {
    run(async {
        let extended = |builder: &mut h2::server::Builder| {
            builder.enable_connect_protocol();
        };
        let server = serve(extended, |_, mut reply| async move {
            let mut head = Response::new(());
            *head.status_mut() = StatusCode::FORBIDDEN;
            reply.send_response(head, true).unwrap();
        })
        .await;
        let lab = Lab::http2(server.address);
        let Ok(Acquired::Stream { mut io, .. }) = acquired(&lab, true).await else {
            panic!("no stream");
        };
        let (bytes, end) = talk(&mut io, UPGRADE).await;
        end.unwrap();
        let got = Answer::read(&bytes, false);
        assert!(got.whole && got.has("HTTP/1.1 403 Forbidden"));
    });
}

#[test]
fn without_extended_connect_http1_is_wanted() {
    run(async {
        let server = serve(
            |_| {},
            |request, _| async move {
                received(request.into_body()).await;
            },
        )
        .await;
        let lab = Lab::http2(server.address);
        // On a new connection and on one that is there.
        for _ in 0..2 {
            assert!(matches!(acquired(&lab, true).await, Ok(Acquired::Http1)));
        }
        assert_eq!(server.connections.get(), 1);
    });
}
