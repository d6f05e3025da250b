//! Which CAs DNS lets issue for a name (RFC 8659, with RFC 8657's parameters).

use hickory_resolver::proto::rr::{RData, RecordType};

use super::dns::{Dns, Failure};
use super::{Context, Report};

/// The challenge that is asked about, as `validationmethods` has it.
const METHOD: &str = "http-01";

/// One record: `0 issue "letsencrypt.org; validationmethods=http-01"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub critical: bool,
    pub tag: String,
    pub value: String,
}

/// Who asks.
pub(super) struct Asker<'a> {
    pub identities: &'a [String],
    pub account: Option<&'a str>,
    pub wildcard: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Allowed,
    /// Only where something holds that is not known here.
    Perhaps(String),
    Forbidden(String),
}

/// Climbs from the host towards the root, to the first name that has records.
pub(super) async fn examine(host: &str, context: &Context, dns: &Dns, report: &mut Report) {
    let mut name = host;
    loop {
        match dns.lookup(name, RecordType::CAA).await {
            Ok(records) if !records.is_empty() => {
                let records: Vec<Record> = records.iter().filter_map(Record::read).collect();
                return judge(name, &records, context, report);
            }
            Ok(_) | Err(Failure::NoSuchName) => {}
            Err(Failure::Server(code)) => {
                return report.problem(format!(
                    "the CAA lookup of {name} fails with {code}, and a CA then refuses"
                ));
            }
            Err(Failure::Ours(why)) => {
                return report.hint(format!("CAA of {name} could not be looked up: {why}"));
            }
        }
        match name.split_once('.') {
            Some((_, parent)) => name = parent,
            None => return report.ok("CAA: no record, every CA may issue"),
        }
    }
}

fn judge(name: &str, records: &[Record], context: &Context, report: &mut Report) {
    let asker = Asker {
        identities: &context.ca_identities,
        account: context.account.as_deref(),
        wildcard: false,
    };
    match permits(records, &asker) {
        Answer::Allowed => report.ok(format!("CAA of {name} allows this CA")),
        Answer::Perhaps(why) => report.hint(format!("CAA of {name}: {why}")),
        Answer::Forbidden(why) => report.problem(format!("CAA of {name} forbids it: {why}")),
    }
}

/// RFC 8659 §4: what a set of records that is not empty means.
pub(super) fn permits(records: &[Record], asker: &Asker<'_>) -> Answer {
    if let Some(unknown) = records.iter().find(|r| r.critical && !is_known(&r.tag)) {
        return Answer::Forbidden(format!("critical property {:?}", unknown.tag));
    }
    let tagged = |tag: &str| -> Vec<&Record> {
        records.iter().filter(|r| r.tag.eq_ignore_ascii_case(tag)).collect()
    };
    let mut governing = if asker.wildcard { tagged("issuewild") } else { Vec::new() };
    if governing.is_empty() {
        governing = tagged("issue");
    }
    if governing.is_empty() {
        return Answer::Allowed;
    }
    if asker.identities.is_empty() {
        let why = "it names CAs, and this one does not say by which name it goes";
        return Answer::Perhaps(why.to_owned());
    }
    let mut answers: Vec<Answer> = governing.iter().map(|r| permits_one(&r.value, asker)).collect();
    let best = answers
        .iter()
        .position(|answer| *answer == Answer::Allowed)
        .or_else(|| answers.iter().position(|answer| matches!(answer, Answer::Perhaps(_))));
    match best {
        Some(index) => answers.swap_remove(index),
        None => refusal(&governing, answers),
    }
}

/// A record that names us and still says no tells more than the list of the others.
fn refusal(governing: &[&Record], answers: Vec<Answer>) -> Answer {
    let said = answers.into_iter().find(|a| matches!(a, Answer::Forbidden(why) if !why.is_empty()));
    said.unwrap_or_else(|| {
        let issuers: Vec<&str> =
            governing.iter().map(|r| issuer(&r.value)).filter(|name| !name.is_empty()).collect();
        Answer::Forbidden(match issuers.as_slice() {
            [] => "no CA may issue".to_owned(),
            some => format!("only {} may issue", some.join(", ")),
        })
    })
}

