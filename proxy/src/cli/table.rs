//! The API's certificates as text: a table of all, and everything about one.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// One entry of `GET /api/v1/certificates`, as far as it is shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Entry {
    pub name: String,
    pub source: String,
    pub state: String,
    pub names: Vec<String>,
    pub missing: Vec<String>,
    pub issuer: Option<String>,
    pub issued_by: Option<String>,
    pub serial: Option<String>,
    pub not_before: Option<String>,
    pub not_after: Option<String>,
    pub renews_at: Option<String>,
    pub next_at: Option<String>,
    pub next_reason: Option<String>,
    pub ordering: bool,
    pub stored: Option<bool>,
    pub failures: u32,
    pub issued_this_week: u32,
    pub limit_per_week: Option<u32>,
    pub budget: Vec<Left>,
    pub last_error: Option<Told>,
}

/// What is left of one limit.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Left {
    pub limit: String,
    pub left: u32,
}

/// A failure, as the CA told it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Told {
    pub at: Option<String>,
    pub text: String,
    pub class: String,
    pub name: Option<String>,
    pub problem: Option<String>,
    pub detail: String,
    pub status: Option<u16>,
    pub subproblems: Vec<Part>,
    pub retry_at: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Part {
    pub name: Option<String>,
    pub problem: Option<String>,
    pub detail: String,
}

impl Entry {
    /// By its name, else by a host that it is for.
    pub fn find<'a>(all: &'a [Entry], which: &str) -> Option<&'a Entry> {
        let wanted = acme::name::canonical(which).unwrap_or_else(|_| which.to_owned());
        let named = all.iter().find(|entry| entry.name == which || entry.name == wanted);
        named.or_else(|| all.iter().find(|entry| entry.names.contains(&wanted)))
    }

    fn next(&self, now: i64) -> String {
        let why = self.next_reason.as_deref().unwrap_or_default();
        match &self.next_at {
            _ if self.ordering => "now: an order is under way".to_owned(),
            None if self.source == "file" => "when its files change".to_owned(),
            None => "by itself".to_owned(),
            Some(at) if self.last_error.is_none() && self.failures == 0 && why == FRESH => {
                format!("renews {}", distance(at, now))
            }
            Some(at) => format!("{}: {why}", distance(at, now)),
        }
    }

    fn error(&self) -> String {
        let Some(told) = &self.last_error else { return "-".to_owned() };
        let kind = told.problem.as_deref().map(|kind| kind.rsplit(':').next().unwrap_or(kind));
        let text = match kind {
            Some(kind) => format!("{kind}: {}", told.detail),
            None => told.detail.clone(),
        };
        shortened(&text, ERROR_WIDTH)
    }
}

/// Columns as wide as they need to be; nothing is cut but the error.
pub fn table(all: &[Entry], now: i64) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(all.iter().map(|entry| {
        [
            entry.name.clone(),
            entry.state.clone(),
            entry.issuer.clone().unwrap_or_else(|| entry.source.clone()),
            entry
                .not_after
                .as_deref()
                .filter(|_| entry.state != "placeholder")
                .map_or_else(|| "-".to_owned(), |at| distance(at, now)),
            entry.next(now),
            entry.error(),
        ]
        .map(|cell| printable(&cell))
    }));
    columns(&rows)
}

