//! Which ports the edge listens on, checked before anything is started.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

use super::{DemoArgs, Failure};

/// Free when looked at. The edge binds them a moment later and reports it where somebody was
/// faster.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub http: u16,
    pub https: u16,
    pub admin: u16,
}

impl Ports {
    pub(super) fn choose(args: &DemoArgs) -> Result<Ports, Failure> {
        // All held at once, so that no port is given out twice.
        let http = probe(args.http_port, "--http-port")?;
        let https = probe(args.https_port, "--https-port")?;
        let admin = probe(args.admin_port, "--admin-port")?;
        let port = |listener: &TcpListener| {
            listener
                .local_addr()
                .map(|addr| addr.port())
                .map_err(|e| Failure::new("cannot read a bound port", e))
        };
        Ok(Ports { http: port(&http)?, https: port(&https)?, admin: port(&admin)? })
    }
}

fn probe(port: u16, flag: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|e| {
        let cause = match e.kind() {
            io::ErrorKind::AddrInUse => "is in use".to_owned(),
            io::ErrorKind::PermissionDenied => "needs more rights".to_owned(),
            _ => format!("cannot be bound ({e})"),
        };
        Failure(format!(
            "port {port} of 127.0.0.1 {cause}; choose another with {flag} (0: any free one)"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(http_port: u16, https_port: u16, admin_port: u16) -> DemoArgs {
        DemoArgs { http_port, https_port, admin_port, dir: None }
    }

    #[test]
    fn zero_gives_three_different_ports() {
        let ports = Ports::choose(&args(0, 0, 0)).unwrap();
        assert!(ports.http != 0 && ports.https != 0 && ports.admin != 0);
        assert!(ports.http != ports.https && ports.https != ports.admin);
        assert_ne!(ports.http, ports.admin);
    }

    #[test]
    fn a_taken_port_is_named_with_its_flag() {
        let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = holder.local_addr().unwrap().port();
        for (args, flag) in [
            (args(taken, 0, 0), "--http-port"),
            (args(0, taken, 0), "--https-port"),
            (args(0, 0, taken), "--admin-port"),
        ] {
            let message = Ports::choose(&args).unwrap_err().to_string();
            assert!(message.contains(flag) && message.contains(&taken.to_string()), "{message}");
        }
    }
}
