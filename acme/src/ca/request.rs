//! What is asked of the CA in a new order, and what is given up when it says no.

use std::net::IpAddr;

use instant_acme::{Identifier, NewOrder};

use super::ari::CertId;
use super::directory::Directory;
use super::failure::{Class, Failure, Step};

/// A certificate that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderRequest {
    /// Canonical (`crate::name::canonical`): DNS names, `*.` in front of one, IP addresses.
    pub names: Vec<String>,
    /// One of those in the directory; another is left out with a warning.
    pub profile: Option<String>,
    /// The certificate that this one follows (RFC 9773 §5); best effort.
    pub replaces: Option<CertId>,
}

/// A request on its way: with what it still asks for, and what it has given up.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    identifiers: Vec<Identifier>,
    pub profile: Option<&'a str>,
    pub replaces: Option<&'a CertId>,
    pub warnings: Vec<String>,
}

/// How the library says that the CA took the order and not the `replaces` in it.
pub(super) const NOT_REFLECTED: &str = "replaces field mismatch";

impl<'a> Ask<'a> {
    pub fn new(request: &'a OrderRequest, directory: &Directory) -> Result<Ask<'a>, Failure> {
        if request.names.is_empty() {
            return Err(Failure::new(Class::Local, Step::NewOrder, "no name to order for"));
        }
        let mut ask = Ask {
            identifiers: request.names.iter().map(|name| identifier(name)).collect(),
            profile: request.profile.as_deref(),
            replaces: request.replaces.as_ref().filter(|_| directory.renewal_info),
            warnings: Vec::new(),
        };
        if let Some(profile) = ask.profile.filter(|p| !directory.profiles.iter().any(|q| p == q)) {
            let known = match directory.profiles.is_empty() {
                true => "none".to_owned(),
                false => directory.profiles.join(", "),
            };
            ask.warnings.push(format!(
                "ordered without the profile {profile:?}: the CA's profiles are {known}"
            ));
            ask.profile = None;
        }
        Ok(ask)
    }

    pub fn order(&self) -> NewOrder<'_> {
        let mut order = NewOrder::new(&self.identifiers);
        if let Some(profile) = self.profile {
            order = order.profile(profile);
        }
        if let Some(replaces) = self.replaces {
            order = order.replaces(replaces.to_acme());
        }
        order
    }

    /// Gives up what the CA may have stumbled over; false when there is nothing of the kind,
    /// and the failure stands. Each thing is given up once, so that this ends.
    pub fn concede(&mut self, failure: &Failure) -> bool {
        if failure.is("invalidProfile")
            && let Some(profile) = self.profile.take()
        {
            let why = &failure.detail;
            self.warnings.push(format!("ordered without the profile {profile:?}: {why}"));
            return true;
        }
        if blames_replaces(failure) && self.replaces.take().is_some() {
            let why = &failure.detail;
            self.warnings.push(format!("ordered without naming the former certificate: {why}"));
            return true;
        }
        false
    }
}

/// CAs refuse `replaces` with all sorts of problems, `alreadyReplaced` is only the proper one:
/// everything is blamed on it that is not plainly about something else.
fn blames_replaces(failure: &Failure) -> bool {
    const ABOUT_SOMETHING_ELSE: [&str; 8] = [
        "accountDoesNotExist",
        "badNonce",
        "caa",
        "invalidProfile",
        "rateLimited",
        "rejectedIdentifier",
        "unsupportedIdentifier",
        "userActionRequired",
    ];
    if failure.problem.is_none() {
        return failure.status.is_none() && failure.detail.starts_with(NOT_REFLECTED);
    }
    failure.status != Some(429) && !ABOUT_SOMETHING_ELSE.iter().any(|kind| failure.is(kind))
}

