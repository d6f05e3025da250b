//! The samples of a whole run as one table: medians, spread, ratios, goals; Markdown and JSON.

use std::fmt::Write as _;

use benches::report::{Machine, number};
use benches::stats::Spread;
use serde::Serialize;

use crate::cases::{Case, Goal};
use crate::measure::Sample;

#[derive(Serialize)]
pub struct Table {
    pub machine: Machine,
    /// Program and what it says about itself.
    pub versions: Vec<(String, String)>,
    pub repetitions: usize,
    pub seconds: u64,
    pub idle_connections: usize,
    /// Ratios divide by this peer.
    pub reference: &'static str,
    pub rows: Vec<Row>,
}

#[derive(Serialize)]
pub struct Row {
    pub case: &'static str,
    pub what: &'static str,
    pub unit: &'static str,
    pub goal: Option<Goal>,
    pub command: String,
    pub cells: Vec<Cell>,
}

#[derive(Serialize)]
pub struct Cell {
    pub peer: &'static str,
    pub value: Option<Spread>,
    /// Of medians, to the reference.
    pub ratio: Option<f64>,
    pub errors: u64,
    /// One per repetition, in order.
    pub samples: Vec<Sample>,
}

impl Row {
    /// `samples`: peers in order, each with its repetitions.
    pub fn new(
        case: &Case,
        seconds: u64,
        reference: &'static str,
        samples: Vec<(&'static str, Vec<Sample>)>,
    ) -> Self {
        let mut cells: Vec<Cell> = samples
            .into_iter()
            .map(|(peer, samples)| Cell {
                peer,
                value: Spread::of(samples.iter().filter_map(|s| s.value)),
                ratio: None,
                errors: samples.iter().map(|s| s.said.errors).sum(),
                samples,
            })
            .collect();
        let base = cells.iter().find(|cell| cell.peer == reference).and_then(|c| c.value);
        for cell in &mut cells {
            cell.ratio = cell.value.zip(base).map(|(v, base)| v.median / base.median);
        }
        let words = case.argv("load", "P", "T", seconds);
        let command = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        let Case { id, what, goal, .. } = *case;
        Self { case: id, what, unit: case.unit(), goal, command, cells }
    }

    fn cell(&self, peer: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.peer == peer)
    }
}

impl Cell {
    fn median(&self, pick: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        Spread::of(self.samples.iter().filter_map(pick)).map(|s| s.median)
    }

    /// `8.43 [8.11–8.51] **0.75** · 112,701 · 0.95`, errors shown.
    fn text(&self) -> String {
        let mut text = match self.value {
            Some(value) => spread(value),
            None if self.samples.is_empty() => return "–".to_owned(),
            None => "failed".to_owned(),
        };
        if let Some(ratio) = self.ratio {
            let _ = write!(text, " **{ratio:.2}**");
        }
        if let Some(rate) = self.median(|s| s.requests_per_second) {
            let _ = write!(text, " · {}", number(rate));
        }
        if let Some(used) = self.median(|s| s.cpu_in_use) {
            let _ = write!(text, " · {used:.2}");
        }
        if self.errors > 0 {
            let first = self.samples.iter().find_map(|s| s.said.error_text.as_deref());
            let first = first.unwrap_or_default().replace('|', "\\|").replace('\n', " ");
            let _ = write!(text, " · **{} ERRORS** ({first})", self.errors);
        }
        text
    }
}

impl Table {
    pub fn errors(&self) -> u64 {
        self.rows.iter().flat_map(|row| &row.cells).map(|cell| cell.errors).sum()
    }

    pub fn markdown(&self) -> String {
        let mut out = String::from("# openclaw-edge and its peers under load\n\n");
        out += &self.machine.markdown();
        out += "\n";
        self.main_table(&mut out);
        self.goal_table(&mut out);
        self.latency_table(&mut out);
        self.memory_table(&mut out);
        self.footer(&mut out);
        out
    }

    fn main_table(&self, out: &mut String) {
        let peers = self.peers();
        let _ = writeln!(
            out,
            "One worker, pinned; {} repetitions of {} s, peers interleaved. Cell: median [min–max] \
             **ratio of medians to {}** · requests/s · CPU in use. Lower is better.\n",
            self.repetitions, self.seconds, self.reference
        );
        let _ = writeln!(out, "| case | what | unit | {} |", peers.join(" | "));
        let _ = writeln!(out, "|---|---|---|{}", "---|".repeat(peers.len()));
        for row in &self.rows {
            let cells: Vec<String> = row.cells.iter().map(Cell::text).collect();
            let Row { case, what, unit, .. } = row;
            let _ = writeln!(out, "| {case} | {what} | {unit} | {} |", cells.join(" | "));
        }
    }

