//! The transactional ids of sources: none has another one's, which would fence it.

use super::source_name::is_source_name;

/// The transactional id of a source: `tributary-<prefix>-<name>`. Where that could be another source's too, a slash, which
/// neither of the two may have, divides them.
pub(super) fn of(prefix: &str, name: &str) -> String {
    let divider = if is_ambiguous(prefix, name) { '/' } else { '-' };
    format!("tributary-{prefix}{divider}{name}")
}

/// The id with a dash, if another source's could be the same.
pub(super) fn ambiguous(prefix: &str, name: &str) -> Option<String> {
    is_ambiguous(prefix, name).then(|| format!("tributary-{prefix}-{name}"))
}

/// Whether the two, with a dash between them, are also another prefix and the name of another source.
fn is_ambiguous(prefix: &str, name: &str) -> bool {
    let both = format!("{prefix}-{name}");
    let mut dashes = both.match_indices('-');
    dashes.any(|(at, _)| at > 0 && at != prefix.len() && is_source_name(&both[at + 1..]))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{ambiguous, of};

    #[test]
    fn names_that_cannot_be_confused_keep_their_id() {
        for (prefix, name) in [
            ("shop", "orders"),
            ("shop.eu", "orders_1"),
            // What would be another name has characters that none has, or too many.
            ("My-Shop", "orders"),
            ("my-shop.eu", "orders"),
            ("a-b", &"c".repeat(50)),
            // There is no prefix before the dash.
            ("-b", "c"),
        ] {
            assert_eq!(of(prefix, name), format!("tributary-{prefix}-{name}"));
            assert_eq!(ambiguous(prefix, name), None);
        }
    }

    #[test]
    fn no_two_sources_have_the_same_id() {
        assert_eq!(of("a-b", "c"), "tributary-a-b/c");
        assert_eq!(of("a", "b-c"), "tributary-a/b-c");
        assert_eq!(ambiguous("a-b", "c"), ambiguous("a", "b-c"));
        let words = [
            "a", "-", "A", "a-", "-a", "a-a", "--", "a-A", "A-a", "a-a-a",
        ];
        let mut seen = HashMap::new();
        for prefix in words {
            for name in words.into_iter().filter(|name| !name.contains('A')) {
                let before = seen.insert(of(prefix, name), (prefix, name));
                assert_eq!(before, None, "{prefix} {name}");
            }
        }
    }
}
