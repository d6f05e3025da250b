//! The pairs of turns as a table: differences, how sure they are, the control and the verdict.

use std::fmt::Write as _;

use benches::report::{Machine, number};
use benches::stats::{Estimate, Spread};
use serde::Serialize;

use super::{Measured, Pair};
use crate::peers::Peer;

#[derive(Serialize)]
pub struct Report {
    pub machine: Machine,
    /// Program and what it says about itself.
    pub versions: Vec<(String, String)>,
    /// Fresh processes of each peer.
    pub repetitions: u16,
    /// Per peer and comparison.
    pub pairs: u32,
    pub turn_requests: u64,
    pub connections: usize,
    pub seed: u64,
    /// Case and the bytes of its request.
    pub requests: [(&'static str, String); 2],
    pub rows: Vec<Row>,
}

#[derive(Serialize)]
pub struct Row {
    pub peer: &'static str,
    #[serde(skip)]
    is_ours: bool,
    /// al against an.
    pub policies: Comparison,
    /// an against an.
    pub control: Comparison,
    /// CPU seconds per second of a turn, median.
    pub cpu_in_use: Option<f64>,
}

#[derive(Serialize)]
pub struct Comparison {
    /// CPU µs per request, medians of the first and of the second of the pairs.
    pub cpu_us: Option<Pair>,
    /// Per cent of the second over the first, within the pairs.
    pub percent: Option<Estimate>,
    /// The median of each process.
    pub process_medians: Vec<f64>,
    /// CPU µs per request, to the nanosecond, in the order they were measured.
    pub pairs: Vec<Pair>,
}

impl Row {
    pub fn new(measured: &Measured, repetitions: u16) -> Self {
        Self {
            peer: measured.peer.name(),
            is_ours: measured.peer == Peer::Edge,
            policies: Comparison::new(&measured.policies, repetitions),
            control: Comparison::new(&measured.control, repetitions),
            cpu_in_use: median(measured.cpu_in_use.iter().copied()),
        }
    }

    fn verdict(&self) -> String {
        let Some((policies, control)) = self.policies.percent.zip(self.control.percent) else {
            return "not measured".into();
        };
        if !control.contains(0.0) {
            return "not valid: the interval of the control is beside 0".into();
        }
        let verdict = if policies.median < POLICY_GOAL { "met" } else { "**not met**" };
        let open =
            if policies.contains(POLICY_GOAL) { " (the interval holds the goal)" } else { "" };
        format!("{verdict}{open}")
    }
}

impl Comparison {
    /// `pairs`: as many of each repetition, one repetition after the other.
    fn new(pairs: &[Pair], repetitions: u16) -> Self {
        let each = |pairs: &[Pair]| -> Vec<f64> {
            pairs.iter().map(|[first, second]| (second / first - 1.0) * 100.0).collect()
        };
        let of_process = (pairs.len() / usize::from(repetitions).max(1)).max(1);
        let processes = pairs.chunks(of_process);
        let cpu_us = |pick: fn(&Pair) -> f64| median(pairs.iter().map(pick));
        let rounded = |us: f64| (us * 1e3).round() / 1e3;
        Self {
            cpu_us: cpu_us(|pair| pair[0]).zip(cpu_us(|pair| pair[1])).map(Pair::from),
            percent: Estimate::of(each(pairs)),
            process_medians: processes.filter_map(|pairs| median(each(pairs))).collect(),
            pairs: pairs.iter().map(|pair| pair.map(rounded)).collect(),
        }
    }

    /// `14.8 → 15.2 | **+2.71 %** | +2.42 to +3.01 | +0.90 to +4.40 | +2.50 to +2.93`
    fn cells(&self) -> String {
        let Some((percent, [first, second])) = self.percent.zip(self.cpu_us) else {
            return "– | – | – | – | –".into();
        };
        let processes = Spread::of(self.process_medians.iter().copied());
        let processes = processes.map_or("–".into(), |s| range([s.min, s.max]));
        format!(
            "{} → {} | **{:+.2} %** | {} | {} | {processes}",
            number(first),
            number(second),
            percent.median,
            range(percent.interval),
            range(percent.quartiles),
        )
    }
}

impl Report {
    pub fn markdown(&self) -> String {
        let mut out =
            String::from("# What limits, access, CORS and header edits cost, in turns\n\n");
        out += &self.machine.markdown();
        let _ = writeln!(
            out,
            "\nOne worker, pinned; {} kept connections, one request under way on each. A turn is {} \
             requests; a pair is a turn of an (no policy) and one of al (every policy) after each \
             other on the same process, an first in one pair and last in the next. Control: an \
             against an, by the same steps in between. {} pairs per row, over {} fresh processes of \
             each peer; the peers alternate every two pairs. Order by seed {}.\n",
            self.connections,
            number_of(self.turn_requests),
            self.pairs,
            self.repetitions,
            self.seed,
        );
        self.main_table(&mut out);
        self.goal(&mut out);
        self.footer(&mut out);
        out
    }

    fn main_table(&self, out: &mut String) {
        out.push_str(
            "| peer | pair | CPU µs/request | difference, median | 95 % interval of the median | \
             quartiles | medians of the processes | CPU in use |\n|---|---|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            let used = row.cpu_in_use.map_or("–".into(), |used| format!("{used:.2}"));
            let comparisons = [("an → al", &row.policies), ("control: an → an", &row.control)];
            for (name, comparison) in comparisons {
                let _ =
                    writeln!(out, "| {} | {name} | {} | {used} |", row.peer, comparison.cells());
            }
        }
    }

    fn goal(&self, out: &mut String) {
        let Some(ours) = self.rows.iter().find(|row| row.is_ours) else { return };
        let _ = writeln!(
            out,
            "\n## Goal\n\nOurs: al less than {POLICY_GOAL:.0} % over an, by the median; the control's \
             interval must hold 0 (by chance it does not in 1 of 20 runs).\n\nVerdict: {}",
            ours.verdict(),
        );
        for row in self.rows.iter().filter(|row| !row.is_ours) {
            if let Some((ours, theirs)) = ours.policies.cpu_us.zip(row.policies.cpu_us) {
                let [an, al] = [ours[0] / theirs[0], ours[1] / theirs[1]];
                let _ = writeln!(
                    out,
                    "\nOurs / {}, ratio of medians: an {an:.2}, al {al:.2}.",
                    row.peer
                );
            }
        }
    }

    fn footer(&self, out: &mut String) {
        out.push_str("\n## How\n\n");
        for (program, version) in &self.versions {
            let _ = writeln!(out, "- {program}: {version}");
        }
        for (case, request) in &self.requests {
            let _ = write!(out, "\n{case}:\n```text\n{}\n```\n", request.replace('\r', "").trim());
        }
    }
}

fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    Spread::of(values).map(|spread| spread.median)
}

fn range([low, high]: [f64; 2]) -> String {
    format!("{low:+.2} to {high:+.2}")
}

#[allow(clippy::cast_precision_loss)]
fn number_of(count: u64) -> String {
    number(count as f64)
}

/// Per cent of CPU per request.
const POLICY_GOAL: f64 = 3.0;

#[cfg(test)]
mod tests {
    use super::*;

