//! The client that limits on credentials are for: PyPI's `openai` with its own retries, before a
//! backend that streams. Every stream is compared by its hash at both ends.

use std::collections::HashMap;
use std::process::Command;

use serde_json::{Value, json};

use super::{HOST, millis};
use crate::harness::service::{self, Kind, Service};
use crate::harness::{Conf, Edge, Lab};

struct Chat {
    edge: Edge,
    model: Service,
}

impl Chat {
    fn start(limit: &str) -> Chat {
        let lab = Lab::new();
        let model = Service::start(&lab, Kind::Chat, "model");
        let route = format!("rate_limits: [{{ name: credential, {limit} }}]");
        let conf = Conf::app_with(&[model.addr], "", &route).workers(2);
        Chat { edge: Edge::start_in(&lab, &conf), model }
    }

    /// What the client says of each task, in the order of their ends.
    fn ask(&self, tasks: &[&str], more: &Value) -> Vec<Value> {
        let script = self.edge.lab.write("client.py", include_str!("openai_client.py"));
        let mut spec = json!({
            "host": HOST, "port": self.edge.https.port(), "ca": self.edge.ca(), "tasks": tasks,
            "at_once": false, "retries": 5, "pieces": 300, "pause": 0.0,
        });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut command = Command::new("python3");
        command.arg(script).arg(spec.to_string()).env("PYTHONPATH", service::openai());
        let output = command.env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        let lines = String::from_utf8(output.stdout).unwrap();
        let told: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(told.len(), tasks.len(), "{lines}{stderr}");
        told
    }

    /// No error, and every byte and character is what the model has sent, once.
    fn assert_intact(&self, told: &[Value]) {
        let sent = self.model.told();
        let sent: HashMap<&str, &Value> =
            sent.iter().map(|line| (line["task"].as_str().unwrap(), line)).collect();
        assert_eq!(sent.len(), told.len());
        for got in told {
            assert!(got["error"].is_null(), "{got}");
            let sent = sent[got["task"].as_str().unwrap()];
            assert_eq!((&got["bytes"], &got["text"]), (&sent["bytes"], &sent["text"]), "{got}");
        }
    }

    /// Status and time of the attempts of a task, as the edge logged them; milliseconds.
    fn attempts(&self, task: &str) -> Vec<(u64, u64)> {
        let path = format!("/{task}/v1/chat/completions");
        let log = self.edge.access_log();
        let its = log.iter().filter(|line| line["path"] == path.as_str());
        let mut attempts: Vec<(u64, u64)> =
            its.map(|line| (line["status"].as_u64().unwrap(), millis(line))).collect();
        attempts.sort_by_key(|(_, time)| *time);
        attempts
    }
}

const DAY: u64 = 24 * 3600 * 1000;

/// By itself it would try again after at most half a second: it waits as long as it is told.
#[test]
fn its_retries_wait_as_long_as_they_are_told() {
    let chat = Chat::start("key: \"header:authorization\", rate: 20/m, burst: 2");
    let told = chat.ask(&["one", "two", "three", "four"], &json!({}));
    chat.assert_intact(&told);
    let mut refused = 0;
    for got in &told {
        let task = got["task"].as_str().unwrap();
        let logged = format!("/{task}/v1/chat/completions");
        chat.edge.wait_log("path", &logged);
        let waits = got["waits"].as_array().unwrap();
        let attempts = crate::harness::eventually("a line for each attempt", || {
            Some(chat.attempts(task)).filter(|attempts| attempts.len() == waits.len() + 1)
        });
        let (passed, before) = attempts.split_last().unwrap();
        assert_eq!(passed.0, 200, "{attempts:?}");
        assert!(before.iter().all(|(status, _)| *status == 429), "{attempts:?}");
        // It comes once too early at most where the machine stalls it: never twice.
        assert!(before.len() <= 1, "{attempts:?}");
        for (wait, pair) in waits.iter().zip(attempts.windows(2)) {
            let seconds: u64 = wait[1].as_str().unwrap().parse().unwrap();
            let gap = (pair[1].1 + DAY - pair[0].1) % DAY;
            assert!((1..=3).contains(&seconds) && gap >= seconds * 1000, "{gap} ms: {got}");
        }
        refused += before.len();
    }
    // The burst has two places, and a third comes after three seconds.
    assert!(refused > 0, "nothing was refused: {told:?}");
}

#[test]
fn more_streams_than_places_come_one_after_the_other() {
    let chat = Chat::start("key: \"header:authorization\", concurrent: 2");
    let tasks = ["a", "b", "c", "d", "e", "f"];
    let more = json!({ "at_once": true, "retries": 30, "pieces": 400, "pause": 0.02 });
    let told = chat.ask(&tasks, &more);
    chat.assert_intact(&told);
    let at_once = chat.model.told().iter().map(|line| line["at_once"].as_u64()).max();
    assert!(at_once.unwrap() <= Some(2), "{at_once:?}");
    let waits: usize = told.iter().map(|got| got["waits"].as_array().unwrap().len()).sum();
    assert!(waits > 0, "nothing was refused: {told:?}");
    let told_wait = |wait: &Value| wait[0] == 429 && wait[1] == "1";
    assert!(told.iter().all(|got| got["waits"].as_array().unwrap().iter().all(told_wait)));
    let lines = chat.edge.access_log();
    assert!(lines.iter().any(|line| line["cause"] == "too_many_streams"), "{lines:?}");
}

/// A program that does not try again is told in the words of its client.
#[test]
fn a_refusal_is_an_error_that_it_knows() {
    let chat = Chat::start("key: \"header:authorization\", rate: 1/h, burst: 1");
    let told = chat.ask(&["one", "two"], &json!({ "retries": 0 }));
    assert!(told[0]["error"].is_null(), "{}", told[0]);
    let error = &told[1]["error"];
    assert_eq!(error["kind"], "RateLimitError", "{error}");
    assert_eq!(error["code"], "rate_limit_exceeded", "{error}");
    assert_eq!(error["type"], "rate_limit_exceeded", "{error}");
    assert!(error["message"].as_str().unwrap().contains("cause: rate_limited"), "{error}");
    let line = chat.edge.wait_log("limit", "credential");
    assert_eq!(error["request_id"], line["request_id"], "{error}");
}
