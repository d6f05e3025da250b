//! Where a request goes, and where a redirect sends it.

use http::Uri;

/// `scheme://host:port/path`, of the two schemes a CA follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub tls: bool,
    /// Canonical, without brackets.
    pub host: String,
    /// As written; 80 or 443 where nothing was.
    pub port: u16,
    /// With its query.
    pub path: String,
}

impl Target {
    pub fn challenge(host: &str, token: &str) -> Target {
        let path = format!("/.well-known/acme-challenge/{token}");
        Target { tls: false, host: host.to_owned(), port: 80, path }
    }

    /// Where `location` leads from here (RFC 9110 §10.2.2), or why no CA goes there.
    pub fn follow(&self, location: &str) -> Result<Target, String> {
        let location = location.split('#').next().unwrap_or_default();
        let scheme = if self.tls { "https" } else { "http" };
        if location.starts_with("//") {
            return Target::absolute(&format!("{scheme}:{location}"));
        }
        if location.contains("://") {
            return Target::absolute(location);
        }
        if location.starts_with('/') {
            return Ok(Target { path: location.to_owned(), ..self.clone() });
        }
        let path = self.path.split('?').next().unwrap_or_default();
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        Ok(Target { path: format!("{folder}/{location}"), ..self.clone() })
    }

    fn absolute(location: &str) -> Result<Target, String> {
        let uri: Uri = location.parse().map_err(|_| "no valid URL".to_owned())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            other => return Err(format!("scheme {}", other.unwrap_or("missing"))),
        };
        let host = uri.host().unwrap_or_default();
        let host = crate::name::canonical(host).map_err(|e| e.to_string())?;
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        if !matches!(port, 80 | 443) {
            return Err(format!("port {port}, and CAs follow only to 80 and 443"));
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Target { tls, host, port, path: path.to_owned() })
    }

    /// The value of `Host`.
    pub fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects() {
        let start = Target::challenge("app.openclaw.example", "tok");
        for (location, leads_to) in [
            ("https://app.openclaw.example/x?y#z", "https://app.openclaw.example/x?y"),
            ("HTTPS://App.openclaw.example./x", "https://app.openclaw.example/x"),
            ("http://b.openclaw.example:443/", "http://b.openclaw.example:443/"),
            ("//b.openclaw.example/x", "http://b.openclaw.example/x"),
            ("/other", "http://app.openclaw.example/other"),
            ("t2", "http://app.openclaw.example/.well-known/acme-challenge/t2"),
            ("http://[2001:db8::1]/x", "http://[2001:db8::1]/x"),
        ] {
            assert_eq!(start.follow(location).unwrap().to_string(), leads_to);
        }
        for location in [
            "https://app.openclaw.example:8443/",
            "ftp://app.openclaw.example/",
            "http:///x",
            "https://a b/",
        ] {
            assert!(start.follow(location).is_err(), "{location}");
        }
    }
}
