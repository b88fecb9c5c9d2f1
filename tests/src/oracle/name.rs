//! The names of topics, by what docs/contract.md says of them.

/// The topic of a table: letters, digits, `-` and `_` stay, everything else is `_uXXXX` per UTF-16 unit; and so is an
/// underscore that would read as such an escape.
pub fn topic_name(prefix: &str, schema: &str, table: &str) -> String {
    format!("{prefix}.{}.{}", escape(schema), escape(table))
}

fn escape(name: &str) -> String {
    let mut out = String::new();
    for (at, character) in name.char_indices() {
        let plain = character.is_ascii_alphanumeric() || character == '-';
        if plain || character == '_' && !reads_as_escape(&name[at..]) {
            out.push(character);
            continue;
        }
        let mut units = [0; 2];
        for unit in character.encode_utf16(&mut units) {
            out += &format!("_u{unit:04x}");
        }
    }
    out
}

fn reads_as_escape(text: &str) -> bool {
    let digits: Vec<char> = text.chars().skip(2).take(4).collect();
    text.starts_with("_u")
        && digits.len() == 4
        && digits
            .iter()
            .all(|digit| matches!(digit, '0'..='9' | 'a'..='f'))
}

#[cfg(test)]
mod tests {
    use super::topic_name;

    #[test]
    fn names_are_escaped() {
        assert_eq!(topic_name("p", "s", "a_b-1"), "p.s.a_b-1");
        assert_eq!(
            topic_name("p", "a.b", "ä 𝄞"),
            "p.a_u002eb._u00e4_u0020_ud834_udd1e"
        );
        assert_eq!(topic_name("p", "s", "x_u00e4"), "p.s.x_u005fu00e4");
    }
}
