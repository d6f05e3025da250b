//! Backends fail, and what users notice of it.

mod balance;
mod ejection;
mod limits;
mod matrix;
mod outage;
mod replay;
mod retry;
mod rolling;
mod timeouts;
mod transport;
