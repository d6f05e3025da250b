//! Renewal beside traffic.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::*;
use crate::harness::acme::pebble::Options;
use crate::harness::h2c::{H2, get};
use crate::harness::{Client, ws};

/// More certificates than anybody would want.
const MANY: &str = "limits: { certificates_per_hour: 1000, certificates_per_week: 1000 }";

/// Seconds. Renewed at half of it; the other half is there for a machine that is busy.
const LIFE: u64 = 24;

#[test]
fn certificates_are_renewed_under_load() {
    let stage = Stage::new();
    let (http, https) = (stage.http.number(), stage.https.number());
    let pebble = Pebble::with(Options { lifetime: LIFE, ..Options::at(http, https) });
    let echo = Backend::script(ws::serve_echo);
    let conf = stage.here(Conf::new(format!(
        "upstreams:\n  app: {{ endpoints: [\"{}\"] }}\n  echo: {{ endpoints: [\"{}\"] }}\n\
         routes:\n  app: {{ hosts: [{APP}], upstream: app }}\n  \
         ws: {{ hosts: [{APP}], path: /ws, upstream: echo }}\n",
        stage.backend.addr, echo.addr
    )));
    let edge = stage.start(&ordering(conf, &pebble, MANY));
    let trusted = pebble.trusted(edge.https).without_resumption();
    let first = wait_trusted(&edge, &trusted, &[APP]).remove(0);

    let mut open = trusted.connect(APP);
    open.get(APP, "/").assert_ok("ok");
    let open_h2 = H2::connect(&trusted, APP);
    assert_eq!(open_h2.get(&url()).status, 200);
    let mut socket = trusted.connect(APP);
    ws::open(&mut socket, APP, "/ws");
    socket.ws_echo("before");

    let load = Load::default();
    let resuming = pebble.trusted(edge.https);
    thread::scope(|scope| {
        scope.spawn(|| load.of_handshakes(&trusted));
        scope.spawn(|| load.of_handshakes(&resuming));
        scope.spawn(|| load.of_one_connection(&trusted));
        scope.spawn(|| load.of_streams(&trusted));
        let renewed = in_time("a renewed certificate", &edge, || {
            socket.ws_echo("meanwhile");
            let shown = trusted.try_connect(APP).ok()?.leaf();
            (shown != first).then_some(shown)
        });
        assert_eq!(names(&renewed), [APP]);
        load.wait_more();
        load.stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(load.failed.load(Ordering::SeqCst), 0);
    // They were opened under the former certificate and have not noticed.
    assert_eq!(open.leaf(), first);
    open.get(APP, "/").assert_ok("ok");
    assert_eq!(open_h2.get(&url()).status, 200);
    socket.ws_echo("after");
    assert_eq!(edge.metric("edge_acme_orders_total{result=\"issued\"}"), pebble.issued() as f64);
}

fn url() -> String {
    format!("https://{APP}/")
}

/// Requests of every kind until told to stop, and those that failed.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    done: AtomicUsize,
    failed: AtomicUsize,
}

impl Load {
    fn of_handshakes(&self, tls: &Tls) {
        self.repeat(|| tls.try_connect(APP).ok().is_some_and(|mut client| asked(&mut client)));
    }

    fn of_one_connection(&self, tls: &Tls) {
        let mut client = tls.connect(APP);
        self.repeat(|| asked(&mut client));
    }

    fn of_streams(&self, tls: &Tls) {
        let h2 = H2::connect(tls, APP);
        self.repeat(|| {
            h2.exchange(get(&url()), b"")
                .is_ok_and(|answer| answer.status == 200 && answer.error.is_none())
        });
    }

    fn repeat(&self, mut one: impl FnMut() -> bool) {
        while !self.stop.load(Ordering::SeqCst) {
            if !one() {
                self.failed.fetch_add(1, Ordering::SeqCst);
            }
            self.done.fetch_add(1, Ordering::SeqCst);
            // Enough to be beside every moment of a renewal, and the other tests live here too.
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn wait_more(&self) {
        let before = self.done.load(Ordering::SeqCst);
        crate::harness::wait_until("more requests", || {
            self.done.load(Ordering::SeqCst) > before + 40
        });
    }
}

fn asked(client: &mut Client) -> bool {
    client.send(format!("GET / HTTP/1.1\r\nHost: {APP}\r\n\r\n"));
    client.response_to("GET").is_ok_and(|answer| answer.status == 200 && answer.text() == "ok")
}
