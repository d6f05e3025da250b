//! stub
use serde::{Deserialize, Serialize};
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ledger {}
#[derive(Clone, Debug)]
pub struct Limits { pub per_set_week: u32, pub per_set_hour: u32, pub per_domain_week: u32, pub orders_3h: u32, pub failures_per_host_hour: u32 }
pub struct Allowance { pub at: i64, pub why: Option<String> }
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority { Renewal, Route, Tenant }
pub enum EventKind { Order { renewal: bool }, Issued, Failed }
pub struct Event { pub at: i64, pub kind: EventKind, pub account: String, pub names: Vec<String> }
pub struct Request<'a> { pub account: &'a str, pub set: &'a [String], pub renewal: bool, pub forced: bool }
impl Ledger {
 pub fn record(&mut self, _e: Event) {}
 pub fn allowed_at(&self, _now: i64, _l: &Limits, _r: &Request<'_>) -> Allowance { todo!() }
 pub fn issued_this_week(&self, _now: i64, _s: &[String]) -> u32 { 0 }
}
