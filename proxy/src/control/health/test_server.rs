//! Endpoints for tests: they answer health checks as they are told to and remember what was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

/// The name in certificates.
pub const HOST: &str = "h.openclaw.example";

#[derive(Clone)]
pub struct TestServer {
    state: Arc<Mutex<State>>,
}

struct State {
    reply: Reply,
    asked: Vec<String>,
}

#[derive(Clone)]
pub enum Reply {
    /// Bytes of HTTP/1.1, then the end.
    Raw(Vec<u8>),
    /// Takes the question and says nothing.
    Silence,
    /// HTTP/2: status, fields, body, trailers.
    Http2 { status: u16, grpc_status: GrpcStatus, body: Vec<u8> },
}

#[derive(Clone, Copy)]
pub enum GrpcStatus {
    None,
    Head(&'static str),
    Trailers(&'static str),
}

impl Reply {
    pub fn status(status: u16) -> Reply {
        Reply::body(status, "hello")
    }

    pub fn body(status: u16, body: &str) -> Reply {
        let length = body.len();
        let text = format!("HTTP/1.1 {status} Said\r\ncontent-length: {length}\r\n\r\n{body}");
        Reply::Raw(text.into_bytes())
    }
}

impl TestServer {
    fn new(reply: Reply) -> TestServer {
        TestServer { state: Arc::new(Mutex::new(State { reply, asked: Vec::new() })) }
    }

    pub async fn tcp(reply: Reply) -> (TestServer, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = TestServer::new(reply);
        let serving = server.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        (server, address)
    }

    /// Also returns the certificate, as PEM, to trust.
    pub async fn tls(reply: Reply, alpn: &[&[u8]]) -> (TestServer, SocketAddr, String) {
        let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = TestServer::new(reply);
        let serving = server.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, serving) = (acceptor.clone(), serving.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serving.serve(stream).await;
                    }
                });
            }
        });
        (server, address, made.cert.pem())
    }

    pub fn unix(path: &std::path::Path, reply: Reply) -> TestServer {
        let listener = UnixListener::bind(path).unwrap();
        let server = TestServer::new(reply);
        let serving = server.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        server
    }

    pub fn set(&self, reply: Reply) {
        self.state.lock().unwrap().reply = reply;
    }

    /// The heads of the questions, as text in lower case.
    pub fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.clone()
    }

    fn remember(&self, head: &str) -> Reply {
        let mut state = self.state.lock().unwrap();
        state.asked.push(head.to_lowercase());
        state.reply.clone()
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let reply = self.state.lock().unwrap().reply.clone();
        match reply {
            Reply::Http2 { .. } => self.http2(stream).await,
            Reply::Raw(_) | Reply::Silence => self.http1(stream).await,
        }
    }

    async fn http1(self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        match self.remember(std::str::from_utf8(&head).unwrap()) {
            Reply::Raw(bytes) => {
                // The peer may have seen enough.
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
            }
            Reply::Silence | Reply::Http2 { .. } => {
                let _ = stream.read_u8().await;
            }
        }
    }

    async fn http2(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let Ok(mut connection) = h2::server::handshake(stream).await else { return };
        while let Some(Ok((mut request, respond))) = connection.accept().await {
            let server = self.clone();
            tokio::spawn(async move {
                let mut body = Vec::new();
                while let Some(Ok(data)) = request.body_mut().data().await {
                    body.extend_from_slice(&data);
                }
                server.answer(&request, &body, respond);
            });
        }
    }

    fn answer<T>(&self, request: &Request<T>, body: &[u8], mut respond: SendResponse<Bytes>) {
        let head =
            format!("{} {} {:?} {body:?}", request.method(), request.uri(), request.headers());
        let Reply::Http2 { status, grpc_status, body } = self.remember(&head) else { return };
        let mut head = Response::builder().status(status);
        if let GrpcStatus::Head(code) = grpc_status {
            head = head.header("grpc-status", code);
        }
        let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
        let trailers = match grpc_status {
            GrpcStatus::Trailers(code) => Some(HeaderMap::from_iter([(
                "grpc-status".parse().unwrap(),
                HeaderValue::from_static(code),
            )])),
            _ => None,
        };
        stream.send_data(Bytes::from(body), trailers.is_none()).unwrap();
        if let Some(trailers) = trailers {
            stream.send_trailers(trailers).unwrap();
        }
    }
}
