//! Tenants at the real binary: the platform's registry as it is, tenants that come, change and go,
//! entries that are refused, limits, ten thousand.

mod bad;
mod certificates;
mod changes;
mod limits;
mod many;
mod passing;
mod production;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::backend::ok;
use crate::harness::edge::replace;
use crate::harness::{Backend, Client, Conf, Edge, Lab, wait_until, ws};

/// The two templates of the platform.
const ROUTES: &str = "
    gateway: { hosts: [\"{tenant}.gw.openclaw.example\"], endpoint: \"{host}:{gateway_port}\" }
    bridge: { hosts: [\"{tenant}-bridge.gw.openclaw.example\"], endpoint: \"{host}:{bridge_port}\" }
";

/// One entry, with the fields of production.json that nobody asks for as well.
fn entry(tenant: &str, gateway: &Backend, bridge: &Backend) -> Value {
    json!({
        "id": format!("prd-tenant-{tenant}"),
        "host": "127.0.0.1",
        "user": "deploy",
        "port": 22,
        "container_prefix": tenant,
        "gateway_port": gateway.addr.port(),
        "bridge_port": bridge.addr.port(),
        "tenant": tenant,
        "region": "us-east",
    })
}

fn registry(entries: &[Value]) -> String {
    format!("{:#}", json!({ "servers": entries }))
}

/// A gateway and a bridge that say whose they are; what is no WebSocket is answered.
struct Tenant {
    name: String,
    gateway: Backend,
    bridge: Backend,
}

impl Tenant {
    fn new(name: &str) -> Tenant {
        let body = format!("bridge of {name}");
        let bridge = Backend::script(move |peer| {
            while peer.request().is_some() {
                peer.send(ok(&body));
            }
        });
        Tenant { name: name.to_owned(), gateway: Backend::script(ws::serve_echo), bridge }
    }

    fn entry(&self) -> Value {
        entry(&self.name, &self.gateway, &self.bridge)
    }

    fn host(&self) -> String {
        format!("{}.gw.openclaw.example", self.name)
    }

    fn bridge_host(&self) -> String {
        format!("{}-bridge.gw.openclaw.example", self.name)
    }

    fn is_served(&self, edge: &Edge) -> bool {
        edge.client().get(&self.bridge_host(), "/").text() == format!("bridge of {}", self.name)
    }

    /// A WebSocket to its gateway and a kept connection to its bridge, both in use.
    fn streams(&self, edge: &Edge) -> Streams {
        let mut socket = edge.client();
        ws::open(&mut socket, &self.host(), "/");
        let mut streams =
            Streams { socket, kept: edge.client(), name: self.name.clone(), turns: 0 };
        streams.go_on();
        streams
    }
}

/// Connections of one client that go on, each one TCP connection for good.
struct Streams {
    socket: Client,
    kept: Client,
    name: String,
    turns: usize,
}

impl Streams {
    #[track_caller]
    fn go_on(&mut self) {
        self.turns += 1;
        self.socket.ws_echo(&format!("turn {}", self.turns));
        let host = format!("{}-bridge.gw.openclaw.example", self.name);
        self.kept.get(&host, "/").assert_ok(&format!("bridge of {}", self.name));
    }
}

/// A lab with a registry.
fn lab(entries: &[Value]) -> Arc<Lab> {
    let lab = Lab::new();
    lab.write("production.json", registry(entries));
    lab
}

fn file(lab: &Lab) -> PathBuf {
    lab.path().join("production.json")
}

/// `tenants:` with further keys (one per line, indented by two) and these templates.
fn conf_with(lab: &Lab, keys: &str, routes: &str) -> Conf {
    let mut text = format!("tenants:\n  file: {}\n", file(lab).display());
    for key in keys.lines().map(str::trim).filter(|key| !key.is_empty()) {
        let _ = writeln!(text, "  {key}");
    }
    Conf::new(format!("{text}  routes:{routes}"))
}

fn conf(lab: &Lab) -> Conf {
    conf_with(lab, "", ROUTES)
}

fn start(tenants: &[&Tenant]) -> Edge {
    let lab = lab(&tenants.iter().map(|tenant| tenant.entry()).collect::<Vec<_>>());
    Edge::start_in(&lab, &conf(&lab))
}

/// Replaces the registry by rename, and returns the outcome.
fn write(edge: &Edge, entries: &[Value]) -> Value {
    edge.expect_reload(|| replace(&file(&edge.lab), &registry(entries)))
}

/// As `GET /api/v1/tenants` shows it.
fn shown(edge: &Edge, tenant: &str) -> Option<Value> {
    let all = edge.admin("/api/v1/tenants").json();
    let all = all["tenants"].as_array().unwrap().clone();
    all.into_iter().find(|one| one["name"] == tenant)
}

fn state(edge: &Edge, tenant: &str) -> String {
    let found = shown(edge, tenant).unwrap_or_else(|| panic!("no {tenant}"));
    found["state"].as_str().unwrap().to_owned()
}

/// Waits until so many WebSockets of this route were cut because it is gone. Who only waits for the
/// end of one cannot tell: its endpoint has no more patience than the test.
#[track_caller]
fn wait_cut(edge: &Edge, route: &str, count: usize) {
    let cut = |line: &&Value| {
        line["route"] == route && line["status"] == 101 && line["cause"] == "draining"
    };
    let all = || edge.access_log().iter().filter(cut).count();
    wait_until("streams of a removed route to be cut", || all() == count);
}

/// How many are good, refused, and served by a former version.
fn states(edge: &Edge) -> [f64; 3] {
    ["good", "refused", "former"]
        .map(|state| edge.metric(&format!("edge_tenants{{state=\"{state}\"}}")))
}
