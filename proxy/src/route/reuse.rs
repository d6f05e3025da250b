//! What a new table takes over from the one that serves: upstreams and routes that are as they
//! were. A reload of ten thousand of them that changes one then compiles one, and what workers and
//! connections hold of the others stays what it is.

use std::iter::Peekable;
use std::slice::Iter;
use std::sync::Arc;

use config::model;
use config::value::Name;

use super::table::{Action, Route, RouteTarget, Targets};
use crate::upstream::endpoint::Upstream;
use crate::upstream::transport::Transport;

/// Entries of a table, asked for in the order of names.
pub struct InOrder<'a, T> {
    entries: Peekable<Iter<'a, Arc<T>>>,
    name: fn(&T) -> &Name,
}

impl<'a, T> InOrder<'a, T> {
    /// `entries` in name order.
    pub fn new(entries: &'a [Arc<T>], name: fn(&T) -> &Name) -> InOrder<'a, T> {
        InOrder { entries: entries.iter().peekable(), name }
    }

    /// The one of this name. Names must come in ascending order.
    pub fn find(&mut self, wanted: &Name) -> Option<&'a Arc<T>> {
        while self.entries.next_if(|entry| (self.name)(entry) < wanted).is_some() {}
        self.entries.next_if(|entry| (self.name)(entry) == wanted)
    }
}

/// The former upstream where nothing of it has changed; its endpoints are followed by themselves.
/// Reads the files of its TLS.
pub fn upstream(former: &Arc<Upstream>, spec: &Arc<model::Upstream>) -> Option<Arc<Upstream>> {
    if !same(&former.spec, spec) {
        return None;
    }
    let transport = Transport::compile(spec, Some(&former.transport));
    Arc::ptr_eq(&transport, &former.transport).then(|| former.clone())
}

/// The former route where nothing of it has changed, nor of where it leads.
pub fn route(
    former: &Arc<Route>,
    spec: &Arc<model::Route>,
    upstream: impl Fn(&Name) -> Option<Arc<Upstream>>,
) -> Option<Arc<Route>> {
    if !former.spec.as_ref().is_some_and(|former| same(former, spec)) {
        return None;
    }
    let leads_there = match &former.action {
        Action::Forward(Targets::One(target)) => serves(target, upstream),
        Action::Respond(_) => true,
        // Weights are shifted, ports are those of listeners: compiling them is little.
        Action::Forward(Targets::Split(_)) | Action::Redirect(_) | Action::Quarantined => false,
    };
    leads_there.then(|| former.clone())
}

fn serves(target: &RouteTarget, upstream: impl Fn(&Name) -> Option<Arc<Upstream>>) -> bool {
    upstream(&target.upstream.name).is_some_and(|now| Arc::ptr_eq(&now, &target.upstream))
}

fn same<T: PartialEq>(a: &Arc<T>, b: &Arc<T>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}
