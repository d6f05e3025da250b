//! `access:` of a route: address lists, passwords, exceptions.

use super::super::{At, Cx, Fields, keys};
use super::networks::nets;
use crate::defaults;
use crate::interpolate::is_interpolated;
use crate::model::{Access, BasicAuth, PasswordEntry, PathRule, Satisfy};
use crate::node::{Kind, Node};
use crate::value::{NormPath, ValueError, htpasswd, quote};

impl Cx<'_> {
    pub(crate) fn access(&mut self, node: &Node, at: &At<'_>) -> Option<Access> {
        self.mapping(node, at, "write `{ allow: [192.0.2.0/24] }`")?;
        let fields = self.fields(node, at, &keys::ACCESS)?;
        let allow = self.field(&fields, "allow", Self::networks);
        let deny = self.field(&fields, "deny", Self::networks);
        let satisfy = self.field(&fields, "satisfy", |cx, node, at| {
            cx.word(node, at, &[("all", Satisfy::All), ("any", Satisfy::Any)])
        });
        let satisfy = satisfy.unwrap_or_default();
        let basic_auth = self.field(&fields, "basic_auth", Self::basic_auth);
        let except = self.field(&fields, "except", Self::exceptions);
        if !["allow", "deny", "basic_auth"].iter().any(|key| fields.has(key)) {
            let help = "write `allow`, `deny` or `basic_auth`, or remove `access`";
            self.error(node.pos, at, "everybody may use the route", Some(help.into()));
        }
        self.warn_about_addresses(
            allow.as_deref().unwrap_or_default(),
            deny.as_deref().unwrap_or_default(),
            at,
        );
        self.warn_about_choice(satisfy, &fields);
        Some(Access {
            allow: nets(allow),
            deny: nets(deny),
            basic_auth,
            satisfy,
            except: except.unwrap_or_default(),
        })
    }

    /// The lines of an htpasswd file, or a mapping with them.
    fn basic_auth(&mut self, node: &Node, at: &At<'_>) -> Option<BasicAuth> {
        if let Kind::Scalar(_) = node.kind {
            let users = self.users(node, at)?;
            return Some(BasicAuth { users, realm: defaults::REALM.to_owned() });
        }
        self.mapping(node, at, WRITE_USERS)?;
        let fields = self.fields(node, at, &keys::BASIC_AUTH)?;
        let users = self.required(&fields, "users", Self::users);
        let realm = self.field(&fields, "realm", |cx, node, at| cx.value(node, at, realm));
        let realm = realm.unwrap_or_else(|| defaults::REALM.to_owned());
        Some(BasicAuth { users: users?, realm })
    }

    fn users(&mut self, node: &Node, at: &At<'_>) -> Option<Vec<PasswordEntry>> {
        if let Kind::List(_) = node.kind {
            let message = "expected the lines of an htpasswd file as one text, found a list";
            self.error(node.pos, at, message, Some(WRITE_USERS.into()));
            return None;
        }
        let text = self.text(node, at)?;
        let place = match &node.kind {
            Kind::Scalar(scalar) if is_interpolated(&scalar.text) => {
                format!("what {} gives", quote(&scalar.text))
            }
            _ => "the htpasswd".to_owned(),
        };
        if text.starts_with('/') && !text.contains([':', '\n']) {
            let message = "expected the lines of an htpasswd file, found a path";
            self.error(node.pos, at, message, Some(WRITE_USERS.into()));
            return None;
        }
        let users = match htpasswd(&text) {
            Ok(users) => users,
            Err(bad) => {
                for bad in bad.iter().take(MAX_BAD_LINES) {
                    let message = format!("line {} of {place}: {}", bad.line, bad.message);
                    self.error(node.pos, at, message, bad.help.map(str::to_owned));
                }
                if let Some(more) = bad.len().checked_sub(MAX_BAD_LINES).filter(|more| *more > 0) {
                    let message = format!("{more} more lines of {place} cannot be used");
                    self.error(node.pos, at, message, None);
                }
                return None;
            }
        };
        if users.is_empty() {
            let message = format!("there is no user in {place}: nobody could come in");
            self.error(node.pos, at, message, Some("make one: `htpasswd -nB NAME`".into()));
        }
        if users.len() > MAX_USERS {
            let message = format!("more than {MAX_USERS} users in {place}");
            self.error(node.pos, at, message, None);
        }
        self.warn_about_users(&users, &place, node.pos, at);
        Some(users)
    }

    fn exceptions(&mut self, node: &Node, at: &At<'_>) -> Option<Vec<PathRule>> {
        let read = |cx: &mut Self, node: &Node, at: &At<'_>| cx.value(node, at, exception);
        self.distinct_by(node, at, 0..=MAX_EXCEPTIONS, read, PathRule::clone, |_, _| {
            ("the path is written twice".to_owned(), None)
        })
    }

    /// Exceptions of paths that the route does not serve, or that leave nothing of it.
    pub(crate) fn warn_about_exceptions(
        &mut self,
        fields: &Fields<'_, '_>,
        route: &PathRule,
        access: &Access,
    ) {
        let Some(Kind::Map(pairs)) = fields.get("access").map(|node| &node.kind) else { return };
        let list = pairs.iter().find(|(key, _)| key.text == "except").map(|(_, list)| &list.kind);
        let Some(Kind::List(items)) = list else { return };
        let at = fields.at.key("access");
        let at = at.key("except");
        for (index, (node, rule)) in items.iter().zip(&access.except).enumerate() {
            self.warn_about_exception(node, &at.index(index), route, rule);
        }
    }
}

/// `/x` is that path, `/x/*` that and everything below.
fn exception(text: &str) -> Result<PathRule, ValueError> {
    if let Some(stem) = text.strip_suffix("/*") {
        let stem = if stem.is_empty() { "/" } else { stem };
        let rule = without_star(stem, text)?;
        return Ok(PathRule::Prefix(rule));
    }
    without_star(text, text).map(PathRule::Exact)
}

fn without_star(path: &str, text: &str) -> Result<NormPath, ValueError> {
    if path.contains('*') {
        let message = format!("{}: `*` stands for whole segments at the end", quote(text));
        let help = "write `/x` for one path, `/x/*` for it and what lies below";
        return Err(ValueError::new("a path such as `/webhook/*`", message).help(help));
    }
    NormPath::parse(path)
}

/// What stands between the quotes of a quoted-string (RFC 9110 §5.6.4) without escapes.
fn realm(text: &str) -> Result<String, ValueError> {
    let plain = |b: u8| (b == b' ' || b.is_ascii_graphic()) && b != b'"' && b != b'\\';
    if (1..=MAX_REALM).contains(&text.len()) && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    let message = format!("{} is no realm", quote(text));
    Err(ValueError::new("a realm", message)
        .help("use 1 to 128 printable ASCII characters without `\"` and `\\`"))
}

const WRITE_USERS: &str = "write `\"${file:/path}\"`, or a text with one `user:hash` in each line";
const MAX_USERS: usize = 1000;
const MAX_BAD_LINES: usize = 10;
const MAX_EXCEPTIONS: usize = 100;
const MAX_REALM: usize = 128;
