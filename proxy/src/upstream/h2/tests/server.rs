//! An endpoint of crate `h2`, and requests to it.

use std::any::Any;
use std::cell::Cell;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpListener;

use crate::request::cause::Rejection;
use crate::upstream::h2::{Acquired, Wanted, acquire};
use crate::upstream::io::UpstreamIo;
use crate::upstream::tests::lab::Lab;

pub struct Server {
    pub address: SocketAddr,
    pub connections: Rc<Cell<usize>>,
}

/// Serves every stream with `answer`, as tasks of this thread.
pub async fn serve<F, A>(change: impl FnOnce(&mut Builder), answer: F) -> Server
where
    F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> A + Clone + 'static,
    A: Future<Output = ()> + 'static,
{
    let mut builder = Builder::new();
    change(&mut builder);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Rc::new(Cell::new(0));
    let counted = connections.clone();
    tokio::task::spawn_local(async move {
        loop {
            let (io, _) = listener.accept().await.unwrap();
            counted.set(counted.get() + 1);
            let (builder, answer) = (builder.clone(), answer.clone());
            tokio::task::spawn_local(async move {
                let Ok(mut connection) = builder.handshake::<_, Bytes>(io).await else { return };
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::task::spawn_local(answer(request, respond));
                }
            });
        }
    });
    Server { address, connections }
}

/// Answers 200 with this body.
pub fn respond(mut respond: SendResponse<Bytes>, body: &'static [u8]) {
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    stream.send_data(Bytes::from_static(body), true).unwrap();
}

/// The whole body of a request, and its trailers.
pub async fn received(mut body: RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    (all, body.trailers().await.unwrap())
}

/// What a request gets within 20 s.
pub async fn acquired(lab: &Lab, websocket: bool) -> Result<Acquired, Rejection> {
    let wanted = Wanted {
        local: &lab.local,
        endpoint: &lab.endpoint,
        transport: &lab.transport,
        source: None,
        websocket,
    };
    let timer = lab.timer(Duration::from_secs(20));
    acquire(&wanted, &timer, || Ok(Box::new(()) as Box<dyn Any>)).await
}

/// A stream.
pub async fn stream(lab: &Lab) -> UpstreamIo {
    match acquired(lab, false).await.unwrap() {
        Acquired::Stream { io, .. } => io,
        Acquired::Http1 => panic!("no stream"),
    }
}
