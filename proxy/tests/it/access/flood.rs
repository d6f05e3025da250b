//! Guesses by the hundred, while a customer is served.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use crate::harness::PATIENCE;

/// Guesses from this many addresses, each over connections to both workers.
const GUESSERS: usize = 8;

#[test]
fn a_known_customer_is_served_through_a_flood_of_guesses() {
    let backend = Backend::ok();
    let edge = Edge::start(&conf(&backend, &format!("basic_auth: \"{BOB}\"")).workers(2));
    let customer = format!("{}{}", from("203.0.113.1"), line("bob", "right"));
    ask(&mut edge.client(), "GET", "/", &customer).assert_ok("ok");
    let done = AtomicBool::new(false);
    let (served, told) = thread::scope(|scope| {
        let guessers: Vec<_> = (0..GUESSERS)
            .map(|guesser| {
                let (edge, done) = (&edge, &done);
                scope.spawn(move || guess(edge, guesser, done))
            })
            .collect();
        // So many connections that each worker has some.
        let mut clients: Vec<Client> = (0..6).map(|_| edge.client()).collect();
        clients.extend((0..6).map(|_| edge.tls_client(HOST)));
        let h2: Vec<H2> = (0..4).map(|_| H2::connect(&edge.tls(), HOST)).collect();
        let mut served = 0;
        // The flood must have begun, and been refused, while the customer is there.
        while served < 600 || edge.metric("edge_auth_decisions_total{result=\"busy\"}") < 1.0 {
            for client in &mut clients {
                ask(client, "GET", "/", &customer).assert_ok("ok");
            }
            for h2 in &h2 {
                assert_eq!(ask_h2(h2, "GET", "/", &customer).status, 200);
            }
            served += clients.len() + h2.len();
        }
        done.store(true, Ordering::SeqCst);
        let mut told: BTreeMap<u16, usize> = BTreeMap::new();
        for guesser in guessers {
            for status in guesser.join().unwrap() {
                *told.entry(status).or_default() += 1;
            }
        }
        (served, told)
    });
    assert_eq!(backend.requests().len(), served + 1, "a guess went through: {told:?}");
    assert!(told.keys().all(|status| [401, 429, 503].contains(status)), "{told:?}");
    assert!(told.contains_key(&503), "{told:?}");
}

/// What guesses of one address, several at once, come to.
fn guess(edge: &Edge, guesser: usize, done: &AtomicBool) -> Vec<u16> {
    let mut told = Vec::new();
    for n in 0.. {
        // A new address from time to time, as a botnet has them.
        let address = format!("192.0.2.{}", guesser + GUESSERS * (n / 6 % 30));
        let mut clients: Vec<Client> = (0..3).map(|_| edge.client()).collect();
        for client in &clients {
            // Guesses wait for each other, and a debug build on a busy machine hashes slowly.
            client.wire.stream.tcp().set_read_timeout(Some(6 * PATIENCE)).unwrap();
        }
        for (m, client) in clients.iter_mut().enumerate() {
            let guess = line("bob", &format!("{guesser} {n} {m}"));
            client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{}{guess}\r\n", from(&address)));
        }
        for client in &mut clients {
            let response = client.response();
            if matches!(response.status, 429 | 503) {
                assert!(response.header("retry-after").is_some(), "{response:?}");
            }
            told.push(response.status);
        }
        if done.load(Ordering::SeqCst) {
            break;
        }
    }
    told
}
