//! Attempts to have a request answered by an endpoint, as metrics see them.

use crate::local::Local;
use crate::request::cause::Cause;
use crate::upstream::endpoint::Upstream;

/// Counts an attempt that did not end well.
pub fn failed(local: &Local, upstream: &Upstream, cause: Cause) {
    let metrics = &local.shared.metrics;
    let name = upstream.name.as_str();
    metrics.upstream_requests.with_label_values(&[name, cause.code()]).inc();
    if cause == Cause::ClientGone {
        metrics.upstream_cancelled.with_label_values(&[name]).inc();
    }
}
