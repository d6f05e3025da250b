//! What works in limits and access rules and is probably not meant.

use std::collections::{HashMap, HashSet};

use ipnet::IpNet;

use super::super::read::shown;
use super::super::{At, Cx, Fields};
use super::limits::Placed;
use super::networks::Listed;
use crate::model::{KeyPart, LimitKey, Missing, PasswordEntry, PathRule, RateLimit, Satisfy};
use crate::node::{Node, Pos};
use crate::value::NormPath;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allowed,
    Denied,
}

// === addresses ===

impl Cx<'_> {
    /// The longest matching prefix of both lists decides, and equal ones deny.
    pub(super) fn warn_about_addresses(&mut self, allow: &[Listed], deny: &[Listed], at: &At<'_>) {
        let mut verdicts: HashMap<IpNet, Verdict> = HashMap::new();
        for (key, list, verdict) in
            [("allow", allow, Verdict::Allowed), ("deny", deny, Verdict::Denied)]
        {
            for (index, one) in list.iter().enumerate() {
                if verdicts.insert(one.net, verdict) == Some(verdict) {
                    let at = at.key(key);
                    let message = format!("{} is written twice", one.shown);
                    self.warn(one.pos, &at.index(index), message, None);
                }
            }
        }
        let allow_at = at.key("allow");
        for (index, one) in allow.iter().enumerate() {
            let at = allow_at.index(index);
            if verdicts.get(&one.net) == Some(&Verdict::Denied) {
                let message = format!("{} is denied as well, and that decides", one.shown);
                self.warn(one.pos, &at, message, Some("keep one of the two".into()));
            } else if around(&one.net, &verdicts) == Some(Verdict::Allowed) {
                let message = format!("{} lies in a network that is allowed already", one.shown);
                self.warn(one.pos, &at, message, None);
            } else if one.net.prefix_len() == 0 {
                let message = format!("every {} address is allowed", family(&one.net));
                self.warn(one.pos, &at, message, Some("without `allow` everybody is".into()));
            }
        }
        let deny_at = at.key("deny");
        let allowed = Allowed::of(allow);
        for (index, one) in deny.iter().enumerate() {
            if let Some(message) = useless_denial(one, &allowed, &verdicts) {
                self.warn(one.pos, &deny_at.index(index), message, None);
            }
        }
    }

    pub(super) fn warn_about_choice(&mut self, satisfy: Satisfy, fields: &Fields<'_, '_>) {
        if satisfy != Satisfy::Any {
            return;
        }
        let (addresses, password) =
            (fields.has("allow") || fields.has("deny"), fields.has("basic_auth"));
        let message = match (addresses, password) {
            (true, false) => "`satisfy: any` leaves no choice: there is no `basic_auth`",
            (false, true) => "`satisfy: any` leaves no choice: there is no `allow`",
            (true, true) if !fields.has("allow") => {
                "`satisfy: any` leaves no choice: without `allow` everybody needs the password"
            }
            _ => return,
        };
        self.warn(fields.pos_of("satisfy"), &fields.at.key("satisfy"), message, None);
    }
}

/// An `allow` list as a whole.
struct Allowed {
    nets: HashSet<IpNet>,
    /// The smallest network around all of them; `None`: there is none, or no list.
    around: Option<IpNet>,
}

impl Allowed {
    fn of(list: &[Listed]) -> Self {
        let nets: HashSet<IpNet> = list.iter().map(|one| one.net).collect();
        let mut each = nets.iter().copied();
        let first = each.next();
        let around = first.and_then(|first| each.try_fold(first, smallest_around));
        Allowed { nets, around }
    }
}

fn smallest_around(a: IpNet, b: IpNet) -> Option<IpNet> {
    let mut around = a;
    while !around.contains(&b) {
        around = around.supernet()?;
    }
    Some(around)
}

/// What the next wider network of the lists says.
fn around(net: &IpNet, verdicts: &HashMap<IpNet, Verdict>) -> Option<Verdict> {
    let mut wider = std::iter::successors(net.supernet(), IpNet::supernet);
    wider.find_map(|net| verdicts.get(&net).copied())
}

fn useless_denial(
    one: &Listed,
    allowed: &Allowed,
    verdicts: &HashMap<IpNet, Verdict>,
) -> Option<String> {
    match around(&one.net, verdicts) {
        Some(Verdict::Denied) => {
            Some(format!("{} lies in a network that is denied already", one.shown))
        }
        Some(Verdict::Allowed) => None,
        None if allowed.nets.is_empty() && one.net.prefix_len() == 0 => {
            Some(format!("every {} address is denied", family(&one.net)))
        }
        None if allowed.nets.is_empty() || allowed.nets.contains(&one.net) => None,
        None if allowed.around.is_some_and(|allowed| one.net.contains(&allowed)) => Some(format!(
            "{} denies nobody: every allowed network lies in it, and the longer prefix decides",
            one.shown
        )),
        None => Some(format!(
            "{} denies nobody: it lies in no allowed network, and others are refused anyway",
            one.shown
        )),
    }
}

