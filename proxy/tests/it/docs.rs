//! What the documents say: their configurations are good, their tables are those of the code, the
//! files they name exist, and the absences that README.md promises are absent.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proxy::request::cause::Cause;

use crate::harness::Lab;
use crate::harness::edge::command;

const PAGES: [&str; 5] =
    ["README.md", "proxy/README.md", "config/README.md", "acme/README.md", "deploy/README.md"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

// === configurations ===

/// The code blocks of this language, each with its line.
fn blocks(page: &str, language: &str) -> Vec<(usize, String)> {
    let text = read(page);
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if let Some(info) = line.strip_prefix("```") {
            let body: Vec<&str> =
                lines.by_ref().map(|(_, line)| line).take_while(|l| *l != "```").collect();
            if info == language {
                found.push((number + 1, body.join("\n") + "\n"));
            }
        }
    }
    found
}

/// Top-level keys with their text.
fn sections(text: &str) -> Vec<(String, String)> {
    let mut sections: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let top = !line.starts_with([' ', '#', '-']) && !line.is_empty();
        match (sections.last_mut(), top) {
            (Some((_, body)), false) => *body += &format!("{line}\n"),
            (None, false) => {}
            (_, true) => {
                let key = line.split(':').next().unwrap_or(line);
                sections.push((key.to_owned(), format!("{line}\n")));
            }
        }
    }
    sections
}

/// A part of a configuration in the place of the same keys of a whole one.
fn completed(whole: &str, part: &str) -> String {
    let part = sections(part);
    let kept = sections(whole)
        .into_iter()
        .filter(|(key, _)| key != "tests" && part.iter().all(|(own, _)| own != key));
    kept.chain(part.clone()).map(|(_, text)| text).collect()
}

#[test]
fn every_yaml_block_passes_check() {
    let is_whole = |text: &str| text.lines().any(|line| line.starts_with("version:"));
    let readme = blocks("README.md", "yaml");
    let first = readme.iter().find(|(_, text)| is_whole(text));
    let (_, whole) = first.expect("README.md shows no whole configuration");
    assert!(whole.contains("\ntests:"), "the first configuration has tests");
    let lab = Lab::new();
    let registry = read("config/tests/tenants/production.json");
    let registry = lab.write("production.json", registry);
    for page in PAGES {
        for (line, block) in blocks(page, "yaml") {
            let text = if is_whole(&block) { block } else { completed(whole, &block) };
            let text =
                text.replace("/etc/openclaw-edge/production.json", registry.to_str().unwrap());
            let path = lab.write("edge.yaml", &text);
            let output = command(&["check", "--config", path.to_str().unwrap()]);
            let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert_eq!(output.status.code(), Some(0), "{page}:{line}:\n{told}\n{text}");
        }
    }
}

#[test]
fn a_block_that_is_not_good_would_be_found() {
    let whole = blocks("README.md", "yaml").remove(0).1;
    let lab = Lab::new();
    let part = "routes:\n  app: { hosts: [app.openclaw.example], upstrem: web }\n";
    let path = lab.write("edge.yaml", completed(&whole, part));
    let output = command(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
}

// === tables ===

/// Cells of the table rows whose first cell is in backticks.
fn rows(page: &str) -> Vec<Vec<String>> {
    let text = read(page);
    let row = |line: &str| -> Vec<String> {
        line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()
    };
    text.lines().filter(|line| line.starts_with("| `")).map(row).collect()
}

#[test]
fn the_table_of_causes_is_complete() {
    let text = read("README.md");
    let table = text.split_once("### Causes").unwrap().1.split_once("\n## ").unwrap().0;
    let documented: BTreeSet<(String, u16)> = table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            (cells[1].trim_matches('`').to_owned(), cells[2].parse().unwrap())
        })
        .collect();
    let known: BTreeSet<(String, u16)> =
        Cause::ALL.iter().map(|cause| (cause.code().to_owned(), cause.status())).collect();
    assert_eq!(documented, known);
}

/// config/README.md has every key (a test there); defaults told twice are told alike.
#[test]
fn limits_have_the_defaults_of_the_reference() {
    let reference = rows("config/README.md");
    let mut compared = 0;
    for row in rows("README.md").iter().filter(|row| row[0].contains(['.', '_'])) {
        if let Some(known) = reference.iter().find(|known| known[0] == row[0]) {
            // The reference says `10s`, `"1.2"`, or a bare number.
            assert_eq!(row[1].replace('`', ""), known[1].replace('`', ""), "{}", row[0]);
            compared += 1;
        }
    }
    let key = |row: &&Vec<String>| row[0].contains(".limits.") || row[0].contains(".timeouts.");
    let wanted = reference.iter().filter(key).count();
    assert!(compared >= wanted, "{compared} limits in README.md, {wanted} in config/README.md");
}

