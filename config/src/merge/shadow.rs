//! Routes that another route of the same host leaves nothing to. Two routes with one claim are a
//! clash, which `routes` settles; here is what is written differently and matches the same.

use std::collections::{BTreeMap, HashMap};

use super::routes::overlap;
use super::{Accepted, shown};
use crate::error::Diagnostic;
use crate::model::{Good, PathRule, Route};
use crate::value::HostPattern;

/// What `find` tells routes apart by, before methods: `/api` and `/api/` are one prefix.
type Place<'r> = (&'r HostPattern, bool, &'r str);

impl Accepted {
    /// Of the config file. A tenant's route that would be one is refused.
    pub(super) fn shadowed_routes(&self) -> Vec<Diagnostic> {
        let mut places: HashMap<Place<'_>, Vec<&Good<Route>>> = HashMap::new();
        // In the order of names, which is the order that decides between equals.
        for route in self.routes.values() {
            for host in &route.value.hosts {
                places.entry(place(host, &route.value.path)).or_default().push(route);
            }
        }
        let mut found: BTreeMap<&str, Diagnostic> = BTreeMap::new();
        for route in self.routes.values() {
            let others = |host| {
                let others = places.get(&place(host, &route.value.path));
                others.map(Vec::as_slice).unwrap_or_default()
            };
            let finding = route.value.hosts.iter().find_map(|host| {
                same_place(route, host, others(host))
                    .or_else(|| no_method(route, host, others(host)))
            });
            found.extend(finding.map(|finding| (route.value.name.as_str(), finding)));
        }
        found.into_values().collect()
    }
}

fn place<'r>(host: &'r HostPattern, path: &'r PathRule) -> Place<'r> {
    let (exact, path) = place_of(path);
    (host, exact, path)
}

pub(super) fn place_of(path: &PathRule) -> (bool, &str) {
    match path {
        PathRule::Exact(path) => (true, path.as_str()),
        PathRule::Prefix(path) => (false, path.as_str().trim_end_matches('/')),
    }
}

/// An earlier route with the same prefix, one of them written with `/` at its end.
fn same_place(
    route: &Good<Route>,
    host: &HostPattern,
    others: &[&Good<Route>],
) -> Option<Diagnostic> {
    let name = &route.value.name;
    let winner = others
        .iter()
        .take_while(|other| other.value.name != *name)
        .find(|other| overlap(&route.value, &other.value))?;
    let (PathRule::Exact(path) | PathRule::Prefix(path)) = &route.value.path;
    let message = format!(
        "`{}` has the requests of {} at {} already: with or without `/` at the end is one prefix",
        winner.value.name,
        shown(&route.text, &host.to_string()),
        shown(&route.text, path.as_str()),
    );
    let help = "remove one of the two routes, or give them different methods";
    Some(finding(route, "path", message, help))
}

/// Others have every usual method of a route for all methods.
fn no_method(
    route: &Good<Route>,
    host: &HostPattern,
    others: &[&Good<Route>],
) -> Option<Diagnostic> {
    if !route.value.methods.is_empty() {
        return None;
    }
    let taken = |method: &str| {
        others.iter().any(|other| other.value.methods.iter().any(|one| one.as_str() == method))
    };
    if !USUAL.iter().all(|method| taken(method)) {
        return None;
    }
    let host = shown(&route.text, &host.to_string());
    let message = format!("other routes have every usual method of {host} at this path");
    Some(finding(route, "methods", message, "remove the route, or some of their `methods`"))
}

fn finding(route: &Good<Route>, key: &str, message: String, help: &str) -> Diagnostic {
    Diagnostic {
        at: format!("routes.{}.{key}", route.value.name),
        line: route.line,
        column: 0,
        message,
        help: Some(help.to_owned()),
        file: None,
    }
}

const USUAL: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

#[cfg(test)]
mod tests {
    use crate::environment::NoEnvironment;
    use crate::merge::merge;
    use crate::parse;

    fn warnings(routes: &str) -> Vec<String> {
        let text = format!(
            "version: 1\nlisteners: {{ web: {{ bind: ['127.0.0.1:0'] }} }}\nroutes: {{ {routes} }}\n"
        );
        let accepted = merge(None, parse("edge.yaml", &text, &NoEnvironment).unwrap());
        assert_eq!(accepted.quarantined, []);
        let shown = |warning: &crate::Diagnostic| format!("{}: {}", warning.at, warning.message);
        accepted.warnings.iter().map(shown).collect()
    }

    const ANSWER: &str = "respond: { status: 200 }";

    #[test]
    fn a_slash_at_the_end_is_no_other_prefix() {
        let found = warnings(&format!(
            "a: {{ hosts: [x.y, a.x], path: /api, {ANSWER} }}, b: {{ hosts: [a.x], path: /api/, {ANSWER} }}"
        ));
        assert_eq!(
            found,
            [
                "routes.b.path: `a` has the requests of `a.x` at `/api/` already: with or without `/` \
              at the end is one prefix"
            ]
        );
        for (a, b) in [
            // Methods go first; other methods; other hosts; exact paths are told apart.
            ("path: /api, hosts: [a.x], methods: [GET]", "path: /api/, hosts: [a.x]"),
            (
                "path: /api, hosts: [a.x], methods: [GET]",
                "path: /api/, hosts: [a.x], methods: [PUT]",
            ),
            ("path: /api, hosts: [a.x]", "path: /api/, hosts: [b.x]"),
            ("path: { exact: /api }, hosts: [a.x]", "path: { exact: /api/ }, hosts: [a.x]"),
            ("path: /api, hosts: [a.x]", "path: { exact: /api/ }, hosts: [a.x]"),
            ("path: /, hosts: [a.x]", "path: /api, hosts: [a.x]"),
        ] {
            let routes = format!("a: {{ {a}, {ANSWER} }}, b: {{ {b}, {ANSWER} }}");
            assert_eq!(warnings(&routes), [""; 0], "{routes}");
        }
    }

    #[test]
    fn a_route_that_is_left_no_usual_method() {
        let routes = |methods: &str| {
            format!(
                "a: {{ hosts: [a.x], {ANSWER} }}, \
                 b: {{ hosts: [a.x], methods: [GET, HEAD, OPTIONS, POST], {ANSWER} }}, \
                 c: {{ hosts: [a.x], methods: [{methods}], {ANSWER} }}"
            )
        };
        assert_eq!(
            warnings(&routes("PUT, PATCH, DELETE")),
            ["routes.a.methods: other routes have every usual method of `a.x` at this path"]
        );
        assert_eq!(warnings(&routes("PUT, PATCH")), [""; 0]);
    }
}
