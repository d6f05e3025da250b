//! Unix sockets, PROXY headers, connects that fail.

use std::time::Duration;

use config::model::{EndpointAddress, ProxyProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

use super::lab::{Lab, answer, read_some, run, until, write_all};
use crate::io::Stream;
use crate::request::cause::{Cause, Rejection};
use crate::upstream::dial::dial;
use crate::upstream::io::UpstreamIo;
use crate::upstream::proxy_protocol::ProxySource;

const SECONDS: Duration = Duration::from_secs(20);

async fn dialled(lab: &Lab, source: Option<&ProxySource>) -> Result<UpstreamIo, Rejection> {
    let timer = lab.timer(SECONDS);
    dial(&lab.local.shared, &lab.endpoint, &lab.transport, source, &timer).await
}

#[test]
fn a_unix_socket_carries_requests() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let (mut io, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 1024];
            let n = io.read(&mut head).await.unwrap();
            io.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            head.truncate(n);
            head
        });
        let lab = Lab::unix(&path);
        let mut io = dialled(&lab, None).await.unwrap();
        assert!(io.quiet() && io.surely_quiet() && io.poolable());
        assert!(io.plain().is_none() && io.socket().is_none());
        assert_eq!(answer(&mut io, "GET / HTTP/1.1\nHost: a\n\n").await.body, b"ok");
        assert_eq!(server.await.unwrap(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        until(|| io.read_closed()).await;
        assert!(!io.quiet() && !io.surely_quiet());
    });
}

#[test]
fn what_is_wrong_with_a_unix_socket_is_told() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sock");
        let failed = |detail| Rejection { cause: Cause::ConnectFailed, detail };
        let lab = Lab::unix(&path);
        assert_eq!(dialled(&lab, None).await.err(), Some(failed("no_socket")));
        drop(UnixListener::bind(&path).unwrap());
        assert_eq!(dialled(&lab, None).await.err(), Some(failed("refused")));
    });
}

#[test]
fn the_proxy_header_comes_first_and_its_connection_is_not_pooled() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = EndpointAddress::Ip(listener.local_addr().unwrap());
        let lab = Lab::new(address, |spec| spec.proxy_protocol = Some(ProxyProtocolVersion::V1));
        let source = ProxySource {
            client: "192.0.2.7:56324".parse().unwrap(),
            local: "192.0.2.1:443".parse().unwrap(),
        };
        let mut io = dialled(&lab, Some(&source)).await.unwrap();
        assert!(!io.poolable() && io.socket().is_some());
        write_all(&mut io, b"GET").await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let expected = b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\nGET";
        let mut got = vec![0; expected.len()];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(got, expected);
        server.write_all(b"x").await.unwrap();
        assert_eq!(read_some(&mut io).await.unwrap(), b"x");
    });
}

#[test]
fn nobody_listens() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = EndpointAddress::Ip(listener.local_addr().unwrap());
        drop(listener);
        let lab = Lab::new(address, |_| {});
        let refused = Rejection { cause: Cause::ConnectFailed, detail: "refused" };
        assert_eq!(dialled(&lab, None).await.err(), Some(refused));
    });
}
