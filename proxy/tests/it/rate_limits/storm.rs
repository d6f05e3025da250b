//! Streams that come and go on both workers and both protocols at once: the places are never more
//! than there are and never fewer afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use h2::Reason;

use super::{HOST, limited};
use crate::harness::h2c::{H2, get as h2_get};
use crate::harness::{Backend, Client, Conf, Edge, Tls, eventually, wait_until};

const PLACES: usize = 5;
const HELD: Duration = Duration::from_millis(3);
const OPEN: &str = "edge_rate_limit_streams";

/// Of what its clients saw.
#[derive(Default)]
struct Tally {
    open: AtomicUsize,
    most: AtomicUsize,
    begun: AtomicUsize,
    refused: AtomicUsize,
}

impl Tally {
    fn enter(&self) {
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(open, Ordering::SeqCst);
        self.begun.fetch_add(1, Ordering::SeqCst);
    }

    /// Before the stream is given up, so that the count is never above what is open.
    fn leave(&self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    fn took(&self, status: u16) -> bool {
        match status {
            200 => self.enter(),
            429 => _ = self.refused.fetch_add(1, Ordering::SeqCst),
            other => panic!("{other}"),
        }
        status == 200
    }
}

#[test]
fn places_are_exact_in_a_storm() {
    let backend = Backend::once(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
         9\r\ndata: 1\n\n\r\n",
    );
    let limit = format!("{{ name: few, key: client_ip, concurrent: {PLACES} }}");
    let edge = Edge::start(&limited(&backend, &limit).workers(2));
    let tally = Arc::new(Tally::default());
    let end = Instant::now() + Duration::from_secs(3);
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let (tally, http, tls) = (tally.clone(), edge.http, edge.tls());
            thread::spawn(move || match n % 2 {
                0 => h1(http, &tally, end, n == 2),
                _ => h2(&tls, &tally, end),
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let of = |count: &AtomicUsize| count.load(Ordering::SeqCst);
    let (begun, refused, most) = (of(&tally.begun), of(&tally.refused), of(&tally.most));
    assert!(begun > 50 && refused > 20, "{begun} streams, {refused} refusals");
    assert!(most <= PLACES, "{most} at once");
    wait_until("all places to come back", || edge.metric(OPEN) == 0.0);

    let open = || {
        let mut client = edge.client();
        client.send(request());
        (client.wire.head().unwrap().status() == 200).then_some(client)
    };
    let taken: Vec<Client> = (0..PLACES).map(|_| open().expect("a place")).collect();
    assert!(open().is_none(), "one more than there are");
    drop(taken);
    let refusals = edge.metric("edge_rate_limit_decisions_total{decision=\"refused\"}");
    assert_eq!(refusals, (refused + 1) as f64);
    eventually("no stream at the backend", || (backend.open() == 0).then_some(()));
}

fn request() -> String {
    format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")
}

fn h1(http: std::net::SocketAddr, tally: &Tally, end: Instant, reset: bool) {
    while Instant::now() < end {
        let mut client = Client::plain(http);
        client.send(request());
        if tally.took(client.wire.head().unwrap().status()) {
            thread::sleep(HELD);
            tally.leave();
        }
        if reset {
            client.wire.reset_on_close();
        }
    }
}

fn h2(tls: &Tls, tally: &Tally, end: Instant) {
    let client = H2::connect(tls, HOST);
    while Instant::now() < end {
        let (response, mut send) = client.open(h2_get(&format!("https://{HOST}/")), true);
        let response = client.block(response).unwrap();
        if tally.took(response.status().as_u16()) {
            client.run_for(HELD);
            tally.leave();
            send.send_reset(Reason::CANCEL);
        }
        drop(response);
        client.run_for(Duration::from_millis(1));
    }
}

/// Who has the whole answer can ask again at once, wherever the next request ends up.
#[test]
fn one_after_the_other_is_one_at_a_time_on_all_workers() {
    let backend = Backend::ok();
    let limits = "rate_limits: [{ name: few, key: client_ip, concurrent: 1 }]";
    let addr = backend.addr;
    let edge = Edge::start(
        &Conf::new(format!(
            "upstreams:\n  app: {{ endpoints: [\"{addr}\"] }}\nroutes:\n  \
             app: {{ hosts: [{HOST}], upstream: app, {limits} }}\n  \
             own: {{ hosts: [{HOST}], path: /own, respond: {{ status: 200, body: ok }}, {limits} }}\n"
        ))
        .workers(2),
    );
    let mut clients: Vec<Client> = (0..8).map(|_| edge.client()).collect();
    clients.extend((0..8).map(|_| edge.tls_client(HOST)));
    let h2s: Vec<H2> = (0..8).map(|_| H2::connect(&edge.tls(), HOST)).collect();
    let mut refused = [0; 3];
    for n in 0..1000 {
        for (path, refused) in ["/", "/own"].into_iter().zip(&mut refused) {
            *refused += usize::from(clients[n % 16].get(HOST, path).status != 200);
        }
        let url = format!("https://{HOST}/");
        refused[2] += usize::from(h2s[n % 8].get(&url).status != 200);
    }
    assert_eq!(refused, [0; 3], "forwarded on HTTP/1.1, own on HTTP/1.1, on HTTP/2");
}
