//! The cases: what is asked of every peer, by which generator, and the goal.

use benches::HOST;
use benches::edge::ALL_HOST;
use serde::Serialize;

use crate::handshake::Mode;

#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub id: &'static str,
    pub what: &'static str,
    pub load: Load,
    pub goal: Option<Goal>,
}

#[derive(Clone, Copy, Debug)]
pub enum Load {
    Wrk {
        connections: u32,
        tls: bool,
        path: &'static str,
        host: &'static str,
        fields: &'static [&'static str],
    },
    H2load {
        options: &'static [&'static str],
        path: &'static str,
        fields: &'static [&'static str],
    },
    Handshake(Mode),
    Idle {
        tls: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Ratio to the reference peer.
    Ratio(f64),
    /// KiB per connection.
    Kib(f64),
}

/// `idle` on the command line names both idle cases.
pub fn select(list: &str) -> benches::Result<Vec<Case>> {
    let mut chosen = Vec::new();
    for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let before = chosen.len();
        let idle = |case: &Case| word == "idle" && matches!(case.load, Load::Idle { .. });
        chosen.extend(ALL.iter().filter(|case| case.id == word || idle(case)).copied());
        if chosen.len() == before {
            let known: Vec<_> = ALL.iter().map(|case| case.id).collect();
            return Err(format!("no case {word:?}; known: {}, idle", known.join(", ")).into());
        }
    }
    Ok(chosen)
}

impl Case {
    /// The generator's command for ports `plain` and `tls`; empty for the idle cases, which this
    /// process does itself. `own` is the path of this program.
    pub fn argv(&self, own: &str, plain: &str, tls: &str, seconds: u64) -> Vec<String> {
        let words: Vec<String> = match self.load {
            Load::Wrk { connections, tls: over_tls, path, host, .. } => {
                let scheme = if over_tls { "https" } else { "http" };
                let port = if over_tls { tls } else { plain };
                vec![
                    "wrk".into(),
                    "-t1".into(),
                    format!("-c{connections}"),
                    format!("-d{seconds}s"),
                    "--latency".into(),
                    format!("-HHost: {host}"),
                    format!("{scheme}://127.0.0.1:{port}{path}"),
                ]
            }
            Load::H2load { options, path, .. } => ["h2load", "-t1"]
                .into_iter()
                .chain(options.iter().copied())
                .map(str::to_owned)
                .chain([
                    "-D".into(),
                    seconds.to_string(),
                    format!("--connect-to=127.0.0.1:{tls}"),
                    format!("https://{HOST}{path}"),
                ])
                .collect(),
            Load::Handshake(mode) => vec![
                own.into(),
                "handshake".into(),
                format!("127.0.0.1:{tls}"),
                format!("--mode={}", format!("{mode:?}").to_lowercase()),
                format!("--seconds={seconds}"),
            ],
            Load::Idle { .. } => Vec::new(),
        };
        // The URL stays last.
        let (url, start) = words.split_last().map_or((None, &[][..]), |(u, s)| (Some(u), s));
        let fields = self.fields().iter().map(|field| format!("-H{field}"));
        start.iter().cloned().chain(fields).chain(url.cloned()).collect()
    }

    /// The bytes of its request, for a generator of our own; `None` where it is not HTTP/1.1.
    pub fn request(&self) -> Option<String> {
        let Load::Wrk { path, host, fields, .. } = self.load else { return None };
        let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        Some(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"))
    }

    fn fields(&self) -> &'static [&'static str] {
        match self.load {
            Load::Wrk { fields, .. } | Load::H2load { fields, .. } => fields,
            Load::Handshake(_) | Load::Idle { .. } => &[],
        }
    }

    /// Whether it asks for the host that has every policy.
    pub fn all_on(&self) -> bool {
        matches!(self.load, Load::Wrk { host: ALL_HOST, .. })
    }

    pub fn unit(&self) -> &'static str {
        match self.load {
            Load::Idle { .. } => "KiB/connection",
            _ => "µs CPU/request",
        }
    }
}

const fn wrk(connections: u32, tls: bool, path: &'static str) -> Load {
    Load::Wrk { connections, tls, path, host: HOST, fields: &[] }
}