    /// Ours against the goals, once per other peer.
    fn goal_table(&self, out: &mut String) {
        let peers = self.peers();
        let Some(ours) = peers.iter().copied().find(|peer| *peer == OURS) else { return };
        let others: Vec<&str> = peers.into_iter().filter(|peer| *peer != ours).collect();
        let _ = writeln!(
            out,
            "\n## Goals\n\nRatio of medians [min–max of the ratios within one repetition]. \
             Differences under 10 % are not decided by this method.\n"
        );
        let against: Vec<String> = others.iter().map(|peer| format!("ours / {peer}")).collect();
        let _ = writeln!(out, "| case | {} | goal (design.md §6) | verdict |", against.join(" | "));
        let _ = writeln!(out, "|---|{}---|---|", "---|".repeat(others.len()));
        for row in &self.rows {
            let Some(mine) = row.cell(ours) else { continue };
            let ratios: Vec<String> = others
                .iter()
                .map(|peer| row.cell(peer).and_then(|theirs| ratio(mine, theirs)))
                .map(|text| text.unwrap_or_else(|| "–".into()))
                .collect();
            let (goal, verdict) = verdict(row.goal, mine);
            let _ = writeln!(out, "| {} | {} | {goal} | {verdict} |", row.case, ratios.join(" | "));
        }
    }

    fn latency_table(&self, out: &mut String) {
        let p50 = |cell: &Cell| cell.median(|s| s.said.p50_us);
        if self.rows.iter().flat_map(|row| &row.cells).all(|cell| p50(cell).is_none()) {
            return;
        }
        let peers = self.peers();
        let _ = writeln!(
            out,
            "\n## Latency in the closed loop, p50 / p99 in µs\n\nMedians over the repetitions. At \
             saturation these follow the throughput; tails are the machine's. Not comparable \
             under 10 %.\n\n| case | {} |\n|---|{}",
            peers.join(" | "),
            "---|".repeat(peers.len())
        );
        for row in self.rows.iter().filter(|row| row.cells.iter().any(|c| p50(c).is_some())) {
            let cells = row.cells.iter().map(|cell| {
                let both = p50(cell).zip(cell.median(|s| s.said.p99_us));
                both.map_or("–".into(), |(a, b)| format!("{} / {}", number(a), number(b)))
            });
            let _ = writeln!(out, "| {} | {} |", row.case, cells.collect::<Vec<_>>().join(" | "));
        }
    }

    fn memory_table(&self, out: &mut String) {
        let idle = |row: &&Row| row.unit.starts_with("KiB");
        if !self.rows.iter().any(|row| idle(&row)) {
            return;
        }
        let peers = self.peers();
        let _ = writeln!(
            out,
            "\n## Memory (PSS of all processes, user space only; {} idle connections)\n\nMiB before \
             the connections · KiB per connection still held 1 s after they are closed.\n\n\
             | case | {} |\n|---|{}",
            self.idle_connections,
            peers.join(" | "),
            "---|".repeat(peers.len())
        );
        for row in self.rows.iter().filter(idle) {
            let cells = row.cells.iter().map(|cell| {
                let both = cell.median(|s| s.rest_mib).zip(cell.median(|s| s.kept_kib));
                both.map_or("–".into(), |(a, b)| format!("{} · {b:.2}", number(a)))
            });
            let _ = writeln!(out, "| {} | {} |", row.case, cells.collect::<Vec<_>>().join(" | "));
        }
    }

    fn footer(&self, out: &mut String) {
        out.push_str("\n## How\n\n");
        for (program, version) in &self.versions {
            let _ = writeln!(out, "- {program}: {version}");
        }
        let samples = || self.rows.iter().flat_map(|r| &r.cells).flat_map(|c| &c.samples);
        if let Some(cipher) = samples().find_map(|s| s.said.cipher.as_deref()) {
            let _ = writeln!(out, "- cipher of h2load's runs: {cipher}");
        }
        if let Some(share) = self.resumed_share() {
            let _ = writeln!(out, "- resumed handshakes in case dr: at least {share:.1} %");
        }
        out.push_str("\n```text\n");
        for row in self.rows.iter().filter(|row| !row.command.is_empty()) {
            let _ = writeln!(out, "{:5} {}", row.case, row.command);
        }
        out.push_str("```\n");
    }

