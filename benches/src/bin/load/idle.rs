//! Memory of idle keep-alive connections: proportional set size before, with and after N of them.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use benches::server::Server;
use benches::{HOST, Result, http, net};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::tls;

const WARM_UP: usize = 10;

#[derive(Debug)]
pub struct Idle {
    /// KiB per connection, by difference.
    pub each_kib: f64,
    /// The same after all are closed: what is not given back.
    pub kept_kib: f64,
    /// MiB before, after the warm-up.
    pub rest_mib: f64,
}

/// `server` must be fresh: memory that an earlier load left behind would be reused and not seen.
pub fn measure(server: &Server, port: u16, over_tls: bool, count: usize) -> Result<Idle> {
    let client = over_tls.then(|| tls::client(false)).transpose()?;
    let address = net::loopback(port);
    let warm_up = open(address, client.as_ref(), WARM_UP)?;
    thread::sleep(Duration::from_millis(500));
    let before = server.pss_kib();
    let held = open(address, client.as_ref(), count)?;
    thread::sleep(Duration::from_secs(2));
    let during = server.pss_kib();
    drop(held);
    thread::sleep(Duration::from_secs(1));
    let after = server.pss_kib();
    drop(warm_up);
    #[allow(clippy::cast_precision_loss)]
    let each = |now: u64| (now as f64 - before as f64) / count as f64;
    #[allow(clippy::cast_precision_loss)]
    let rest_mib = before as f64 / 1024.0;
    Ok(Idle { each_kib: each(during), kept_kib: each(after), rest_mib })
}

#[allow(dead_code, reason = "held open, never used again")]
enum Connection {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// One after another, each with one GET answered.
fn open(
    address: SocketAddr,
    client: Option<&Arc<ClientConfig>>,
    count: usize,
) -> Result<Vec<Connection>> {
    let one = || {
        let mut socket = http::connect(address)?;
        let (connection, reply) = if let Some(client) = client {
            let session = ClientConnection::new(Arc::clone(client), tls::server_name()?)?;
            let mut stream = StreamOwned::new(session, socket);
            let reply = http::exchange(&mut stream, HOST, "/", "keep-alive")?;
            (Connection::Tls(Box::new(stream)), reply)
        } else {
            let reply = http::exchange(&mut socket, HOST, "/", "keep-alive")?;
            (Connection::Plain(socket), reply)
        };
        if reply.status != 200 {
            return Err(format!("answered {}", reply.status).into());
        }
        Ok(connection)
    };
    (0..count)
        .map(|i| one().map_err(|e: benches::Error| format!("connection {i}: {e}").into()))
        .collect()
}