const fn with_fields(host: &'static str, fields: &'static [&'static str]) -> Load {
    Load::Wrk { connections: 64, tls: false, path: "/", host, fields }
}

const H2: &[&str] = &["-c32", "-m10"];
const H2_LARGE: &[&str] = &["-c8", "-m1", "-w20", "-W24"];

pub const ALL: &[Case] = &[
    Case {
        id: "a",
        what: "HTTP/1.1 plain, 128 B",
        load: wrk(64, false, "/"),
        goal: Some(Goal::Ratio(0.75)),
    },
    Case {
        id: "a2",
        what: "a with browser heads",
        load: with_fields(HOST, BROWSER),
        goal: Some(Goal::Ratio(0.75)),
    },
    Case {
        id: "an",
        what: "a with the fields of al",
        load: with_fields(HOST, CREDENTIAL),
        goal: None,
    },
    Case {
        id: "al",
        what: "an with limits, access, CORS, headers",
        load: with_fields(ALL_HOST, CREDENTIAL),
        goal: None,
    },
    Case {
        id: "b",
        what: "HTTP/1.1 over TLS 1.3, 128 B",
        load: wrk(64, true, "/"),
        goal: Some(Goal::Ratio(0.65)),
    },
    Case {
        id: "c",
        what: "HTTP/2 over TLS, 128 B",
        load: Load::H2load { options: H2, path: "/", fields: &[] },
        goal: Some(Goal::Ratio(0.65)),
    },
    Case {
        id: "c2",
        what: "c with browser heads",
        load: Load::H2load { options: H2, path: "/", fields: BROWSER },
        goal: None,
    },
    Case {
        id: "d",
        what: "connection + full ECDSA handshake + request",
        load: Load::Handshake(Mode::Full),
        goal: Some(Goal::Ratio(0.45)),
    },
    Case {
        id: "dr",
        what: "d, resumed",
        load: Load::Handshake(Mode::Resumed),
        goal: Some(Goal::Ratio(0.50)),
    },
    Case { id: "dn", what: "d without the request", load: Load::Handshake(Mode::Bare), goal: None },
    Case {
        id: "ep",
        what: "1 MiB body, plain",
        load: wrk(8, false, "/1m"),
        goal: Some(Goal::Ratio(0.45)),
    },
    Case {
        id: "et",
        what: "1 MiB body, TLS",
        load: wrk(8, true, "/1m"),
        goal: Some(Goal::Ratio(0.70)),
    },
    Case {
        id: "eh2",
        what: "1 MiB body, HTTP/2",
        load: Load::H2load { options: H2_LARGE, path: "/1m", fields: &[] },
        goal: None,
    },
    Case { id: "k64", what: "64 KiB body, plain", load: wrk(16, false, "/64k"), goal: None },
    Case { id: "k64t", what: "64 KiB body, TLS", load: wrk(16, true, "/64k"), goal: None },
    Case {
        id: "idle-plain",
        what: "idle keep-alive connection, plain",
        load: Load::Idle { tls: false },
        goal: Some(Goal::Kib(6.0)),
    },
    Case {
        id: "idle-tls",
        what: "idle keep-alive connection, TLS",
        load: Load::Idle { tls: true },
        goal: Some(Goal::Kib(12.0)),
    },
];

/// What a browser sends besides Host: 10 fields, 449 bytes with their line ends.
const BROWSER: &[&str] = &[
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language: en-GB,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Cookie: sid=0f9a4c1e7b2d8835a6c0e1f4927db36a; theme=dark; region=europe",
    "Upgrade-Insecure-Requests: 1",
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: none",
    "Priority: u=0, i",
];

/// What limits by credential and CORS look at.
const CREDENTIAL: &[&str] = &[
    "Authorization: Bearer 7d1f0c2be94a4b7e8c3355d0a1f6e2b9",
    "Origin: https://app.openclaw.example",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browser_heads_have_the_size_of_the_method() {
        let bytes: usize = BROWSER.iter().map(|field| field.len() + 2).sum();
        assert_eq!((BROWSER.len(), bytes), (10, 449));
    }

    #[test]
    fn lists_select_in_order_and_refuse_the_unknown() {
        let ids = |list| -> Vec<_> { select(list).unwrap().iter().map(|c| c.id).collect() };
        assert_eq!(ids("b, a,idle"), ["b", "a", "idle-plain", "idle-tls"]);
        assert!(select("a,zz").unwrap_err().to_string().contains("zz"));
    }

    #[test]
    fn commands_are_those_of_the_method() {
        let line = |id| select(id).unwrap()[0].argv("load", "P", "T", 2).join(" ");
        assert_eq!(
            line("a"),
            "wrk -t1 -c64 -d2s --latency -HHost: app.openclaw.example http://127.0.0.1:P/"
        );
        assert!(line("a2").ends_with("-HPriority: u=0, i http://127.0.0.1:P/"));
        let al = line("al");
        assert!(al.contains("-HHost: all.openclaw.example -HAuthorization: Bearer"), "{al}");
        assert_eq!(al.replace("all.", "app."), line("an"));
        assert!(line("et").ends_with("https://127.0.0.1:T/1m"));
        assert_eq!(
            line("c"),
            "h2load -t1 -c32 -m10 -D 2 --connect-to=127.0.0.1:T https://app.openclaw.example/"
        );
        assert_eq!(line("dr"), "load handshake 127.0.0.1:T --mode=resumed --seconds=2");
        assert_eq!(line("idle"), "");
    }

    #[test]
    fn the_requests_of_al_and_an_differ_in_the_host_only() {
        let request = |id| select(id).unwrap()[0].request();
        let an = request("an").unwrap();
        assert!(an.starts_with("GET / HTTP/1.1\r\nHost: app.openclaw.example\r\nAuthorization: "));
        assert!(an.ends_with("\r\nOrigin: https://app.openclaw.example\r\n\r\n"));
        assert_eq!(request("al").unwrap(), an.replace("Host: app.", "Host: all."));
        assert_eq!(request("c"), None);
    }
}
