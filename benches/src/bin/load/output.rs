//! What the own generator prints, read.

use benches::generators::Said;

use crate::handshake::Outcome;

pub fn handshake(text: &str) -> Option<Said> {
    let outcome: Outcome = serde_json::from_str(text.trim()).ok()?;
    Some(Said {
        requests: outcome.turns,
        errors: outcome.errors,
        error_text: outcome.first_error,
        p50_us: outcome.p50_us,
        p99_us: outcome.p99_us,
        resumed: Some(outcome.resumed),
        cipher: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_generator_speaks_json() {
        let text = serde_json::to_string(&Outcome { turns: 7, resumed: 6, ..Outcome::default() });
        let said = handshake(&text.unwrap()).unwrap();
        assert_eq!((said.requests, said.resumed, said.errors), (7, Some(6), 0));
    }
}
