//! `openclaw-edge check`: every error of a config file with its place, then the file's own tests;
//! and how long a first issuance of its certificates takes under the limits. Reads files and changes nothing. What a reload would quarantine is a failure here.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use config::error::{Diagnostic, Errors, Level, render};
use config::merge::{Accepted, merge};
use rustls::crypto::aws_lc_rs::Ticketer;

use crate::cli::orders::first_issuance;
use crate::cli::out::tell;
use crate::control::{certs, reload};
use crate::limit::LimitRegistry;
use crate::route::compile::{Deps, compile, empty};
use crate::route::explain::{Failure, run_tests};
use crate::route::table::Snapshot;
use crate::upstream::endpoint::EndpointRegistry;
use crate::upstream::transport::Transport;
use crate::wording::counted;

/// Checks and tells: the verdict on stdout, findings on stderr. 0: nothing is wrong, 1 else.
pub fn run(file: &Path) -> ExitCode {
    let name = file.display().to_string();
    let reading = reload::read(file);
    let report = match reading.result {
        Ok(candidate) => check(&merge(None, candidate)),
        Err(errors) => Report { errors: errors.0, ..Report::default() },
    };
    eprint!("{}", render(&report.warnings, Level::Warning, &name, &reading.text));
    if report.errors.is_empty() {
        tell!("ok: {}", report.verdict);
        report.orders.iter().for_each(|line| tell!("{line}"));
        return ExitCode::SUCCESS;
    }
    eprint!("{}", Errors(report.errors).render(&name, &reading.text));
    ExitCode::FAILURE
}

#[derive(Default)]
struct Report {
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    /// What there is, when nothing is wrong.
    verdict: String,
    /// How long a first issuance takes.
    orders: Vec<String>,
}

fn check(accepted: &Accepted) -> Report {
    let mut report = Report { warnings: accepted.warnings.clone(), ..Report::default() };
    report.errors.extend(accepted.quarantined.iter().flat_map(|bad| bad.reasons.clone()));
    check_certificates(accepted, &mut report);
    // Tests of a file with broken entries would only repeat the same errors.
    if report.errors.is_empty() {
        match compiled(accepted) {
            Ok(snapshot) => {
                check_transports(accepted, &snapshot, &mut report);
                report.errors.extend(failed_tests(accepted, &snapshot));
            }
            Err(why) => report.errors.push(why),
        }
    }
    report.orders = first_issuance(accepted);
    report.verdict = verdict(accepted);
    report
}

/// What the file holds; what is made of tenants counts as tenants.
fn verdict(accepted: &Accepted) -> String {
    let routes = accepted.routes.values().filter(|entry| entry.value.tenant.is_none());
    let upstreams = accepted.upstreams.values().filter(|entry| entry.value.tenant.is_none());
    let certificates = accepted.certificates.values().filter(|entry| entry.value.tenant.is_none());
    let mut parts = vec![
        count(accepted.global.listeners.len(), "listener"),
        count(routes.count(), "route"),
        count(upstreams.count(), "upstream"),
        count(certificates.count(), "certificate"),
    ];
    if accepted.global.tenants.is_some() {
        parts.push(count(accepted.tenants.len(), "tenant"));
    }
    parts.push(count(accepted.tests.len(), "test"));
    parts.join(", ")
}

/// Files that are here have to be good; a machine that only checks need not have them.
fn check_certificates(accepted: &Accepted, report: &mut Report) {
    for pair in certs::wanted(accepted).files {
        let absent = [&pair.chain, &pair.key]
            .into_iter()
            .find(|path| matches!(path.try_exists(), Ok(false)));
        let line = accepted.certificates.iter().find(|(name, _)| name.as_str() == pair.name);
        let finding = |message: String| Diagnostic {
            at: format!("certificates.{}", pair.name),
            line: line.map_or(0, |(_, entry)| entry.line),
            column: 0,
            message,
            help: None,
            file: None,
        };
        match (absent, certs::load_files(&pair)) {
            (Some(path), _) => {
                let why = io::Error::from(io::ErrorKind::NotFound);
                report.warnings.push(finding(format!("{}: {why}", path.display())));
            }
            (None, Err(why)) => report.errors.push(finding(why)),
            (None, Ok(_)) => {}
        }
    }
}

/// The same for the files that TLS to endpoints is made of.
fn check_transports(accepted: &Accepted, snapshot: &Snapshot, report: &mut Report) {
    for upstream in &snapshot.upstreams {
        let Some(problem) = upstream.transport.problem() else { continue };
        let files = Transport::files(&upstream.spec);
        let absent = files.iter().any(|path| matches!(path.try_exists(), Ok(false)));
        let entry = accepted.upstreams.get(&upstream.name);
        let finding = Diagnostic {
            at: format!("upstreams.{}.tls", upstream.name),
            line: entry.map_or(0, |entry| entry.line),
            column: 0,
            message: problem.to_owned(),
            help: None,
            file: None,
        };
        if absent { report.warnings.push(finding) } else { report.errors.push(finding) }
    }
}

fn compiled(accepted: &Accepted) -> Result<Snapshot, Diagnostic> {
    let ticketer = Ticketer::new().map_err(|why| Diagnostic {
        at: String::new(),
        line: 0,
        column: 0,
        message: format!("session tickets: {why}"),
        help: None,
        file: None,
    })?;
    Ok(compile(
        accepted,
        &empty(),
        &mut Deps {
            certs: Arc::default(),
            challenges: Arc::default(),
            ticketer,
            bound: &[],
            nofile: u64::from(u16::MAX),
            resolved: &|_| None,
            shifted: &|_| None,
            endpoints: &mut EndpointRegistry::default(),
            limits: &mut LimitRegistry::default(),
            tenants: &crate::metrics::TenantLabels::default(),
            metrics: &crate::metrics::Metrics::new(),
        },
    ))
}

