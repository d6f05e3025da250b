//! Editions of a config file: routes and upstreams come, change and go around one route that stays.

use std::fmt::Write as _;
use std::path::PathBuf;

use aws_lc_rs::digest;
use benches::HOST;
use benches::edge::{Identity, Ports};

use crate::pattern::Random;

pub struct Churn {
    base: Base,
    random: Random,
    /// What each churning route is; `None`: it is not there.
    routes: Vec<Option<u64>>,
    upstreams: [u64; UPSTREAMS],
    head_fields: u64,
    number: u64,
}

/// What never changes.
pub struct Base {
    pub dir: PathBuf,
    pub ports: Ports,
    pub identity: Identity,
    pub backend: u16,
}

/// One content of the file, and what the edge must make of it.
pub struct Edition {
    pub text: String,
    pub kind: Kind,
    /// Names of the routes that serve; empty where the whole file is refused.
    pub routes: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Good,
    /// One entry is bad.
    Quarantine,
    /// The whole file is refused.
    Broken,
}

impl Churn {
    pub fn new(base: Base, seed: u64) -> Self {
        let routes = (0..ROUTES).map(|n| (n % 2 == 0).then_some(0)).collect();
        let random = Random::new(seed);
        Self { base, random, routes, upstreams: [0; UPSTREAMS], head_fields: 100, number: 0 }
    }

    /// One of 10 has a bad entry, one of 25 cannot be parsed.
    pub fn next(&mut self) -> Edition {
        let broken = self.random.one_in(25);
        let bad = self.random.one_in(10);
        let kind = match (broken, bad) {
            (true, _) => Kind::Broken,
            (false, true) => Kind::Quarantine,
            (false, false) => Kind::Good,
        };
        self.edition(kind)
    }

    /// An edition of this kind, different from all before it.
    pub fn edition(&mut self, kind: Kind) -> Edition {
        self.number += 1;
        self.change();
        let mut text = self.head();
        let mut routes = vec!["app".to_owned()];
        for (number, variant) in self.routes.iter().enumerate() {
            let Some(variant) = variant else { continue };
            let name = format!("r{number}");
            let _ = writeln!(text, "  {name}: {}", route(number, *variant));
            routes.push(name);
        }
        if kind == Kind::Quarantine {
            // Never seen before, so that no former version serves under its name.
            let bad = BAD.get(self.random.index(BAD.len())).copied().unwrap_or_default();
            let _ = writeln!(text, "  bad{}: {bad}", self.number);
        }
        if kind == Kind::Broken {
            text.push_str("  [ this: is not, YAML\n");
            routes.clear();
        }
        // Last, so that a half-written file lacks it.
        let _ = writeln!(text, "  app: {{ hosts: [{HOST}], upstream: backend }}");
        routes.sort();
        Edition { text, kind, routes }
    }

    /// One to three of: a route added, removed, changed; an upstream changed; a listener's limit.
    fn change(&mut self) {
        for _ in 0..=self.random.below(3) {
            let variant = self.number;
            let at = self.random.index(ROUTES);
            match self.random.below(10) {
                0 => self.head_fields = 90 + self.random.below(11),
                1 | 2 => {
                    let at = self.random.index(UPSTREAMS);
                    if let Some(upstream) = self.upstreams.get_mut(at) {
                        *upstream = variant;
                    }
                }
                3..=5 => self.set(at, None),
                _ => self.set(at, Some(variant)),
            }
        }
    }

    fn set(&mut self, at: usize, variant: Option<u64>) {
        if let Some(route) = self.routes.get_mut(at) {
            *route = variant;
        }
    }