/// Alerts of the rules, with severity and time of each rule: `critical, 2m; warning, 15m`.
fn alerts() -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let rules = fs::read_dir(root().join("deploy/prometheus/rules")).unwrap();
    for file in rules.map(|entry| entry.unwrap().path()) {
        let text = fs::read_to_string(file).unwrap();
        for rule in text.split("- alert: ").skip(1) {
            let rule = rule.split("- record: ").next().unwrap();
            let name = rule.lines().next().unwrap().trim();
            let value = |key: &str| {
                let rest = rule.split_once(key)?.1;
                let end = rest.find([',', '}', '\n']).unwrap_or(rest.len());
                Some(rest[..end].trim().to_owned())
            };
            let severity = value("severity: ").unwrap_or_else(|| panic!("{name}: no severity"));
            let when = value("\n        for: ").map(|time| format!(", {time}")).unwrap_or_default();
            let told = found.entry(name.to_owned()).or_default();
            let semicolon = if told.is_empty() { "" } else { "; " };
            *told += &format!("{semicolon}{severity}{when}");
        }
    }
    found
}

#[test]
fn the_table_of_alerts_is_that_of_the_rules() {
    let text = read("deploy/README.md");
    let table = text.split_once("## What each alert means").unwrap().1;
    let mut documented = BTreeMap::new();
    for line in table.lines().filter(|line| line.starts_with("| `")) {
        // A bar of a command is `\|`.
        let line = line.replace("\\|", "/");
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [alert, means, command, then] = cells.as_slice() else { panic!("{line}") };
        let (name, when) = alert.trim_start_matches('`').split_once('`').unwrap();
        assert!(!means.is_empty() && !then.is_empty(), "{line}");
        assert!(command.starts_with('`'), "{name}: what is to be typed first: {command}");
        let former = documented.insert(name.to_owned(), when.trim().to_owned());
        assert!(former.is_none(), "{name} twice");
    }
    assert_eq!(documented, alerts());
}

