//! gRPC by tonic, both ends, without protoc: messages derived by hand, a service `test.Echo` on
//! tonic's server codec, a client on tonic's channel.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::uri::PathAndQuery;
use hyper::body::Incoming;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::body::Body;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::PATIENCE;

#[derive(Clone, PartialEq, prost::Message)]
pub struct Text {
    #[prost(string, tag = "1")]
    pub text: String,
    #[prost(uint32, tag = "2")]
    pub number: u32,
}

impl Text {
    pub fn new(text: &str, number: u32) -> Text {
        Text { text: text.to_owned(), number }
    }
}

type Codec = ProstCodec<Text, Text>;
type Answer<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;
type Messages = Pin<Box<dyn Stream<Item = Result<Text, Status>> + Send>>;

/// What the service has seen.
#[derive(Default)]
pub struct Calls {
    pub begun: AtomicUsize,
    /// Calls that were dropped before their answer.
    pub cancelled: AtomicUsize,
}

/// `test.Echo`, one method a kind of call:
/// `Unary` answers its message, with `x-call` as metadata and `x-done` as trailer;
/// `Count` streams as many messages as the number says; `Sum` adds up what is streamed to it;
/// `Chat` answers each message as it comes; `Hang` never answers; `Fail` fails with its text.
pub async fn serve(calls: Arc<Calls>, request: http::Request<Incoming>) -> http::Response<Body> {
    calls.begun.fetch_add(1, Ordering::SeqCst);
    let mut grpc = tonic::server::Grpc::new(Codec::default());
    match request.uri().path() {
        "/test.Echo/Unary" => grpc.unary(service_fn(unary), request).await,
        "/test.Echo/Count" => grpc.server_streaming(service_fn(count), request).await,
        "/test.Echo/Sum" => grpc.client_streaming(service_fn(sum), request).await,
        "/test.Echo/Chat" => grpc.streaming(service_fn(chat), request).await,
        "/test.Echo/Fail" => grpc.unary(service_fn(fail), request).await,
        "/test.Echo/Hang" => {
            let hang = move |_: Request<Text>| hang(calls.clone());
            grpc.unary(service_fn(hang), request).await
        }
        _ => Status::unimplemented("no such method").into_http(),
    }
}

fn unary(request: Request<Text>) -> Answer<Text> {
    Box::pin(async move {
        let mut response = Response::new(Text::default());
        if let Some(value) = request.metadata().get("x-call") {
            response.metadata_mut().insert("x-call", value.clone());
        }
        *response.get_mut() = request.into_inner();
        Ok(response)
    })
}

fn count(request: Request<Text>) -> Answer<Messages> {
    Box::pin(async move {
        let Text { text, number } = request.into_inner();
        let all = (1..=number).map(move |n| Ok(Text::new(&text, n)));
        Ok(Response::new(Box::pin(tokio_stream::iter(all)) as Messages))
    })
}

fn sum(request: Request<Streaming<Text>>) -> Answer<Text> {
    Box::pin(async move {
        let mut messages = request.into_inner();
        let mut sum = Text::default();
        while let Some(message) = messages.try_next().await? {
            sum.number += message.number;
            sum.text += &message.text;
        }
        Ok(Response::new(sum))
    })
}

fn chat(request: Request<Streaming<Text>>) -> Answer<Messages> {
    Box::pin(async move {
        let answers = request.into_inner().map(|message| {
            let message = message?;
            if message.text == "fail" {
                return Err(Status::new(Code::DataLoss, "as asked, in the middle"));
            }
            Ok(Text::new(&message.text.to_uppercase(), message.number))
        });
        Ok(Response::new(Box::pin(answers) as Messages))
    })
}

fn fail(request: Request<Text>) -> Answer<Text> {
    Box::pin(async move {
        let Text { text, number } = request.into_inner();
        let mut status = Status::new(Code::from(number.cast_signed()), text);
        status.metadata_mut().insert("x-detail", "told".parse().unwrap());
        Err(status)
    })
}

