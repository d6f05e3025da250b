//! Config files: any text gives a configuration or errors with their place. What is accepted can
//! be merged, kept as last known good, and read back as the same.

use config::{NoEnvironment, merge};

pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let candidate = match config::parse("fuzz.yaml", text, &NoEnvironment) {
        Ok(candidate) => candidate,
        Err(errors) => {
            assert!(!errors.0.is_empty(), "refused without a reason");
            // YAML ends a line at a lone CR too.
            let lines = text.chars().filter(|c| matches!(c, '\r' | '\n')).count() as u64 + 1;
            assert!(errors.0.iter().all(|error| error.line <= lines), "{lines}: {errors:?}");
            return;
        }
    };
    let accepted = merge(None, candidate.clone());
    // The same file again changes nothing that serves.
    let again = merge(Some(&accepted), candidate);
    assert_eq!(accepted.routes, again.routes);
    assert_eq!(accepted.upstreams, again.upstreams);
    assert_eq!(accepted.certificates, again.certificates);

    let kept = config::last_good::document(&accepted);
    let restored = config::last_good::restore(&kept, &NoEnvironment);
    let restored = restored.unwrap_or_else(|| panic!("last known good is unreadable:\n{kept}"));
    assert!(accepted.routes.keys().eq(restored.routes.keys()), "{kept}");
    for (name, route) in &accepted.routes {
        assert_eq!(route.value, restored.routes[name].value, "{kept}");
    }
}
