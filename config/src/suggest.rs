//! "did you mean": the nearest of a set of names.

/// The known name nearest to what was written, if it is near enough to be meant.
pub(crate) fn nearest<'k>(
    written: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> Option<&'k str> {
    // A hostile file must not buy quadratic work with long keys.
    if written.len() > 64 {
        return None;
    }
    let lower = written.to_lowercase();
    let limit = (lower.chars().count() / 3).max(1);
    let distances = known.into_iter().map(|name| (distance(&lower, &name.to_lowercase()), name));
    distances
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Restricted Damerau-Levenshtein distance: insert, delete, replace, swap two neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 32 {
        return usize::MAX;
    }
    let width = b.len() + 1;
    let mut rows = vec![vec![0usize; width]; 3];
    rows[0] = (0..width).collect();
    for i in 1..=a.len() {
        // rows: [i-1], [i], [i-2]
        let mut row = vec![i; width];
        for j in 1..width {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[0][j] + 1).min(row[j - 1] + 1).min(rows[0][j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[1][j - 2] + 1);
            }
            row[j] = best;
        }
        rows.swap(0, 1);
        rows[0] = row;
    }
    rows[0][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("host", "hosts", 1),
            ("hsots", "hosts", 1),
            ("upstrem", "upstream", 1),
            ("kitten", "sitting", 3),
            ("abcd", "badc", 2),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn only_near_names() {
        let keys = ["hosts", "path", "methods", "upstream"];
        assert_eq!(nearest("Host", keys), Some("hosts"));
        assert_eq!(nearest("upstraem", keys), Some("upstream"));
        assert_eq!(nearest("backend", keys), None);
        assert_eq!(nearest(&"x".repeat(1000), keys), None);
    }
}