fn hang(calls: Arc<Calls>) -> Answer<Text> {
    struct Guard(Arc<Calls>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.cancelled.fetch_add(1, Ordering::SeqCst);
        }
    }
    Box::pin(async move {
        let _guard = Guard(calls);
        std::future::pending().await
    })
}

/// A client over TLS to the edge, and the runtime that drives it.
pub struct Grpc {
    runtime: tokio::runtime::Runtime,
    client: tonic::client::Grpc<Channel>,
}

impl Grpc {
    pub fn connect(https: SocketAddr, ca: &Path, host: &str) -> Grpc {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let ca = Certificate::from_pem(std::fs::read(ca).unwrap());
        let tls = ClientTlsConfig::new().ca_certificate(ca).domain_name(host);
        let endpoint = Endpoint::from_shared(format!("https://{https}")).unwrap();
        let origin = format!("https://{host}").parse().unwrap();
        let endpoint = endpoint.origin(origin).tls_config(tls).unwrap();
        let channel = runtime.block_on(async {
            tokio::time::timeout(PATIENCE, endpoint.connect()).await.expect("in time").unwrap()
        });
        Grpc { runtime, client: tonic::client::Grpc::new(channel) }
    }

    fn block<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, future).await.expect("waited in vain on gRPC")
        })
    }

    pub fn unary(&self, method: &str, request: Request<Text>) -> Result<Response<Text>, Status> {
        let mut client = self.client.clone();
        self.block(async move {
            client.ready().await.unwrap();
            client.unary(request, path(method), Codec::default()).await
        })
    }

    /// All messages, and the status at the end.
    pub fn count(&self, text: &str, number: u32) -> Result<Vec<Text>, Status> {
        let mut client = self.client.clone();
        let request = Request::new(Text::new(text, number));
        self.block(async move {
            client.ready().await.unwrap();
            let answer = client.server_streaming(request, path("Count"), Codec::default()).await?;
            all(answer.into_inner()).await
        })
    }

    pub fn sum(&self, messages: Vec<Text>) -> Result<Text, Status> {
        let mut client = self.client.clone();
        self.block(async move {
            client.ready().await.unwrap();
            let request = Request::new(tokio_stream::iter(messages));
            let answer = client.client_streaming(request, path("Sum"), Codec::default()).await?;
            Ok(answer.into_inner())
        })
    }

    /// Sends each message only when the answer to the one before has come.
    pub fn chat(&self, messages: &[Text]) -> Result<Vec<Text>, Status> {
        let mut client = self.client.clone();
        self.block(async move {
            client.ready().await.unwrap();
            let (send, receive) = tokio::sync::mpsc::channel(1);
            let mut next = messages.iter().cloned();
            send.send(next.next().unwrap()).await.unwrap();
            let request = Request::new(ReceiverStream::new(receive));
            let answer = client.streaming(request, path("Chat"), Codec::default()).await?;
            let (mut answers, mut send) = (answer.into_inner(), Some(send));
            let mut got = Vec::new();
            while let Some(answer) = answers.message().await? {
                got.push(answer);
                match next.next() {
                    Some(message) => send.as_ref().unwrap().send(message).await.unwrap(),
                    None => drop(send.take()),
                }
            }
            Ok(got)
        })
    }

    /// A call that its caller gives up after `wait`.
    pub fn give_up(&self, method: &str, wait: Duration) {
        let mut client = self.client.clone();
        self.block(async move {
            client.ready().await.unwrap();
            let request = Request::new(Text::default());
            let call = client.unary::<Text, Text, _>(request, path(method), Codec::default());
            assert!(tokio::time::timeout(wait, call).await.is_err(), "it answered");
        });
    }
}

async fn all(mut answers: Streaming<Text>) -> Result<Vec<Text>, Status> {
    let mut got = Vec::new();
    while let Some(answer) = answers.message().await? {
        got.push(answer);
    }
    Ok(got)
}

fn path(method: &str) -> PathAndQuery {
    format!("/test.Echo/{method}").parse().unwrap()
}