/// Columns as wide as they need to be.
pub fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// Everything, one fact a line.
pub fn details(entry: &Entry, now: i64) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: &str| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{key:<12} {}", printable(value));
    };
    let time =
        |at: &Option<String>| at.as_deref().map(|at| format!("{at} ({})", distance(at, now)));
    line("name", &entry.name);
    line("state", &entry.state);
    line("names", &entry.names.join(", "));
    if !entry.missing.is_empty() {
        line("without", &format!("{}: a placeholder is shown", entry.missing.join(", ")));
    }
    line("source", &entry.source);
    for (key, value) in [
        ("issuer", entry.issuer.clone()),
        ("issued by", entry.issued_by.clone()),
        ("serial", entry.serial.clone()),
        ("not before", time(&entry.not_before)),
        ("not after", time(&entry.not_after)),
        ("renews at", time(&entry.renews_at)),
    ] {
        if let Some(value) = value {
            line(key, &value);
        }
    }
    let next = match (&entry.next_at, &entry.next_reason) {
        (Some(at), Some(why)) if !entry.ordering => format!("{at} ({}): {why}", distance(at, now)),
        _ => entry.next(now),
    };
    line("next", &next);
    if entry.stored == Some(false) {
        line("stored", "no: it serves from memory until it can be written");
    }
    if entry.source == "acme" {
        let of = entry.limit_per_week.map(|limit| format!(" of {limit}")).unwrap_or_default();
        line("attempts", &format!("{} failed in a row", entry.failures));
        let issued = entry.issued_this_week;
        line("budget", &format!("{issued}{of} issued for these names in 7 days"));
        for Left { limit, left } in &entry.budget {
            line("", &format!("left: {left} of {limit}"));
        }
    }
    if let Some(told) = &entry.last_error {
        text += &failure(told, now);
    }
    text
}

fn failure(told: &Told, now: i64) -> String {
    let mut text = String::from("last error\n");
    let mut line = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = writeln!(text, "  {key:<10} {}", printable(&value));
        }
    };
    let time = |at: &String| format!("{at} ({})", distance(at, now));
    line("at", told.at.as_ref().map(time));
    line("what", Some(told.text.clone()));
    line("class", Some(told.class.clone()));
    line("name", told.name.clone());
    line("type", told.problem.clone());
    line("detail", Some(told.detail.clone()));
    line("status", told.status.map(|status| status.to_string()));
    for part in &told.subproblems {
        let words = [part.name.as_deref(), part.problem.as_deref(), Some(&part.detail)];
        line("part", Some(words.into_iter().flatten().collect::<Vec<_>>().join(": ")));
    }
    line("retry at", told.retry_at.as_ref().map(time));
    text
}

/// `in 29 days`, `3 hours ago`, `now`; the text itself where it is no time.
pub fn distance(at: &str, now: i64) -> String {
    match OffsetDateTime::parse(at, &Rfc3339) {
        Ok(time) => away(time.unix_timestamp().saturating_sub(now)),
        Err(_) => at.to_owned(),
    }
}

fn away(seconds: i64) -> String {
    match seconds {
        -1..=1 => "now".to_owned(),
        2.. => format!("in {}", span(seconds)),
        _ => format!("{} ago", span(seconds.saturating_neg())),
    }
}

/// The largest unit of which there are two or more, rounded down.
pub fn span(seconds: i64) -> String {
    let (count, unit) = match seconds {
        172_800.. => (seconds / 86_400, "days"),
        7_200.. => (seconds / 3_600, "hours"),
        120.. => (seconds / 60, "minutes"),
        _ => (seconds, "seconds"),
    };
    format!("{count} {unit}")
}

/// A CA's words may hold anything; a terminal obeys some of it.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(3)).collect();
    short.push_str("...");
    short
}

const HEAD: [&str; 6] = ["NAME", "STATE", "ISSUER", "EXPIRES", "NEXT", "LAST ERROR"];
const ERROR_WIDTH: usize = 60;
/// As the schedule says it of a certificate that is not due.
const FRESH: &str = "it is young enough";