fn count(n: usize, what: &str) -> String {
    counted(n, what, &format!("{what}s"))
}

fn failed_tests(accepted: &Accepted, snapshot: &Snapshot) -> Vec<Diagnostic> {
    let finding = |failure: Failure| Diagnostic {
        at: "tests".to_owned(),
        line: failure.line,
        column: 0,
        message: failure.text,
        help: None,
        file: None,
    };
    run_tests(snapshot, &accepted.tests).into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use config::NoEnvironment;

    use super::*;

    fn findings(text: &str) -> Report {
        check(&merge(None, config::parse("edge.yaml", text, &NoEnvironment).unwrap()))
    }

    const FILE: &str = "version: 1\n\
        listeners:\n  http: { bind: ['127.0.0.1:0'], redirect_to: https }\n  \
        https: { bind: ['127.0.0.1:0'], public_port: 8443, tls: {} }\n\
        upstreams: { u: { endpoints: ['127.0.0.1:2'] } }\n\
        routes:\n  a: { hosts: [a.openclaw.example], upstream: u }\n  \
        b: { hosts: [a.openclaw.example], path: /b, respond: { status: 404 } }\n  \
        c: { hosts: [old.openclaw.example], redirect: { host: a.openclaw.example } }\n";

    #[test]
    fn good_files_are_counted() {
        let report = findings(FILE);
        assert_eq!(report.errors, []);
        assert_eq!(report.verdict, "2 listeners, 3 routes, 1 upstream, 0 certificates, 0 tests");
    }

    #[test]
    fn tests_that_hold() {
        let tests = "tests:\n\
            - { request: 'GET https://a.openclaw.example/x?y', route: a }\n\
            - { request: 'POST https://A.openclaw.example/b/c', route: b }\n\
            - { request: 'GET https://a.openclaw.example/b', status: 404 }\n\
            - { request: 'GET https://other.openclaw.example/', status: 404 }\n\
            - { request: 'GET https://a.openclaw.example/b%2fc', status: 400 }\n\
            - { request: 'GET http://a.openclaw.example/x?y', redirect: 'https://a.openclaw.example:8443/x?y' }\n";
        let report = findings(&format!("{FILE}{tests}"));
        assert_eq!(report.errors, []);
    }

    #[test]
    fn tests_that_do_not_hold_say_what_happens_instead() {
        let tests = "tests:\n\
            - { request: 'GET https://a.openclaw.example/b', route: a }\n\
            - { request: 'GET https://a.openclaw.example/x', status: 404 }\n\
            - { request: 'GET http://a.openclaw.example/', redirect: 'https://a.openclaw.example/' }\n";
        let report = findings(&format!("{FILE}{tests}"));
        let messages: Vec<String> = report.errors.iter().map(|e| e.message.clone()).collect();
        assert_eq!(messages.len(), 3, "{messages:?}");
        assert!(messages[0].contains("got 404"), "{}", messages[0]);
        assert!(messages[1].contains("got route a"), "{}", messages[1]);
        assert!(messages[2].contains(":8443/"), "{}", messages[2]);
        assert!(report.errors.iter().all(|error| error.line > 9));
    }

    #[test]
    fn tenants_are_counted_tested_and_told_with_their_place() {
        let dir = tempfile::tempdir().unwrap();
        let registry = dir.path().join("production.json");
        let text = format!(
            "{FILE}tenants: {{ file: {}, routes: {{ gw: {{ hosts: ['{{tenant}}.gw.openclaw.example'], \
             endpoint: '{{host}}:{{port}}' }} }} }}\n\
             tests: [{{ request: 'GET https://acme.gw.openclaw.example/', route: acme.gw }}]\n",
            registry.display()
        );
        let checked = |entries: &str| {
            std::fs::write(&registry, entries).unwrap();
            let read = config::parse("edge.yaml", &text, &config::SystemEnvironment);
            check(&merge(None, read.unwrap()))
        };
        let one =
            "{\"servers\": [\n{\"tenant\": \"acme\", \"host\": \"100.64.0.1\", \"port\": 1},\n";
        let good = checked(&format!(
            "{one}{{\"tenant\": \"b\", \"host\": \"100.64.0.1\", \"port\": 2}}]}}"
        ));
        assert_eq!(good.errors, []);
        let verdict = "2 listeners, 3 routes, 1 upstream, 0 certificates, 2 tenants, 1 test";
        assert_eq!(good.verdict, verdict);
        let bad = checked(&format!(
            "{one}{{\"tenant\": \"b\", \"host\": \"100.64.0.1\", \"port\": 0}}]}}"
        ));
        let told = Errors(bad.errors).render("edge.yaml", &text);
        let place = format!("--> {}:3:39", registry.display());
        assert!(told.contains("`0` is no port") && told.contains(&place), "{told}");
    }

    #[test]
    fn quarantined_entries_are_failures() {
        let report =
            findings(&format!("{FILE}  d: {{ hosts: [d.openclaw.example], upstream: v }}\n"));
        assert_eq!(report.errors.len(), 1);
    }

    #[test]
    fn absent_certificates_are_no_failure_and_broken_ones_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let text = format!(
            "{FILE}certificates: {{ own: {{ chain: {}, key: {} }} }}\n",
            path("chain.pem"),
            path("key.pem")
        );
        let report = findings(&text);
        assert_eq!((report.errors.len(), report.warnings.len()), (0, 1));
        std::fs::write(dir.path().join("chain.pem"), "no certificate").unwrap();
        std::fs::write(dir.path().join("key.pem"), "no key").unwrap();
        assert_eq!(findings(&text).errors.len(), 1);
    }
}