fn family(net: &IpNet) -> &'static str {
    match net {
        IpNet::V4(_) => "IPv4",
        IpNet::V6(_) => "IPv6",
    }
}

// === passwords, exceptions ===

impl Cx<'_> {
    pub(super) fn warn_about_users(
        &mut self,
        users: &[PasswordEntry],
        place: &str,
        pos: Pos,
        at: &At<'_>,
    ) {
        let weak = users.iter().filter(|user| user.hash.is_weak()).count();
        let message = match weak {
            0 => return,
            1 => format!("a hash in {place} is unsalted SHA-1, which is soon guessed"),
            _ => format!("{weak} hashes in {place} are unsalted SHA-1, which is soon guessed"),
        };
        self.warn(pos, at, message, Some("make new ones: `htpasswd -B`".into()));
    }

    pub(super) fn warn_about_exception(
        &mut self,
        node: &Node,
        at: &At<'_>,
        route: &PathRule,
        except: &PathRule,
    ) {
        let (PathRule::Exact(served) | PathRule::Prefix(served)) = route;
        let (path, whole, text) = match except {
            PathRule::Exact(path) => (path, route == except, path.to_string()),
            PathRule::Prefix(path) => (path, under(served, path), format!("{path}/*")),
        };
        let text = shown(node, &text.replace("//", "/"));
        let message = if whole {
            format!("{text} leaves nothing of the route: nobody is asked")
        } else if !serves(route, path) {
            format!("{text} is no path of the route")
        } else {
            return;
        };
        self.warn(node.pos, at, message, None);
    }
}

fn serves(route: &PathRule, path: &NormPath) -> bool {
    match route {
        PathRule::Exact(exact) => exact == path,
        PathRule::Prefix(prefix) => under(path, prefix),
    }
}

/// Whole segments.
fn under(path: &NormPath, prefix: &NormPath) -> bool {
    let rest = path.as_str().strip_prefix(prefix.as_str().trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

// === limits ===

impl Cx<'_> {
    pub(super) fn warn_about_exempt(&mut self, exempt: &[Listed], at: &At<'_>) {
        for (index, one) in exempt.iter().enumerate() {
            if one.net.prefix_len() == 0 {
                let message = format!("every {} address is exempt", family(&one.net));
                self.warn(one.pos, &at.index(index), message, None);
            }
        }
    }

    /// Alternatives behind one that is always there.
    pub(super) fn warn_about_key(&mut self, key: &LimitKey, fields: &Fields<'_, '_>) {
        let certain = key.0.iter().position(|parts| parts.iter().all(is_always_there));
        let Some(certain) = certain else { return };
        if certain + 1 < key.0.len() {
            let message = "the last alternatives are never used: one before them is always there";
            self.warn(fields.pos_of("key"), &fields.at.key("key"), message, None);
        }
        if fields.has("missing") {
            let message = "`missing` has no effect: the key is always there";
            self.warn(fields.pos_of("missing"), &fields.at.key("missing"), message, None);
        }
    }

    pub(super) fn warn_about_limits(&mut self, limits: &[Placed], at: &At<'_>) {
        for (index, one) in limits.iter().enumerate() {
            let stricter = limits.iter().enumerate().find(|(other, stricter)| {
                *other != index
                    && refuses_before(&stricter.limit, &one.limit)
                    // Of two equal ones the second is too many.
                    && (*other < index || !refuses_before(&one.limit, &stricter.limit))
            });
            if let Some((_, stricter)) = stricter {
                let Pos { line, column } = stricter.pos;
                let message = format!(
                    "the limit never refuses: that at {line}:{column} has the same key and is stricter"
                );
                self.warn(one.pos, &at.index(index), message, None);
            }
        }
    }
}

fn is_always_there(part: &KeyPart) -> bool {
    matches!(part, KeyPart::ClientIp | KeyPart::Host | KeyPart::Route)
}

/// Whether what passes `strict` always passes `loose` as well.
fn refuses_before(strict: &RateLimit, loose: &RateLimit) -> bool {
    let same_key = strict.key == loose.key
        && strict.prefix == loose.prefix
        && (strict.missing == Missing::Refuse || strict.missing == loose.missing);
    let rate = match (strict.rate, loose.rate) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(a), Some(b)) => a.is_at_most(&b) && strict.burst <= loose.burst,
    };
    let concurrent = match (strict.concurrent, loose.concurrent) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(a), Some(b)) => a <= b,
    };
    let refusing = !strict.dry_run && !loose.dry_run;
    refusing && same_key && rate && concurrent && exempts_no_more(strict, loose)
}

/// Whether nobody is exempt from `strict` who is not exempt from `loose`.
fn exempts_no_more(strict: &RateLimit, loose: &RateLimit) -> bool {
    let loose: HashSet<IpNet> = loose.exempt.iter().copied().collect();
    strict.exempt.iter().all(|net| {
        let mut wider = std::iter::successors(Some(*net), IpNet::supernet);
        wider.any(|net| loose.contains(&net))
    })
}
