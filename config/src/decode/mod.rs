//! Stages (b) and (c): nodes to the model, entry by entry, collecting every error.
//!
//! A reader function returns `None` when it has reported an error; whoever called it goes on, so
//! that one pass finds everything.

mod acme;
pub(crate) mod cases;
mod entries;
mod fields;
mod filter;
mod forward;
mod global;
mod headers;
mod issuance;
mod kept;
pub(crate) mod keys;
mod listener;
mod policy;
mod read;
mod redirect;
mod route;
mod tenants;
mod upstream;

use std::fmt;

use crate::environment::Environment;
use crate::error::{Diagnostic, Errors};
use crate::model::{BadEntry, Candidate, Entry, TenantEntries};
use crate::node::{self, Key, Kind, Node, Pos};

pub(crate) use fields::Fields;
pub(crate) use issuance::known_names;

/// Reads a whole file. See [`crate::parse`].
pub(crate) fn file(text: &str, env: &dyn Environment) -> Result<Candidate, Errors> {
    read(text, Cx::new(env))
}

/// The same of what the state directory keeps: see [`crate::last_good`].
pub(crate) fn kept(text: &str, env: &dyn Environment) -> Result<Candidate, Errors> {
    read(text, Cx { restoring: true, ..Cx::new(env) })
}

fn read(text: &str, mut cx: Cx<'_>) -> Result<Candidate, Errors> {
    let tree = node::read(text).map_err(|error| Errors(vec![error]))?;
    let at = At::TOP;
    if matches!(tree.kind, Kind::Null) {
        let help = "write `version: 1`, then `upstreams` and `routes`";
        cx.error(tree.pos, &at, "the file is empty", Some(help.into()));
        return Err(Errors(cx.errors));
    }
    let Some(top) = cx.fields(&tree, &at, &keys::TOP) else { return Err(Errors(cx.errors)) };
    cx.version(&top);
    let (global, defaults) = cx.global(&top);
    let certificates = cx.certificates(&top, &global);
    let upstreams = cx.upstreams(&top, &defaults);
    let routes = cx.routes(&top, &defaults);
    let (templates, places) = cx.templates(&top, &defaults);
    let tests = cx.cases(&top);
    if !cx.errors.is_empty() {
        let mut errors = cx.errors;
        errors.extend(reasons(&certificates));
        errors.extend(reasons(&upstreams));
        errors.extend(reasons(&routes));
        errors.extend(reasons(&templates));
        return Err(Errors(sorted(errors)));
    }
    let tenants = match &global.tenants {
        Some(_) if cx.restoring => {
            let kept = cx.kept_tenants(&top, &defaults, &templates);
            TenantEntries { templates, kept, ..TenantEntries::default() }
        }
        Some(settings) => cx.tenants(settings, templates, &places),
        None => TenantEntries::default(),
    };
    let mut candidate = Candidate {
        global: global.into(),
        certificates,
        upstreams,
        routes,
        tenants,
        tests,
        warnings: Vec::new(),
    };
    cx.warn_about(&candidate);
    candidate.warnings = sorted(cx.warnings);
    Ok(candidate)
}

fn reasons<'e, T>(
    entries: impl IntoIterator<Item = (&'e crate::value::Name, &'e Entry<T>)>,
) -> Vec<Diagnostic>
where
    T: 'e,
{
    let bad = entries.into_iter().filter_map(|(_, entry)| match entry {
        Entry::Bad(BadEntry { reasons, .. }) => Some(reasons.clone()),
        Entry::Good(_) => None,
    });
    bad.flatten().collect()
}

/// In the order of the file.
fn sorted(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    diagnostics.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
    diagnostics
}

/// What all readers share: the environment and what was found so far.
pub(crate) struct Cx<'e> {
    env: &'e dyn Environment,
    /// The text is what the state directory keeps.
    restoring: bool,
    pub(crate) errors: Vec<Diagnostic>,
    pub(crate) warnings: Vec<Diagnostic>,
}

impl<'e> Cx<'e> {
    pub(crate) fn new(env: &'e dyn Environment) -> Self {
        Cx { env, restoring: false, errors: Vec::new(), warnings: Vec::new() }
    }

    pub(crate) fn error(
        &mut self,
        pos: Pos,
        at: &At<'_>,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        // Beyond this a report helps nobody; a file full of junk must not fill the memory.
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(diagnostic(pos, at, message.into(), help));
        }
    }

    pub(crate) fn warn(
        &mut self,
        pos: Pos,
        at: &At<'_>,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        if self.warnings.len() < MAX_ERRORS {
            self.warnings.push(diagnostic(pos, at, message.into(), help));
        }
    }

    /// The pairs of a mapping; `help` says what to write instead of anything else.
    pub(crate) fn mapping<'n>(
        &mut self,
        node: &'n Node,
        at: &At<'_>,
        help: &str,
    ) -> Option<&'n [(Key, Node)]> {
        match &node.kind {
            Kind::Map(pairs) => return Some(pairs),
            Kind::Refused(..) => self.mismatch(node, at, "a mapping"),
            kind => {
                let message = format!("expected a mapping, found {}", found(kind));
                self.error(node.pos, at, message, Some(help.to_owned()));
            }
        }
        None
    }

    /// The node is not of the kind that is needed.
    pub(crate) fn mismatch(&mut self, node: &Node, at: &At<'_>, wanted: &str) {
        if let Kind::Refused(why, help) = &node.kind {
            return self.error(node.pos, at, *why, Some((*help).into()));
        }
        let found = found(&node.kind);
        self.error(node.pos, at, format!("expected {wanted}, found {found}"), None);
    }
}

fn found(kind: &Kind) -> &'static str {
    match kind {
        Kind::Null => "nothing",
        Kind::Scalar(_) => "a single value",
        Kind::List(_) => "a list",
        Kind::Map(_) => "a mapping",
        Kind::Refused(..) => "what is refused",
    }
}

/// Most errors of one part of a file (the global part, or one entry) that are reported.
const MAX_ERRORS: usize = 1000;

fn diagnostic(pos: Pos, at: &At<'_>, message: String, help: Option<String>) -> Diagnostic {
    let (line, column) = (pos.line, pos.column);
    Diagnostic { at: at.to_string(), line, column, message, help, file: None }
}

/// Where a node stands: `routes.api.hosts[0]`. Linked, so that it costs nothing until printed.
#[derive(Clone, Copy)]
pub(crate) struct At<'p> {
    parent: Option<&'p At<'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Top,
    Key(&'p str),
    Index(usize),
}

impl<'p> At<'p> {
    pub(crate) const TOP: At<'static> = At { parent: None, step: Step::Top };

    pub(crate) fn key(&'p self, key: &'p str) -> At<'p> {
        At { parent: Some(self), step: Step::Key(key) }
    }

    pub(crate) fn index(&'p self, index: usize) -> At<'p> {
        At { parent: Some(self), step: Step::Index(index) }
    }

    /// The last key.
    pub(crate) fn name(&self) -> &'p str {
        match self.step {
            Step::Top => "the file",
            Step::Key(key) => key,
            Step::Index(_) => self.parent.map_or("the file", At::name),
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
            if !matches!(parent.step, Step::Top) && matches!(self.step, Step::Key(_)) {
                f.write_str(".")?;
            }
        }
        match self.step {
            Step::Top => Ok(()),
            Step::Key(key) => crate::error::write_escaped(key, f),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}
