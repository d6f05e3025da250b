//! The configuration: what the running process makes of it, else what this user can tell.

use std::path::Path;

use config::merge::Accepted;
use serde_json::Value;

use super::line::Report;
use super::running::Running;
use crate::wording::counted;

pub fn look(file: &Path, accepted: &Accepted, running: &Running, report: &mut Report) {
    match &running.configuration {
        Some(told) => of_running(told, report),
        None => of_file(file, accepted, report),
    }
}

/// `GET /api/v1/config`.
fn of_running(told: &Value, report: &mut Report) {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (file, outcome) = (word(&told["file"]), word(&told["outcome"]));
    let fix = format!("openclaw-edge check --config {file}");
    let errors = told["errors"].as_array().map_or(0, Vec::len);
    let bad = told["quarantined"].as_array().map_or(&[][..], Vec::as_slice);
    if outcome == "rejected" || errors > 0 {
        return report.error(CHECK, format!("{file} is refused; what it said before serves"), fix);
    }
    match bad {
        [] => report.ok(CHECK, format!("{file}, as the running process has it")),
        [first, ..] => {
            let (kind, name) = (word(&first["kind"]), word(&first["name"]));
            let reason = word(&first["reasons"][0]["message"]);
            let count = counted(bad.len(), "bad entry", "bad entries");
            let text = match bad.len() {
                1 => format!("{file}: {count}, {kind} {name}: {reason}"),
                _ => format!("{file}: {count}, the first {kind} {name}: {reason}"),
            };
            report.error(CHECK, text, fix);
        }
    }
}

fn of_file(file: &Path, accepted: &Accepted, report: &mut Report) {
    let shown = file.display();
    let (routes, upstreams) = (accepted.routes.len(), accepted.upstreams.len());
    let Some(first) = accepted.quarantined.first() else {
        let routes = counted(routes, "route", "routes");
        let upstreams = counted(upstreams, "upstream", "upstreams");
        return report.ok(CHECK, format!("{shown}: {routes}, {upstreams}"));
    };
    let count = counted(accepted.quarantined.len(), "bad entry", "bad entries");
    let reason = first.reasons.first().map(|reason| reason.message.as_str()).unwrap_or_default();
    let text = format!("{shown}:{}: {reason} ({count})", first.line);
    let mut reasons = accepted.quarantined.iter().flat_map(|entry| &entry.reasons);
    if reasons.all(|reason| is_of_this_user(&reason.message)) {
        let fix = format!(
            "openclaw-edge check --config {shown}, with the service's user and environment"
        );
        return report.warn(CHECK, format!("unknown here: {text}"), fix);
    }
    report.error(CHECK, text, format!("openclaw-edge check --config {shown}"));
}

/// The service may have what a shell lacks: its variables, its credentials, its files.
fn is_of_this_user(message: &str) -> bool {
    message.contains(" is not set") || message.contains(" cannot be read")
}

pub const CHECK: &str = "config";

#[cfg(test)]
mod tests {
    use config::NoEnvironment;
    use config::merge::merge;
    use serde_json::json;

    use super::super::line::Level;
    use super::*;

    fn file(route: &str) -> (Level, String) {
        let text = format!(
            "version: 1\nlisteners: {{ web: {{ bind: ['127.0.0.1:1'] }} }}\n\
             upstreams: {{ u: {{ endpoints: ['127.0.0.1:2'] }} }}\nroutes:\n  \
             a: {{ hosts: [a.openclaw.example], upstream: u{route} }}\n"
        );
        let accepted = merge(None, config::parse("edge.yaml", &text, &NoEnvironment).unwrap());
        let mut report = Report::default();
        look(Path::new("edge.yaml"), &accepted, &Running::default(), &mut report);
        (report.only().level, report.only().text.clone())
    }

    #[test]
    fn what_a_shell_lacks_is_no_error() {
        assert_eq!(file("").0, Level::Ok);
        for secret in ["env:NONE", "file:/nonexistent/x", "cred:none"] {
            let route = format!(", access: {{ basic_auth: \"${{{secret}}}\" }}");
            let (level, text) = file(&route);
            assert!(level == Level::Warning && text.contains("unknown here"), "{text}");
        }
        let (level, text) = file(", pth: /x, access: { basic_auth: \"${env:NONE}\" }");
        assert!(level == Level::Error && text.contains("edge.yaml:5: unknown key"), "{text}");
    }

    #[test]
    fn the_running_process_knows_better() {
        let told = |value| {
            let mut report = Report::default();
            of_running(&value, &mut report);
            (report.only().level, report.only().text.clone())
        };
        let (errors, none) = (json!([{ "message": "x" }]), json!([]));
        let value =
            json!({ "file": "/e", "outcome": "applied", "errors": none, "quarantined": none });
        assert_eq!(told(value).0, Level::Ok);
        let value = json!({ "file": "/e", "outcome": "rejected", "errors": errors });
        assert_eq!(told(value).0, Level::Error);
        let bad = json!([{ "kind": "route", "name": "a", "reasons": [{ "message": "no" }] }]);
        let (level, text) = told(json!({ "file": "/e", "outcome": "partial", "quarantined": bad }));
        assert!(level == Level::Error && text.contains("/e: 1 bad entry, route a: no"), "{text}");
        assert_eq!(told(json!(7)).0, Level::Ok, "nothing is known of it");
    }
}