    fn head(&self) -> String {
        let Base { dir, ports, identity, backend } = &self.base;
        let Ports { plain, tls, admin } = ports;
        let dir = dir.display();
        let mut text = format!(
            "# edition {number}\nversion: 1\nworkers: 2\nstate_dir: {dir}/state\n\
             admin: {{ listen: \"127.0.0.1:{admin}\", socket: {dir}/admin.sock }}\n\
             log: {{ access: json }}\nlisteners:\n  \
             plain: {{ bind: [\"127.0.0.1:{plain}\"], limits: {{ head_fields: {fields} }} }}\n  \
             tls: {{ bind: [\"127.0.0.1:{tls}\"], tls: {{ default_certificate: bench }}, \
             limits: {{ head_fields: {fields} }} }}\n\
             certificates:\n  bench: {{ chain: {chain}, key: {key} }}\n\
             upstreams:\n  backend: {{ endpoints: [\"127.0.0.1:{backend}\"] }}\n",
            number = self.number,
            fields = self.head_fields,
            chain = identity.chain.display(),
            key = identity.key.display(),
        );
        for (number, variant) in self.upstreams.iter().enumerate() {
            let seconds = 1 + variant % 30;
            let _ = writeln!(
                text,
                "  u{number}: {{ endpoints: [\"127.0.0.1:{backend}\"], \
                 timeouts: {{ first_byte: {seconds}s }} }}"
            );
        }
        text.push_str("routes:\n");
        text
    }
}

fn route(number: usize, variant: u64) -> String {
    let upstream = variant % UPSTREAMS as u64;
    match variant % 3 {
        0 => format!("{{ hosts: [h{number}.{HOST}], upstream: u{upstream} }}"),
        1 => {
            format!("{{ hosts: [h{number}.{HOST}], respond: {{ status: 200, body: v{variant} }} }}")
        }
        // Beside the route that stays, on its own host.
        _ => format!("{{ hosts: [{HOST}], path: /churn/{number}, upstream: u{upstream} }}"),
    }
}

/// As `/api/v1/config` names a content.
pub fn hash(text: &str) -> String {
    let sum = digest::digest(&digest::SHA256, text.as_bytes());
    sum.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

const ROUTES: usize = 60;
const UPSTREAMS: usize = 10;
const BAD: [&str; 3] = [
    "{ hosts: [bad.openclaw.example], upstraem: backend }",
    "{ hosts: [bad.openclaw.example], upstream: nowhere }",
    "{ hosts: [\"not a host\"], upstream: backend }",
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn churn(seed: u64) -> Churn {
        let file = |name: &str| Path::new("/t").join(name);
        let identity = Identity { chain: file("c"), key: file("k"), both: file("b") };
        let ports = Ports { plain: 1, tls: 2, admin: 3 };
        Churn::new(Base { dir: "/t".into(), ports, identity, backend: 4 }, seed)
    }

    #[test]
    fn a_thousand_editions_differ_and_keep_the_route() {
        let mut churn = churn(1);
        let editions: Vec<Edition> = (0..1000).map(|_| churn.next()).collect();
        let mut hashes: Vec<String> = editions.iter().map(|e| hash(&e.text)).collect();
        hashes.sort();
        hashes.dedup();
        assert_eq!(hashes.len(), 1000);
        for edition in &editions {
            let last = edition.text.lines().last().unwrap();
            assert!(last.starts_with("  app: "), "{last}");
            assert_eq!(edition.kind == Kind::Broken, edition.routes.is_empty());
        }
        let count = |kind| editions.iter().filter(|e| e.kind == kind).count();
        assert!((60..160).contains(&count(Kind::Quarantine)), "{}", count(Kind::Quarantine));
        assert!((15..80).contains(&count(Kind::Broken)), "{}", count(Kind::Broken));
        let sizes: Vec<usize> = editions.iter().map(|e| e.routes.len()).collect();
        assert!(sizes.iter().max() > sizes.iter().filter(|n| **n > 0).min());
    }

    #[test]
    fn a_content_has_the_name_of_the_admin_api() {
        // sha256("one\n")
        assert_eq!(hash("one\n"), "2c8b08da5ce6");
    }
}
