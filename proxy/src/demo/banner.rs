//! What the user sees first: hosts, commands that work as printed, what to edit, how to stop.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::folder::Folder;
use super::ports::Ports;

pub(super) struct Banner {
    ports: Ports,
    authority: PathBuf,
    config: PathBuf,
}

impl Banner {
    pub(super) fn new(folder: &Folder, ports: &Ports) -> Banner {
        Banner { ports: *ports, authority: folder.authority_path(), config: folder.config_path() }
    }

    /// Waits until the edge says that it is ready, then prints.
    pub(super) fn print_when_ready(self) {
        for _ in 0..READY_POLLS {
            if is_ready(self.ports.admin) {
                // A closed stdout is no reason to stop serving.
                let _ = io::stdout().lock().write_all(self.text().as_bytes());
                return;
            }
            std::thread::sleep(READY_INTERVAL);
        }
        eprintln!(
            "openclaw-edge demo: not ready after 30 s; http://127.0.0.1:{}/readyz says why",
            self.ports.admin
        );
    }

    fn text(&self) -> String {
        let Ports { http, https, admin } = self.ports;
        let config = self.config.display();
        let authority = self.authority.display();
        let mut text = format!(
            "\nopenclaw-edge demo: serving on https://127.0.0.1:{https} and \
             http://127.0.0.1:{http}\n\n"
        );
        for (host, backend, shows) in HOSTS {
            let url = format!("https://{host}:{https}/");
            let _ = writeln!(text, "  {url:<38} {backend:<12} {shows}");
        }
        let _ = writeln!(text, "\nTry (each works as it stands):");
        for (comment, command) in self.commands() {
            let _ = writeln!(text, "\n  # {comment}\n  {command}");
        }
        let _ = write!(
            text,
            "\nIn a browser:  https://app.localhost:{https}/  (import {authority}, or accept the \
             warning)\n\
             Edit me and watch the reload:  {config}\n\
             Admin:  http://127.0.0.1:{admin}/api/v1/config\n\
             Stop:   Ctrl-C; open streams have some seconds to end, a second Ctrl-C ends at \
             once\n\n"
        );
        text
    }

    /// Comment and command. Nothing in them needs a name server or a trusted authority.
    fn commands(&self) -> Vec<(&'static str, String)> {
        let Ports { http, https, admin } = self.ports;
        let authority = shell_word(&self.authority);
        let curl = |flags: &str, host: &str, rest: &str| {
            format!(
                "curl {flags}--cacert {authority} --resolve {host}:{https}:127.0.0.1 \
                 'https://{host}:{https}{rest}'"
            )
        };
        let upgrade = "-i -N --http1.1 --max-time 2 -H 'Connection: Upgrade' \
                       -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \
                       -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' ";
        vec![
            ("a page, over HTTP/2", curl("", "app.openclaw.example", "/")),
            (
                "what reached the backend: the fields that the edge adds",
                curl("-d '{\"hello\":1}' ", "api.openclaw.example", "/v1/users?limit=3"),
            ),
            (
                "a token stream, ten tokens a second",
                curl(
                    "-N -d '{\"stream\":true}' ",
                    "proxy.openclaw.example",
                    "/v1/chat/completions",
                ),
            ),
            (
                "a WebSocket: 101, then open until curl gives up after 2 s",
                curl(upgrade, "nango.openclaw.example", "/ws"),
            ),
            (
                "plain HTTP is redirected (308)",
                format!(
                    "curl -i --resolve app.openclaw.example:{http}:127.0.0.1 \
                     'http://app.openclaw.example:{http}/'"
                ),
            ),
            ("which routes are live", format!("curl 'http://127.0.0.1:{admin}/api/v1/routes'")),
            ("metrics", format!("curl 'http://127.0.0.1:{admin}/metrics'")),
        ]
    }
}

fn is_ready(admin_port: u16) -> bool {
    let ask = || -> io::Result<bool> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, admin_port));
        let mut stream = TcpStream::connect_timeout(&address, READY_TIMEOUT)?;
        stream.set_read_timeout(Some(READY_TIMEOUT))?;
        stream.set_write_timeout(Some(READY_TIMEOUT))?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
        Ok(answer.starts_with(b"HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}

/// As one word of a POSIX shell.
fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-');
    if text.bytes().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

const HOSTS: [(&str, &str, &str); 4] = [
    ("app.openclaw.example", "web", "a page with a live WebSocket and event stream"),
    ("api.openclaw.example", "api", "the request as the backend got it, as JSON"),
    ("proxy.openclaw.example", "token-proxy", "event streams: /v1/chat/completions, /stream"),
    ("nango.openclaw.example", "nango", "WebSocket echo at /ws"),
];

const READY_INTERVAL: Duration = Duration::from_millis(50);
const READY_POLLS: u32 = 600;
const READY_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of the answer that are read, at most.
const MAX_ANSWER: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn commands_name_the_chosen_ports_and_the_authority() {
        let banner = Banner {
            ports: Ports { http: 1, https: 2, admin: 3 },
            authority: PathBuf::from("/tmp/it's here/ca.pem"),
            config: PathBuf::from("/tmp/edge.yaml"),
        };
        let text = banner.text();
        for part in [
            r"--cacert '/tmp/it'\''s here/ca.pem' --resolve app.openclaw.example:2:127.0.0.1",
            "'https://api.openclaw.example:2/v1/users?limit=3'",
            "--resolve app.openclaw.example:1:127.0.0.1",
            "'http://127.0.0.1:3/metrics'",
            "/tmp/edge.yaml",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn ready_only_at_status_200() {
        for (answer, ready) in [("200 OK", true), ("503 Service Unavailable", false)] {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    head.push(byte[0]);
                }
                let text = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(text.as_bytes()).unwrap();
            });
            assert_eq!(is_ready(port), ready);
            server.join().unwrap();
            assert!(!is_ready(port), "nobody listens any more");
        }
    }
}