/// An empty reason: the record is about another CA.
fn permits_one(value: &str, asker: &Asker<'_>) -> Answer {
    let us = asker.identities.iter().any(|id| id.eq_ignore_ascii_case(issuer(value)));
    if !us {
        return Answer::Forbidden(String::new());
    }
    let mut answer = Answer::Allowed;
    for parameter in value.split(';').skip(1) {
        let Some((key, wanted)) = parameter.split_once('=') else { continue };
        let (key, wanted) = (key.trim(), wanted.trim());
        if key.eq_ignore_ascii_case("validationmethods") {
            if !wanted.split(',').any(|method| method.trim() == METHOD) {
                let why = format!("it allows only {wanted} as validation method");
                return Answer::Forbidden(why);
            }
        } else if key.eq_ignore_ascii_case("accounturi") {
            match asker.account {
                Some(ours) if ours == wanted => {}
                Some(_) => {
                    let why = format!("it is bound to the account {wanted}, which is not ours");
                    return Answer::Forbidden(why);
                }
                None => {
                    answer = Answer::Perhaps(format!("it is bound to the account {wanted}"));
                }
            }
        }
    }
    answer
}

fn issuer(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

fn is_known(tag: &str) -> bool {
    ["issue", "issuewild", "issuemail", "iodef"].iter().any(|known| known.eq_ignore_ascii_case(tag))
}

impl Record {
    fn read(data: &RData) -> Option<Record> {
        let RData::CAA(caa) = data else { return None };
        // Control characters would end up in a terminal.
        let value = String::from_utf8_lossy(&caa.value).replace(char::is_control, "");
        Some(Record { critical: caa.issuer_critical, tag: caa.tag.clone(), value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(records: &[(&str, &str)], account: Option<&str>, wildcard: bool) -> Answer {
        let records: Vec<Record> = records
            .iter()
            .map(|&(tag, value)| Record {
                critical: tag.starts_with('!'),
                tag: tag.trim_start_matches('!').to_owned(),
                value: value.to_owned(),
            })
            .collect();
        let identities = ["letsencrypt.org".to_owned()];
        permits(&records, &Asker { identities: &identities, account, wildcard })
    }

    fn forbidden(why: &str) -> Answer {
        Answer::Forbidden(why.to_owned())
    }

    #[test]
    fn who_may_issue() {
        let ask = |records: &[(&str, &str)]| asked(records, None, false);
        assert_eq!(ask(&[("issue", "letsencrypt.org")]), Answer::Allowed);
        assert_eq!(ask(&[("Issue", "  LetsEncrypt.org ; x=y")]), Answer::Allowed);
        assert_eq!(ask(&[("issue", "pki.goog"), ("issue", "letsencrypt.org")]), Answer::Allowed);
        assert_eq!(ask(&[("iodef", "mailto:ops@openclaw.example")]), Answer::Allowed);
        assert_eq!(ask(&[("issuewild", "pki.goog")]), Answer::Allowed);
        assert_eq!(ask(&[("issue", ";")]), forbidden("no CA may issue"));
        let others = [("issue", "pki.goog"), ("issue", "digicert.com")];
        assert_eq!(ask(&others), forbidden("only pki.goog, digicert.com may issue"));
        assert_eq!(
            ask(&[("issue", "letsencrypt.org"), ("!future", "x")]),
            forbidden("critical property \"future\"")
        );
        assert_eq!(ask(&[("!issue", "letsencrypt.org")]), Answer::Allowed);
    }

    #[test]
    fn wildcards_have_their_own_records() {
        let both = [("issue", "letsencrypt.org"), ("issuewild", ";")];
        assert_eq!(asked(&both, None, false), Answer::Allowed);
        assert_eq!(asked(&both, None, true), forbidden("no CA may issue"));
        assert_eq!(asked(&both[..1], None, true), Answer::Allowed);
    }

    #[test]
    fn parameters_of_rfc_8657() {
        let ours = "https://acme.example/acct/1";
        let method = |methods: &str| {
            let value = format!("letsencrypt.org; validationmethods={methods}");
            asked(&[("issue", &value)], None, false)
        };
        assert_eq!(method("dns-01,http-01"), Answer::Allowed);
        assert_eq!(method("dns-01"), forbidden("it allows only dns-01 as validation method"));
        let bound = [("issue", "letsencrypt.org; accounturi=https://acme.example/acct/1")];
        assert_eq!(asked(&bound, Some(ours), false), Answer::Allowed);
        let other = asked(&bound, Some("https://acme.example/acct/2"), false);
        assert!(matches!(other, Answer::Forbidden(why) if why.contains("not ours")));
        assert!(matches!(asked(&bound, None, false), Answer::Perhaps(_)));
        // One record that lets us is enough.
        let two = [bound[0], ("issue", "letsencrypt.org")];
        assert_eq!(asked(&two, None, false), Answer::Allowed);
    }

    #[test]
    fn a_ca_without_identities_leaves_it_open() {
        let record = Record { critical: false, tag: "issue".into(), value: "x.example".into() };
        let asker = Asker { identities: &[], account: None, wildcard: false };
        assert!(matches!(permits(&[record], &asker), Answer::Perhaps(_)));
    }
}