    /// 10 pairs, whose second is `percent` over the first, give or take 1.
    fn pairs(percent: f64) -> Vec<Pair> {
        let noise = (0..10).map(|i| f64::from(i) / 4.5 - 1.0);
        noise.map(|noise| [20.0, 20.0 * (1.0 + (percent + noise) / 100.0)]).collect()
    }

    fn row(peer: Peer, policies: f64, control: f64) -> Row {
        let (policies, control) = (pairs(policies), pairs(control));
        Row::new(&Measured { peer, policies, control, cpu_in_use: vec![0.9, 0.98, 0.99] }, 5)
    }

    #[test]
    fn differences_are_those_within_the_pairs() {
        // The machine gets slower from pair to pair; the difference stays.
        let pairs: Vec<Pair> = (1..=10).map(f64::from).map(|us| [us, us * 1.04]).collect();
        let comparison = Comparison::new(&pairs, 5);
        assert!(comparison.cells().starts_with("5.50 → 5.72 | **+4.00 %** | +4.00 to +4.00 |"));
        assert_eq!(comparison.process_medians.len(), 5);
        assert_eq!(comparison.pairs[2], [3.0, 3.12]);
        assert_eq!(Comparison::new(&[], 5).cells(), "– | – | – | – | –");
    }

    #[test]
    fn the_verdict_is_of_the_median_and_says_when_it_is_close() {
        let verdict = |policies, control| row(Peer::Edge, policies, control).verdict();
        assert_eq!(verdict(1.0, 0.0), "met");
        assert_eq!(verdict(2.9, 0.0), "met (the interval holds the goal)");
        assert_eq!(verdict(3.1, 0.0), "**not met** (the interval holds the goal)");
        assert_eq!(verdict(5.0, 0.0), "**not met**");
        assert_eq!(verdict(1.0, 1.5), "not valid: the interval of the control is beside 0");
        assert_eq!(Row::new(&Measured::new(Peer::Edge), 5).verdict(), "not measured");
    }

    #[test]
    fn the_report_shows_peers_controls_and_verdict() {
        let report = Report {
            machine: Machine::read().unwrap(),
            versions: vec![("edge".into(), "1".into())],
            repetitions: 5,
            pairs: 10,
            turn_requests: 5000,
            connections: 64,
            seed: 1,
            requests: [("an", "GET /\r\n\r\n".into()), ("al", "GET /all\r\n\r\n".into())],
            rows: vec![row(Peer::NginxFull, 6.0, 0.0), row(Peer::Edge, 5.0, 0.0)],
        };
        let text = report.markdown();
        for expected in [
            "A turn is 5,000 requests",
            "| nginx full | an → al | 20.0 → 21.2 | **+6.00 %** | ",
            "| openclaw-edge | an → al | 20.0 → 21.0 | **+5.00 %** | ",
            "| openclaw-edge | control: an → an | 20.0 → 20.0 | **+0.00 %** | -0.78 to +0.78 | ",
            " | 0.98 |\n",
            "\nVerdict: **not met**\n",
            "Ours / nginx full, ratio of medians: an 1.00, al 0.99.",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        assert!(!text.contains('\r'));
    }
}
