//! What the state directory keeps: the accepted entries as text, references unresolved, so that a
//! boot with a broken file serves what served before (design.md #8).
//!
//! The text is itself a config file. Boot is `merge(restore(text).as_ref(), parse(file)?)`; where
//! the file cannot be read at all, the restored configuration serves alone. A reference that
//! cannot be resolved then makes its entry bad: 503 on its claims.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;

use crate::decode;
use crate::environment::Environment;
use crate::merge::{Accepted, Kind, merge};
use crate::model::{Certificate, Good, PathRule, Route, Upstream};
use crate::node::{self, Kind as NodeKind, Node};
use crate::tenants::kept;
use crate::value::{HostPattern, Name};

/// The accepted configuration as text. Holds no resolved reference; what stood literally in the
/// config file stands here as well, so the file belongs in a directory of mode 0700.
pub fn document(accepted: &Accepted) -> String {
    let mut out = String::from(HEADER);
    out.push_str(&accepted.global.text);
    // What was made of tenants is made again.
    let own = |certificate: &Certificate| certificate.tenant.is_none();
    section(&mut out, Kind::Certificate, texts(&accepted.certificates, own));
    let own = |upstream: &Upstream| upstream.tenant.is_none();
    section(&mut out, Kind::Upstream, texts(&accepted.upstreams, own));
    let own = |route: &Route| route.tenant.is_none();
    let routes = texts(&accepted.routes, own).map(str::to_owned).chain(blocked(accepted));
    section(&mut out, Kind::Route, routes);
    kept::write(accepted, &mut out);
    out
}

/// What a [`document`] described, with references resolved now. `None`: no such document, or its
/// global part cannot be used (any more).
pub fn restore(document: &str, env: &dyn Environment) -> Option<Accepted> {
    let candidate = decode::kept(document, env).ok()?;
    let mut restored = merge(None, candidate);
    // Its lines are those of the document; they would mislead beside lines of the file.
    restored.warnings.clear();
    Some(restored)
}

fn texts<T>(
    entries: &BTreeMap<Name, Good<T>>,
    own: impl Fn(&T) -> bool,
) -> impl Iterator<Item = &str> {
    entries.values().filter(move |entry| own(&entry.value)).map(|entry| &*entry.text)
}

fn section<T: Display>(out: &mut String, kind: Kind, entries: impl Iterator<Item = T>) {
    let mut entries = entries.peekable();
    if entries.peek().is_none() {
        return;
    }
    out.push_str(kind.section());
    out.push_str(":\n");
    for entry in entries {
        out.push_str(&format!("  {entry}\n"));
    }
}

/// Blocked claims as entries that are bad by design, so that they are blocked again.
fn blocked(accepted: &Accepted) -> Vec<String> {
    let mut groups: BTreeMap<(&Name, &PathRule), Vec<&HostPattern>> = BTreeMap::new();
    for blocked in &accepted.blocked {
        groups.entry((&blocked.route, &blocked.path)).or_default().push(&blocked.host);
    }
    let mut names: BTreeSet<String> =
        accepted.routes.keys().map(|name| name.as_str().to_owned()).collect();
    let mut out = Vec::new();
    for ((route, path), hosts) in groups {
        let mut name = route.as_str().to_owned();
        for n in 2.. {
            if names.insert(name.clone()) {
                break;
            }
            name = format!("{:.50}-blocked-{n}", route.as_str());
        }
        let (kind, path) = match path {
            PathRule::Exact(path) => ("exact", path),
            PathRule::Prefix(path) => ("prefix", path),
        };
        let mut line = String::new();
        node::write_text(&name, &mut line);
        line.push_str(": {\"hosts\": [");
        for (n, host) in hosts.iter().enumerate() {
            line.push_str(if n > 0 { ", " } else { "" });
            node::write_text(&host.to_string(), &mut line);
        }
        line.push_str("], \"path\": {\"");
        line.push_str(kind);
        line.push_str("\": ");
        node::write_text(path.as_str(), &mut line);
        // No known key: it makes the entry bad.
        line.push_str("}, \"quarantined\": \"true\"}");
        out.push(line);
    }
    out
}

