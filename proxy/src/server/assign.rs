//! Which inherited socket is whose: by address, or by the name of a listener.

use std::net::SocketAddr;

use config::value::Name;

/// An inherited socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    pub address: SocketAddr,
    pub name: String,
}

/// Where connections of a listener come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An address that we bind.
    Bind(SocketAddr),
    /// The given socket of this index.
    Given(usize),
}

/// The sources of each listener, in order. A socket belongs to the listener that it is named
/// after, else to the one with its address among its `bind`. Named sockets with other addresses
/// stand in place of what their listener does not inherit.
///
/// # Errors
/// A socket is nobody's, or there are two for one address.
pub fn assign(
    listeners: &[(&Name, &[SocketAddr])],
    given: &[Given],
) -> Result<Vec<Vec<Source>>, String> {
    let mut sources: Vec<Vec<Source>> = Vec::new();
    let mut used = vec![false; given.len()];
    for (name, binds) in listeners {
        let free = |at: usize, used: &[bool]| !used[at] && may_have(name, &given[at], listeners);
        let mut own = Vec::new();
        let mut to_bind = Vec::new();
        for &bind in *binds {
            let mut all = 0..given.len();
            let exact = all.clone().find(|&at| free(at, &used) && given[at].address == bind);
            let found =
                exact.or_else(|| all.find(|&at| free(at, &used) && same(bind, given[at].address)));
            match found {
                Some(at) => {
                    used[at] = true;
                    own.push(Source::Given(at));
                }
                None => to_bind.push(Source::Bind(bind)),
            }
        }
        let named = |at: &usize| given[*at].name == name.as_str() && !used[*at];
        let others: Vec<usize> = (0..given.len()).filter(named).collect();
        if others.is_empty() {
            own.extend(to_bind);
        }
        for at in others {
            used[at] = true;
            own.push(Source::Given(at));
        }
        sources.push(own);
    }
    match used.iter().position(|used| !used) {
        None => Ok(sources),
        Some(at) => Err(nobodys(at, &given[at])),
    }
}

/// Whether this listener may have the socket: it is not named after another one.
fn may_have(name: &Name, given: &Given, listeners: &[(&Name, &[SocketAddr])]) -> bool {
    given.name == name.as_str() || listeners.iter().all(|(other, _)| other.as_str() != given.name)
}

/// `[::]` is `0.0.0.0` where there is no IPv6.
fn same(bind: SocketAddr, given: SocketAddr) -> bool {
    let any = bind.is_ipv6() && bind.ip().is_unspecified() && given.ip().is_unspecified();
    any && bind.port() == given.port()
}

fn nobodys(at: usize, Given { address, name }: &Given) -> String {
    let (number, name) = (at + 3, if name.is_empty() { "unknown" } else { name });
    format!(
        "the inherited socket {address} (descriptor {number}, name {name}) is no listener's: put \
         {address} into the `bind` of one, or give the socket a listener's name \
         (FileDescriptorName=); each address can be inherited once"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// Of the listeners `http` and `https`.
    fn of(
        http: &[&str],
        https: &[&str],
        given: &[(&str, &str)],
    ) -> Result<Vec<Vec<String>>, String> {
        let names = [Name::new("http").unwrap(), Name::new("https").unwrap()];
        let (http, https) = (addresses(http), addresses(https));
        let listeners = [(&names[0], http.as_slice()), (&names[1], https.as_slice())];
        let given: Vec<Given> = given
            .iter()
            .map(|(address, name)| Given {
                address: address.parse().unwrap(),
                name: (*name).into(),
            })
            .collect();
        let shown = |source: &Source| match source {
            Source::Bind(address) => format!("bind {address}"),
            Source::Given(at) => format!("given {at}"),
        };
        let sources = assign(&listeners, &given)?;
        Ok(sources.iter().map(|own| own.iter().map(shown).collect()).collect())
    }

    #[test]
    fn by_address_then_by_name() {
        let unit = "openclaw-edge.socket";
        let (http, https) = (&["[::]:80"][..], &["[::]:443"][..]);
        for (given, expected) in [
            (&[][..], [vec!["bind [::]:80"], vec!["bind [::]:443"]]),
            (&[("[::]:443", unit), ("[::]:80", unit)], [vec!["given 1"], vec!["given 0"]]),
            (&[("[::]:80", unit)], [vec!["given 0"], vec!["bind [::]:443"]]),
            (&[("0.0.0.0:80", "")], [vec!["given 0"], vec!["bind [::]:443"]]),
            (&[("192.0.2.1:81", "http")], [vec!["given 0"], vec!["bind [::]:443"]]),
            (
                &[("192.0.2.1:8443", "https"), ("[2001:db8::1]:8443", "https")],
                [vec!["bind [::]:80"], vec!["given 0", "given 1"]],
            ),
            // The name wins over the address.
            (&[("[::]:80", "https")], [vec!["bind [::]:80"], vec!["given 0"]]),
        ] {
            let found = of(http, https, given).unwrap();
            assert_eq!(found, expected, "{given:?}");
        }
    }

    #[test]
    fn a_named_socket_of_a_bind_address_leaves_the_others() {
        let http = &["127.0.0.1:80", "127.0.0.1:8080"];
        let found = of(http, &[], &[("127.0.0.1:80", "http")]).unwrap();
        assert_eq!(found, [vec!["given 0", "bind 127.0.0.1:8080"], vec![]]);
    }

    #[test]
    fn nobodys_socket_is_named() {
        let why =
            of(&["[::]:80"], &["[::]:443"], &[("[::]:80", "x"), ("[::]:81", "x")]).unwrap_err();
        assert!(why.contains("[::]:81 (descriptor 4, name x)"), "{why}");
        let why = of(&["[::]:80"], &[], &[("[::]:80", "x"), ("[::]:80", "y")]).unwrap_err();
        assert!(why.contains("name y"), "{why}");
        assert!(of(&["[::]:80"], &[], &[("127.0.0.1:80", "")]).is_err());
    }
}