/// Keeps the entry of a list whose `field` is `wanted`. The error lists those that there are.
pub fn only(list: &mut Value, field: &str, wanted: &str) -> Result<(), String> {
    let Value::Array(all) = list else { return Err(String::new()) };
    let known: Vec<&str> = all.iter().filter_map(|entry| entry[field].as_str()).collect();
    let known = known.join(", ");
    all.retain(|entry| entry[field] == wanted);
    if all.is_empty() { Err(known) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn entries() -> Vec<Entry> {
        let all = json!([
            {
                "name": "web", "source": "acme", "state": "valid", "issuer": "letsencrypt",
                "names": ["a.openclaw.example", "b.openclaw.example"], "serial": "0A",
                "issued_by": "https://ca.openclaw.example/dir", "stored": true,
                "not_before": "2027-01-01T00:00:00Z", "not_after": "2027-02-14T08:00:00Z",
                "renews_at": "2027-01-30T08:00:00Z", "next_at": "2027-01-30T08:00:00Z",
                "next_reason": "it is young enough", "issued_this_week": 1, "limit_per_week": 4,
                "last_error": null, "failures": 0, "ordering": false
            },
            {
                "name": "new.openclaw.example", "source": "acme", "state": "placeholder",
                "names": ["new.openclaw.example"], "missing": ["new.openclaw.example"],
                "issuer": "letsencrypt", "next_at": "2027-01-15T11:00:00Z",
                "next_reason": "the last attempt failed", "failures": 3, "limit_per_week": 4,
                "budget": [{ "limit": "300 orders in 3 hours", "left": 297 }],
                "last_error": {
                    "at": "2027-01-15T07:00:00Z", "text": "validating failed: NXDOMAIN (dns)",
                    "class": "validation", "name": "new.openclaw.example", "status": 400,
                    "problem": "urn:ietf:params:acme:error:dns",
                    "detail": "NXDOMAIN looking up A for new.openclaw.example: check that it exists",
                    "subproblems": [{ "name": "x", "problem": "p", "detail": "d\u{1b}[2J" }]
                }
            },
            {
                "name": "legacy", "source": "file", "state": "expired",
                "not_after": "2027-01-15T05:00:00Z", "names": ["old.openclaw.example"]
            }
        ]);
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn the_table() {
        let expected = "\
NAME                  STATE        ISSUER       EXPIRES      NEXT                                 LAST ERROR
web                   valid        letsencrypt  in 30 days   renews in 15 days                    -
new.openclaw.example  placeholder  letsencrypt  -            in 3 hours: the last attempt failed  dns: NXDOMAIN looking up A for new.openclaw.example: chec...
legacy                expired      file         3 hours ago  when its files change                -
";
        assert_eq!(table(&entries(), NOW), expected);
    }

    #[test]
    fn everything_about_one() {
        let expected = "\
name         new.openclaw.example
state        placeholder
names        new.openclaw.example
without      new.openclaw.example: a placeholder is shown
source       acme
issuer       letsencrypt
next         2027-01-15T11:00:00Z (in 3 hours): the last attempt failed
attempts     3 failed in a row
budget       0 of 4 issued for these names in 7 days
             left: 297 of 300 orders in 3 hours
last error
  at         2027-01-15T07:00:00Z (60 minutes ago)
  what       validating failed: NXDOMAIN (dns)
  class      validation
  name       new.openclaw.example
  type       urn:ietf:params:acme:error:dns
  detail     NXDOMAIN looking up A for new.openclaw.example: check that it exists
  status     400
  part       x: p: d [2J
";
        assert_eq!(details(&entries()[1], NOW), expected);
        let valid = details(&entries()[0], NOW);
        assert!(valid.contains("not after    2027-02-14T08:00:00Z (in 30 days)\n"), "{valid}");
        assert!(valid.contains("budget       1 of 4 issued"), "{valid}");
        assert!(!valid.contains("last error"), "{valid}");
    }

    #[test]
    fn found_by_name_before_host() {
        let all = entries();
        let find = |which| Entry::find(&all, which).map(|entry| entry.name.as_str());
        assert_eq!(find("web"), Some("web"));
        assert_eq!(find("B.openclaw.example."), Some("web"));
        assert_eq!(find("New.openclaw.example"), Some("new.openclaw.example"));
        assert_eq!(find("c.openclaw.example"), None);
    }

    #[test]
    fn spans() {
        for (seconds, text) in [
            (0, "now"),
            (90, "in 90 seconds"),
            (120, "in 2 minutes"),
            (7_199, "in 119 minutes"),
            (172_800, "in 2 days"),
            (-7_200, "2 hours ago"),
            (i64::MIN, "106751991167300 days ago"),
        ] {
            assert_eq!(away(seconds), text);
        }
        assert_eq!(distance("never", NOW), "never");
    }
}
