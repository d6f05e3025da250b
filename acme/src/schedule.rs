//! stub
use serde::{Deserialize, Serialize};
use crate::ca::{Failure, RenewalInfo};
pub struct Leaf { pub not_before: i64, pub not_after: i64 }
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct AriWindow { pub cert_id: String, pub start: i64, pub end: i64, pub selected: i64, pub explanation_url: Option<String>, pub poll_at: i64 }
impl AriWindow { pub fn select(_f: Option<&AriWindow>, _id: &str, _i: &RenewalInfo, _now: i64) -> AriWindow { todo!() } }
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct Retry { pub failures: u32, pub last: Option<Failure>, pub failed_at: i64, pub next_at: i64 }
impl Retry { pub fn after(&self, _f: &Failure, _now: i64) -> Retry { todo!() } }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why { Missing }
impl std::fmt::Display for Why { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("x") } }
pub enum Next { RenewNow(Why), WaitUntil { at: i64, why: String } }
pub struct Situation<'a> { pub now: i64, pub leaf: Option<&'a Leaf>, pub leaf_id: Option<&'a str>, pub ari: Option<&'a AriWindow>, pub retry: &'a Retry, pub forced: bool, pub issuer_changed: bool, pub jitter: f64, pub allowance: &'a crate::ledger::Allowance }
pub fn next(_s: &Situation<'_>) -> Next { todo!() }