fn identifier(name: &str) -> Identifier {
    match name.parse::<IpAddr>() {
        Ok(address) => Identifier::Ip(address),
        Err(_) => Identifier::Dns(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> Directory {
        Directory {
            profiles: vec!["classic".to_owned(), "tlsserver".to_owned()],
            renewal_info: true,
            ..Directory::default()
        }
    }

    fn request(profile: Option<&str>, replaces: bool) -> OrderRequest {
        OrderRequest {
            names: vec!["app.openclaw.example".to_owned()],
            profile: profile.map(str::to_owned),
            replaces: replaces.then(|| CertId::parse("a.b").unwrap()),
        }
    }

    fn refusal(kind: &str) -> Failure {
        let mut failure = Failure::new(Class::Refused, Step::NewOrder, "no");
        failure.problem = Some(format!("urn:ietf:params:acme:error:{kind}"));
        failure.status = Some(403);
        failure
    }

    #[test]
    fn the_profile_must_be_in_the_directory() {
        let known = request(Some("tlsserver"), false);
        assert_eq!(Ask::new(&known, &directory()).unwrap().profile, Some("tlsserver"));
        let unknown = request(Some("shortlived"), false);
        let ask = Ask::new(&unknown, &directory()).unwrap();
        assert_eq!(ask.profile, None);
        assert!(ask.warnings[0].contains("classic, tlsserver"), "{:?}", ask.warnings);
        let ask = Ask::new(&unknown, &Directory::default()).unwrap();
        assert!(ask.warnings[0].ends_with("none"), "{:?}", ask.warnings);
    }

    #[test]
    fn replaces_is_not_sent_to_a_ca_that_does_not_know_it() {
        let request = request(None, true);
        assert!(Ask::new(&request, &directory()).unwrap().replaces.is_some());
        let ask = Ask::new(&request, &Directory::default()).unwrap();
        assert_eq!((ask.replaces, ask.warnings.len()), (None, 0));
    }

    #[test]
    fn replaces_is_given_up_once() {
        let request = request(None, true);
        for kind in ["alreadyReplaced", "malformed", "unauthorized", "serverInternal", "orderX"] {
            let mut ask = Ask::new(&request, &directory()).unwrap();
            assert!(ask.concede(&refusal(kind)), "{kind}");
            assert_eq!((ask.replaces, ask.warnings.len()), (None, 1));
            assert!(!ask.concede(&refusal(kind)), "{kind} twice");
        }
        let mut ask = Ask::new(&request, &directory()).unwrap();
        let words = format!("{NOT_REFLECTED}: expected x, found None");
        assert!(ask.concede(&Failure::new(Class::Unavailable, Step::NewOrder, words)));
    }

    #[test]
    fn what_is_about_something_else_stands() {
        let request = request(None, true);
        let mut ask = Ask::new(&request, &directory()).unwrap();
        for kind in ["badNonce", "caa", "rateLimited", "rejectedIdentifier", "userActionRequired"] {
            assert!(!ask.concede(&refusal(kind)), "{kind}");
        }
        assert!(!ask.concede(&refusal("accountDoesNotExist")));
        assert!(!ask.concede(&Failure::new(Class::Unavailable, Step::NewOrder, "timed out")));
        let mut overloaded = Failure::new(Class::Unavailable, Step::NewOrder, "502");
        overloaded.status = Some(502);
        assert!(!ask.concede(&overloaded));
        assert!(ask.replaces.is_some());
    }

    #[test]
    fn a_refused_profile_does_not_cost_replaces() {
        let request = request(Some("classic"), true);
        let mut ask = Ask::new(&request, &directory()).unwrap();
        assert!(ask.concede(&refusal("invalidProfile")));
        assert_eq!(ask.profile, None);
        assert!(ask.replaces.is_some());
        assert!(!ask.concede(&refusal("invalidProfile")));
    }

    #[test]
    fn addresses_are_identifiers_of_their_own() {
        assert_eq!(identifier("192.0.2.1"), Identifier::Ip("192.0.2.1".parse().unwrap()));
        assert_eq!(identifier("*.a.example"), Identifier::Dns("*.a.example".to_owned()));
    }
}