/// The text of a route entry without the hosts that are not to be kept.
pub(crate) fn without_hosts(text: &Arc<str>, keep: &[bool]) -> Arc<str> {
    let Ok(Node { kind: NodeKind::Map(mut entries), pos }) = node::read(text) else {
        return text.clone();
    };
    for (_, entry) in &mut entries {
        let NodeKind::Map(fields) = &mut entry.kind else { continue };
        for (key, value) in fields.iter_mut().filter(|(key, _)| key.text == "hosts") {
            let NodeKind::List(hosts) = &mut value.kind else { continue };
            debug_assert_eq!(hosts.len(), keep.len(), "{}", key.text);
            let mut keep = keep.iter();
            hosts.retain(|_| keep.next().copied().unwrap_or(true));
        }
    }
    let mut out = String::new();
    node::write(&Node { kind: NodeKind::Map(entries), pos }, &mut out);
    // One entry, without the braces of the mapping that holds it.
    let inner = out.strip_prefix('{').and_then(|out| out.strip_suffix('}')).unwrap_or(&out);
    inner.into()
}

const HEADER: &str = "# What openclaw-edge last accepted: used when it starts with a broken config \
    file.\n# Written by openclaw-edge; edits are lost.\n";

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::*;
    use crate::environment::NoEnvironment;
    use crate::parse;

    struct Token;

    impl Environment for Token {
        fn var(&self, name: &str) -> Option<String> {
            (name == "TOKEN").then(|| "s3cret".to_owned())
        }

        fn read(&self, _path: &Path) -> io::Result<String> {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    const FILE: &str = r#"
version: 1
listeners:
  # A comment.
  web: { bind: ["127.0.0.1:0"] }
defaults: { route: { body_limit: 1MiB } }
upstreams:
  api:
    endpoints:
      - "127.0.0.1:8000"
routes:
  api: { hosts: [api.openclaw.example], upstream: api }
  open:
    hosts: [open.openclaw.example]
    upstream: api
    headers: { request: { set: { x-token: "Bearer ${env:TOKEN}", x-b: "a\"b'c: #" } } }
  closed: { hosts: [open.openclaw.example], path: /private, respond: { statos: 404 } }
"#;

    #[test]
    fn a_restored_document_serves_the_same() {
        let accepted = merge(None, parse("edge.yaml", FILE, &Token).unwrap());
        let text = document(&accepted);
        assert!(!text.contains("s3cret"));
        let restored = restore(&text, &Token).unwrap();
        assert_eq!(restored.global, accepted.global);
        let values = |accepted: &Accepted| -> Vec<_> {
            accepted
                .routes
                .values()
                .map(|route| (route.value.clone(), route.text.clone()))
                .collect()
        };
        assert_eq!(values(&restored), values(&accepted));
        assert_eq!(restored.upstreams["api"].value, accepted.upstreams["api"].value);
        assert_eq!(restored.blocked, accepted.blocked);
        assert_eq!(restored.blocked.len(), 1);
        assert_eq!(document(&restored), text);
    }

    #[test]
    fn a_secret_that_is_gone_closes_its_entry_only() {
        let accepted = merge(None, parse("edge.yaml", FILE, &Token).unwrap());
        let restored = restore(&document(&accepted), &NoEnvironment).unwrap();
        assert!(restored.routes.contains_key("api"));
        assert!(!restored.routes.contains_key("open"));
        let blocked: Vec<&str> = restored.blocked.iter().map(|one| one.route.as_str()).collect();
        assert_eq!(blocked, ["closed", "open"]);
    }

    #[test]
    fn a_boot_with_a_broken_entry_serves_the_last_good_one() {
        let accepted = merge(None, parse("edge.yaml", FILE, &Token).unwrap());
        let restored = restore(&document(&accepted), &Token);
        let broken = FILE.replace("  api: { hosts", "  api: { hsots");
        let booted = merge(restored.as_ref(), parse("edge.yaml", &broken, &Token).unwrap());
        assert_eq!(booted.routes["api"].value, accepted.routes["api"].value);
        let api = booted.quarantined.iter().find(|entry| entry.name.as_str() == "api").unwrap();
        assert!(api.former_serves);
    }

    #[test]
    fn junk_is_no_document() {
        for junk in ["", "x", "version: 1\nlisteners: []", "\0"] {
            assert!(restore(junk, &NoEnvironment).is_none(), "{junk:?}");
        }
    }
}
