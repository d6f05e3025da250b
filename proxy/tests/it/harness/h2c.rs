//! An HTTP/2 client over TLS on crate `h2`, with what impolite tests need.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::client::Tls;
use super::wire::PATIENCE;

/// A connection and the runtime that drives it: it makes progress inside [`H2::block`] only.
pub struct H2 {
    runtime: Runtime,
    pub send: SendRequest<Bytes>,
    /// Ends with the connection.
    pub ended: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

/// An answer; `error` where the stream was reset before its end.
#[derive(Debug)]
pub struct H2Response {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
    pub error: Option<h2::Error>,
}

impl H2Response {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    pub fn assert_cause(&self, status: u16, cause: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let told = self.header("proxy-status");
        assert!(told.contains(cause), "Proxy-Status {told:?} does not name {cause}");
    }
}

impl H2 {
    pub fn connect(tls: &Tls, sni: &str) -> H2 {
        H2::connect_with(tls, sni, &h2::client::Builder::new())
    }

    pub fn connect_with(tls: &Tls, sni: &str, builder: &h2::client::Builder) -> H2 {
        H2::connect_after(b"", tls, sni, builder)
    }

    /// Behind these bytes.
    pub fn connect_after(
        opening: &[u8],
        tls: &Tls,
        sni: &str,
        builder: &h2::client::Builder,
    ) -> H2 {
        let tls = tls.clone().alpn(&["h2"]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (send, ended) = runtime.block_on(async {
            let mut tcp = TcpStream::connect(tls.addr).await.unwrap();
            tcp.set_nodelay(true).unwrap();
            tcp.write_all(opening).await.unwrap();
            let name = ServerName::try_from(sni.to_owned()).unwrap();
            let connector = tokio_rustls::TlsConnector::from(tls.config.clone());
            let io = connector.connect(name, tcp).await.unwrap();
            assert_eq!(io.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let (send, connection) = builder.handshake(io).await.unwrap();
            (send, tokio::spawn(connection))
        });
        H2 { runtime, send, ended }
    }

    /// Runs `future` and the connection; fails after the usual patience.
    pub fn block<F: Future>(&self, future: F) -> F::Output {
        self.block_for(PATIENCE, future)
    }

    pub fn block_for<F: Future>(&self, patience: Duration, future: F) -> F::Output {
        self.runtime.block_on(async {
            tokio::time::timeout(patience, future).await.expect("waited in vain on HTTP/2")
        })
    }

    /// A whole exchange with a whole body.
    pub fn exchange(&self, request: Request<()>, body: &[u8]) -> Result<H2Response, h2::Error> {
        let send = self.send.clone();
        self.block(async move { exchange(send, request, body).await })
    }

    pub fn get(&self, url: &str) -> H2Response {
        self.exchange(get(url), b"").unwrap_or_else(|e| panic!("GET {url}: {e}"))
    }

    /// Opens a stream and leaves both directions to the test.
    pub fn open(&self, request: Request<()>, end: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let send = self.send.clone();
        self.block(async move { send.ready().await.unwrap().send_request(request, end).unwrap() })
    }

    /// Waits until the server has ended the connection.
    pub fn wait_closed(&mut self) -> Result<(), h2::Error> {
        let H2 { runtime, ended, .. } = self;
        runtime.block_on(async {
            tokio::time::timeout(PATIENCE, ended).await.expect("the connection stays open").unwrap()
        })
    }

    /// Lets the connection work for a while.
    pub fn run_for(&self, time: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }
}

pub fn get(url: &str) -> Request<()> {
    Request::get(url).body(()).unwrap()
}

pub fn post(url: &str) -> Request<()> {
    Request::post(url).body(()).unwrap()
}

pub async fn exchange(
    send: SendRequest<Bytes>,
    request: Request<()>,
    body: &[u8],
) -> Result<H2Response, h2::Error> {
    let mut send = send.ready().await?;
    let (response, mut stream) = send.send_request(request, body.is_empty())?;
    // Both at once: an echo must be read while it is sent. An answer may also come before the body
    // was taken; then the rest of the body does not matter.
    let upload = async {
        if !body.is_empty() {
            let _ = push(&mut stream, body, true).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = finish(response) => answer,
        () = upload => unreachable!("it never ends"),
    }
}

/// Sends data as the peer's windows allow.
pub async fn push(
    stream: &mut SendStream<Bytes>,
    mut data: &[u8],
    end: bool,
) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len().min(16 * 1024));
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
        let Some(room) = room.transpose()? else { return Ok(()) };
        let (now, later) = data.split_at(room.min(data.len()));
        stream.send_data(Bytes::copy_from_slice(now), end && later.is_empty())?;
        data = later;
    }
    Ok(())
}

/// Reads an answer to its end.
pub async fn finish(response: ResponseFuture) -> Result<H2Response, h2::Error> {
    let (parts, mut stream) = response.await?.into_parts();
    let mut answer = H2Response {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: Vec::new(),
        trailers: None,
        error: None,
    };
    if let Err(e) = drain(&mut stream, &mut answer).await {
        answer.error = Some(e);
    }
    Ok(answer)
}

async fn drain(stream: &mut RecvStream, answer: &mut H2Response) -> Result<(), h2::Error> {
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        answer.body.extend_from_slice(&data);
    }
    answer.trailers = stream.trailers().await?;
    Ok(())
}