/// Every `openclaw-edge COMMAND` of the operations guide is one that the binary has.
#[test]
fn commands_of_the_guide_are_there() {
    let help = command(&["--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    let commands = help.split_once("Commands:").unwrap().1.split_once("Options:").unwrap().0;
    let known: BTreeSet<&str> =
        commands.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let mut seen = BTreeSet::new();
    for page in ["README.md", "deploy/README.md"] {
        let text = read(page);
        for (at, name) in text.match_indices("openclaw-edge ") {
            // Where a command begins: in backticks, after a prompt or a path, at a line's start.
            let (before, rest) = (&text[..at], &text[at + name.len()..]);
            let begins = before.ends_with(['`', '\n', '/']) || before.ends_with("$ ");
            let word = rest.split(|c: char| !c.is_ascii_lowercase()).next().unwrap();
            if begins && !word.is_empty() {
                assert!(known.contains(word), "{page}: openclaw-edge {word}");
                seen.insert(word.to_owned());
            }
        }
    }
    assert!(seen.len() > 10 && seen.contains("doctor"), "{seen:?}");
}

// === names ===

/// Whether a word in backticks is meant as the path of one of our files.
fn is_path(word: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-');
    let ending = [".rs", ".md", ".yaml", ".jsonl", "/"].iter().any(|end| word.ends_with(end));
    ending && word.bytes().all(plain) && !word.starts_with(['/', '.']) && word.contains('/')
}

#[test]
fn files_that_pages_name_exist() {
    for page in PAGES {
        let text = read(page);
        // Odd parts are in backticks, or behind `](` up to `)`.
        let quoted = text.split('`').skip(1).step_by(2);
        let linked = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|l| l.0);
        let own = Path::new(page).parent().unwrap();
        for word in quoted.chain(linked).filter(|word| is_path(word)) {
            let places = [own, Path::new(""), Path::new("proxy"), Path::new("proxy/src")];
            let there = places.iter().any(|place| root().join(place).join(word).exists());
            assert!(there, "{page} names {word}");
        }
    }
}

/// What a heading is called in a link.
fn anchor(heading: &str) -> String {
    let kept =
        heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[test]
fn headings_that_pages_link_to_exist() {
    let mut followed = 0;
    for page in PAGES {
        let text = read(page);
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        for (place, wanted) in links.filter_map(|(link, _)| link.split_once('#')) {
            let target = match place {
                "" => root().join(page),
                place if place.ends_with(".md") => root().join(page).parent().unwrap().join(place),
                _ => continue,
            };
            let there =
                fs::read_to_string(&target).unwrap_or_else(|e| panic!("{page}: {place}: {e}"));
            let headings = there.lines().filter(|line| line.starts_with('#'));
            let mut headings = headings.map(|line| anchor(line.trim_start_matches('#')));
            assert!(headings.any(|heading| heading == wanted), "{page} links to {place}#{wanted}");
            followed += 1;
        }
    }
    assert!(followed > 20, "{followed}");
}

#[test]
fn the_commands_of_the_readme_are_there() {
    let readme = read("README.md");
    let test = readme.split_once("<!-- test-command -->").expect("the mark for .ci/run").1;
    assert_eq!(test.trim_start().lines().nth(1), Some("make test"));
    let makefile = read("Makefile");
    for target in ["demo", "test", "check", "fuzz", "bench"] {
        assert!(makefile.contains(&format!("\n{target}: ")), "make {target}");
        assert!(readme.contains(&format!("make {target}")), "make {target}");
    }
}

// === absences ===

/// Rust files below a folder, without their unit tests, comments and `allowed` files.
fn sources(folder: &str, allowed: &[&str]) -> Vec<(PathBuf, String)> {
    let path = root().join(folder);
    let mut found = Vec::new();
    let mut open = vec![path];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        let tests = name.ends_with("tests.rs") || name.contains("/tests/");
        let rust = name.ends_with(".rs") && !tests;
        if rust && !allowed.iter().any(|allowed| name.starts_with(allowed)) {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            let code: Vec<&str> =
                code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            found.push((path, code.join("\n")));
        }
    }
    assert!(!found.is_empty(), "{folder} has no sources");
    found
}

fn absent(folders: &[&str], allowed: &[&str], words: &[&str]) {
    for (path, code) in folders.iter().flat_map(|folder| sources(folder, allowed)) {
        for word in words {
            assert!(!code.contains(word), "{} has `{word}`", path.display());
        }
    }
}

const DATA_PLANE: [&str; 9] = [
    "proxy/src/access",
    "proxy/src/downstream",
    "proxy/src/exchange",
    "proxy/src/filter",
    "proxy/src/http1",
    "proxy/src/limit",
    "proxy/src/request",
    "proxy/src/route",
    "proxy/src/upstream",
];

#[test]
fn three_audited_files_allow_unsafe() {
    let code = ["config/src", "acme/src", "proxy/src", "benches/src"];
    let audited = [
        "proxy/src/upstream/tcp_info.rs",
        "proxy/src/downstream/min_ttl.rs",
        "proxy/src/server/inherit.rs",
    ];
    absent(&code, &audited, &["allow(unsafe_code)", "expect(unsafe_code)"]);
    // Each use says why it is sound.
    for audited in audited {
        let text = read(audited);
        let (used, reasons) =
            (text.matches("unsafe {").count(), text.matches("// SAFETY: ").count());
        assert!(used > 0 && used == reasons, "{audited}: {used} uses, {reasons} reasons");
    }
    assert!(read("Cargo.toml").contains("\nunsafe_code = \"deny\"\n"));
    for manifest in ["config", "acme", "proxy", "benches"] {
        let text = read(&format!("{manifest}/Cargo.toml"));
        assert!(text.contains("[lints]\nworkspace = true"), "{manifest}");
    }
}

#[test]
fn workers_touch_no_files_names_or_system_clock() {
    let words = [
        "std::fs",
        "tokio::fs",
        "File::",
        "to_socket_addrs",
        "lookup_host",
        "Instant::now",
        "SystemTime",
    ];
    // Compiled on the control thread, like the rest of the snapshot.
    let compiled = ["proxy/src/upstream/transport.rs"];
    absent(&DATA_PLANE, &compiled, &words);
    absent(&["proxy/src/worker.rs", "proxy/src/local.rs"], &[], &words);
}

#[test]
fn workers_look_up_no_series() {
    absent(&DATA_PLANE, &[], &["with_label_values", "get_metric_with"]);
    absent(&["proxy/src/worker.rs", "proxy/src/local.rs"], &[], &["with_label_values"]);
}

#[test]
fn the_pure_parts_have_no_async_and_no_sockets() {
    let pure = ["proxy/src/filter", "proxy/src/http1", "proxy/src/request", "proxy/src/route"];
    absent(&pure, &[], &["async ", ".await", "tokio", "TcpStream"]);
}

#[test]
fn only_control_publishes() {
    absent(&["proxy/src"], &["proxy/src/control/publish.rs"], &["snapshot.store("]);
    let table = "proxy/src/downstream/cert_table.rs";
    absent(
        &["proxy/src"],
        &["proxy/src/control/certs/", table],
        &["table.publish(", "certs.publish("],
    );
}

#[test]
fn only_metrics_names_a_family() {
    absent(&["proxy/src"], &["proxy/src/metrics/"], &["\"edge_"]);
}

#[test]
fn config_and_acme_do_not_know_the_proxy() {
    for manifest in ["config/Cargo.toml", "acme/Cargo.toml"] {
        let text = read(manifest);
        assert!(!text.contains("proxy"), "{manifest}");
    }
    let manifest = read("acme/Cargo.toml");
    assert!(!manifest.lines().any(|line| line.starts_with("config") || line.contains("../config")));
}
