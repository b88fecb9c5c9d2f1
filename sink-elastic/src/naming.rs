//! From a topic's name to the alias and the index that hold its rows.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// An index name has at most 255 bytes; the alias leaves room for the index's `-000001`.
const ALIAS_BYTES: usize = 255 - GENERATION.len();
const GENERATION: &str = "-000001";
/// Kafka's topic names have letters, digits, `.`, `_` and `-` only, so this one is free to escape with.
const ESCAPE: char = '~';
/// What is left of a name that is too long, in front of its hash.
const READABLE_BYTES: usize = 120;

/// The alias of a topic: `prefix`, then the topic's name with each upper-case letter as `~` and its lower-case
/// form, and a leading `-`, `_` or `.` behind a `~` (the engines refuse the first two and hide the third).
///
/// Different topics have different aliases. A name beyond the engines' length ends in `~~` and its SHA-256.
pub(crate) fn alias(prefix: &str, topic: &str) -> String {
    let mut alias = String::with_capacity(prefix.len() + topic.len() + 8);
    alias.push_str(prefix);
    for (index, letter) in topic.chars().enumerate() {
        if letter.is_ascii_uppercase()
            || (index == 0 && prefix.is_empty() && matches!(letter, '-' | '_' | '.'))
        {
            alias.push(ESCAPE);
        }
        alias.push(letter.to_ascii_lowercase());
    }
    if alias.len() > ALIAS_BYTES {
        alias.truncate(alias.floor_char_boundary(READABLE_BYTES));
        alias.push_str("~~");
        push_sha256(topic.as_bytes(), &mut alias);
    }
    alias
}

/// The `number`th index behind an alias, from 1.
pub(crate) fn index(alias: &str, number: u32) -> String {
    format!("{alias}-{number:06}")
}

/// Which index of an alias this is; 0 for one whose name is not ours.
pub(crate) fn number(alias: &str, index: &str) -> u32 {
    let number = index
        .strip_prefix(alias)
        .and_then(|rest| rest.strip_prefix('-'));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The name of an alias that serves `purpose` for a while, beside the alias `alias`. No topic's alias has such a name.
pub(crate) fn beside(alias: &str, purpose: &str) -> String {
    let mut name = alias.to_owned();
    name.truncate(name.floor_char_boundary(READABLE_BYTES));
    name.push_str("~~");
    // A topic's name has no line break.
    push_sha256(format!("{alias}\n{purpose}").as_bytes(), &mut name);
    name
}

/// What is wrong with an `index_prefix`, if anything.
pub(crate) fn prefix_problem(prefix: &str) -> Option<&'static str> {
    if prefix.starts_with(['-', '_', '.']) {
        return Some("begins with '-', '_' or '.'");
    }
    if prefix.len() > READABLE_BYTES / 2 {
        return Some("is longer than 60 bytes");
    }
    let legal = |letter: char| {
        letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '-' | '_' | '.')
    };
    (!prefix.chars().all(legal))
        .then_some("has a letter that is none of a-z, 0-9, '-', '_' and '.'")
}

/// Appends the SHA-256 of `bytes` as 64 hexadecimal digits.
pub(crate) fn push_sha256(bytes: &[u8], out: &mut String) {
    for byte in Sha256::digest(bytes) {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{alias, index, prefix_problem};

    #[test]
    fn usual_names_stay_readable() {
        assert_eq!(alias("", "shop.catalog.product"), "shop.catalog.product");
        assert_eq!(
            alias("eu-", "shop.sales.order_line"),
            "eu-shop.sales.order_line"
        );
        assert_eq!(index("shop.a.b", 1), "shop.a.b-000001");
    }

    #[test]
    fn what_engines_refuse_is_escaped() {
        assert_eq!(alias("", "Shop.a.B"), "~shop.a.~b");
        assert_eq!(alias("", "_x"), "~_x");
        assert_eq!(alias("", "-x"), "~-x");
        assert_eq!(alias("", ".x"), "~.x");
        assert_eq!(alias("p-", "_x"), "p-_x");
        assert!(index(&alias("", &"A".repeat(249)), 1).len() <= 255);
    }

    #[test]
    fn long_names_that_differ_at_the_end_differ() {
        let long = "A".repeat(248);
        assert_ne!(
            alias("", &format!("{long}a")),
            alias("", &format!("{long}b"))
        );
    }

    #[test]
    fn prefixes_are_checked() {
        assert_eq!(prefix_problem(""), None);
        assert_eq!(prefix_problem("eu-west.1_"), None);
        for wrong in ["_a", "-a", ".a", "Eu", "a b", "a*", "ä", "a~"] {
            assert!(prefix_problem(wrong).is_some(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn topics_never_share_an_alias(a in "[a-bA-B._-]{1,6}", b in "[a-bA-B._-]{1,6}") {
            prop_assert_eq!(a == b, alias("", &a) == alias("", &b));
        }

        #[test]
        fn an_alias_is_a_legal_index_name(topic in "[a-zA-Z0-9._-]{1,249}", prefix in "[a-z0-9]{0,9}") {
            let index = index(&alias(&prefix, &topic), 1);
            prop_assert!(index.len() <= 255);
            prop_assert!(!index.starts_with(['-', '_', '+', '.']));
            prop_assert!(index.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.~".contains(c)));
        }
    }
}
