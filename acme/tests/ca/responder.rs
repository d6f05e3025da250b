//! What answers HTTP-01 in place of the proxy: tokens and their key authorizations.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use acme::ca::Offer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PREFIX: &str = "/.well-known/acme-challenge/";

type Tokens = Arc<Mutex<HashMap<String, String>>>;

pub struct Responder {
    pub port: u16,
    tokens: Tokens,
}

impl Responder {
    pub async fn start() -> Responder {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tokens = Tokens::default();
        let shared = tokens.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, shared.clone()));
            }
        });
        Responder { port, tokens }
    }

    pub fn offer(&self, offer: &Offer) {
        let mut tokens = self.tokens.lock().unwrap();
        tokens.insert(offer.token.clone(), offer.key_authorization.clone());
    }
}

async fn answer(mut stream: TcpStream, tokens: Tokens) {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let found = path.strip_prefix(PREFIX).and_then(|token| {
        let tokens = tokens.lock().unwrap();
        tokens.get(token).cloned()
    });
    let (status, body) = match found {
        Some(body) => ("200 OK", body),
        None => ("404 Not Found", "no such token here".to_owned()),
    };
    let length = body.len();
    let reply =
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    let _ = stream.write_all(reply.as_bytes()).await;
}
