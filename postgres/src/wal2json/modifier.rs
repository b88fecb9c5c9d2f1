//! Type modifiers, from the text that `format_type` prints.

/// The modifier (`pg_attribute.atttypmod`) of `numeric(10,2)`, `time(3) without time zone[]` and their like; -1
/// for a type without one, and for those whose modifier means nothing to us.
pub(super) fn type_modifier(type_name: &[u8]) -> i32 {
    parse(type_name).unwrap_or(-1)
}

fn parse(type_name: &[u8]) -> Option<i32> {
    let text = std::str::from_utf8(type_name).ok()?;
    let (name, rest) = text.split_once('(')?;
    let (arguments, _) = rest.split_once(')')?;
    let (first, second) = match arguments.split_once(',') {
        Some((first, second)) => (first, Some(second)),
        None => (arguments, None),
    };
    let first: i32 = first.parse().ok()?;
    match (name, second) {
        // numeric.c: precision in the upper half, an 11-bit signed scale below, 4 added.
        ("numeric", Some(scale)) => {
            let scale: i32 = scale.parse().ok()?;
            let in_range = (1..=1000).contains(&first) && (-1000..=1000).contains(&scale);
            in_range.then_some((first << 16 | (scale & 0x7FF)) + 4)
        }
        ("time" | "timestamp" | "bit" | "bit varying", None) => (first >= 0).then_some(first),
        ("character varying" | "character", None) => first.checked_add(4),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::type_modifier;

    #[test]
    fn modifiers_are_packed_as_postgres_packs_them() {
        for (text, modifier) in [
            ("numeric(10,2)", 655_366),
            ("numeric(10,2)[]", 655_366),
            ("numeric(3,-2)", 198_658),
            ("numeric", -1),
            ("time(3) without time zone", 3),
            ("timestamp(0) with time zone[]", 0),
            ("timestamp without time zone", -1),
            ("bit(8)", 8),
            ("bit varying(12)", 12),
            ("\"bit\"", -1),
            ("character varying(20)", 24),
            ("character(1)", 5),
            ("public.geometry(Point,4326)", -1),
            ("interval day to second(3)", -1),
            ("numeric(99999,2)", -1),
            ("numeric(", -1),
            ("bit(-1)", -1),
            ("character(2147483647)", -1),
        ] {
            assert_eq!(type_modifier(text.as_bytes()), modifier, "{text}");
        }
    }
}