    /// The least share of resumed handshakes of any sample of case dr, per cent.
    #[allow(clippy::cast_precision_loss)]
    fn resumed_share(&self) -> Option<f64> {
        let row = self.rows.iter().find(|row| row.case == "dr")?;
        let shares = row.cells.iter().flat_map(|cell| &cell.samples).filter_map(|sample| {
            Some(sample.said.resumed? as f64 / sample.said.requests as f64 * 100.0)
        });
        Spread::of(shares).map(|s| s.min)
    }

    fn peers(&self) -> Vec<&'static str> {
        let cells = self.rows.first().map(|row| row.cells.as_slice()).unwrap_or_default();
        cells.iter().map(|cell| cell.peer).collect()
    }
}

const OURS: &str = "openclaw-edge";

/// For a shell.
fn quoted(word: &str) -> String {
    if word.contains([' ', ';', '*']) { format!("'{word}'") } else { word.to_owned() }
}

fn spread(Spread { median, min, max }: Spread) -> String {
    format!("{} [{}–{}]", number(median), number(min), number(max))
}

fn ratio(ours: &Cell, theirs: &Cell) -> Option<String> {
    let of_medians = ours.value?.median / theirs.value?.median;
    let pairs = ours.samples.iter().zip(&theirs.samples);
    let each = Spread::of(pairs.filter_map(|(a, b)| Some(a.value? / b.value?)))?;
    Some(format!("**{of_medians:.2}** [{:.2}–{:.2}]", each.min, each.max))
}

fn verdict(goal: Option<Goal>, ours: &Cell) -> (String, &'static str) {
    let (text, reached) = match goal {
        None => return ("–".into(), "–"),
        Some(Goal::Ratio(goal)) => (format!("≤ {goal:.2}"), ours.ratio.map(|r| r <= goal)),
        Some(Goal::Kib(goal)) => {
            (format!("≤ {goal:.0} KiB"), ours.value.map(|value| value.median <= goal))
        }
    };
    let verdict = match reached {
        _ if ours.errors > 0 => "invalid: errors",
        None => "not measured",
        Some(true) => "met",
        Some(false) => "**not met**",
    };
    (text, verdict)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::select;

    fn samples(values: &[f64]) -> Vec<Sample> {
        values.iter().map(|v| Sample { value: Some(*v), ..Sample::default() }).collect()
    }

    fn row(case: &str, ours: Vec<Sample>) -> Row {
        let peers = vec![("nginx full", samples(&[10.0, 12.0, 11.0])), (OURS, ours)];
        Row::new(&select(case).unwrap()[0], 3, "nginx full", peers)
    }

    #[test]
    fn ratio_of_medians_and_spread_within_repetitions() {
        let row = row("a", samples(&[7.0, 6.0, 8.8]));
        assert!((row.cells[1].ratio.unwrap() - 7.0 / 11.0).abs() < 1e-9);
        assert_eq!(ratio(&row.cells[1], &row.cells[0]).unwrap(), "**0.64** [0.50–0.80]");
        assert_eq!(row.cells[1].text(), "7.00 [6.00–8.80] **0.64**");
        assert_eq!(verdict(row.goal, &row.cells[1]), ("≤ 0.75".into(), "met"));
        assert!(row.command.contains("-d3s --latency '-HHost: app.openclaw.example' http://"));
    }

    #[test]
    fn a_goal_in_kib_is_absolute() {
        let row = row("idle-tls", samples(&[12.1, 12.1, 12.1]));
        assert_eq!(verdict(row.goal, &row.cells[1]), ("≤ 12 KiB".into(), "**not met**"));
    }

    #[test]
    fn errors_are_shown_and_no_goal_is_met_with_them() {
        let mut bad = samples(&[1.0, 1.0, 1.0]);
        bad[1].said.errors = 3;
        bad[1].said.error_text = Some("Socket errors: read 3".into());
        let row = row("a", bad);
        assert_eq!(verdict(row.goal, &row.cells[1]).1, "invalid: errors");
        assert!(row.cells[1].text().ends_with("**3 ERRORS** (Socket errors: read 3)"));
    }
}
