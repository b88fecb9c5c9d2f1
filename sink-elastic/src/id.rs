//! The `_id` of a row's document.

use tributary_engine::KeyRow;
use tributary_schemas::record::{Datum, Field, FieldType};
use tributary_schemas::render::{self, RenderError};

use crate::naming;

/// The engines refuse a longer `_id`, and with it the whole request.
const ID_BYTES: usize = 512;
/// Stands for null in an `_id` of several columns; a backslash is else followed by a backslash or a comma.
const NULL: &str = "\\0";

/// Writes the `_id` of a key, in three steps that keep different keys different:
///
/// 1. each column's text: a string as it is, any other value as its JSON form without quotes;
/// 2. several columns are joined by `,`, with `\` in front of a `\` or `,` of their own, and `\0` for null;
/// 3. `~` alone stands for the empty text, `~0` for a single column that is null, `~#` and a SHA-256 for a
///    text longer than 512 bytes, and a text that begins with `~` gets another one in front.
///
/// # Errors
/// A column's value is not of its type.
pub(crate) fn of_key(key: &KeyRow<'_>, out: &mut String) -> Result<(), RenderError> {
    let mut text = String::new();
    match (key.key_type.fields.as_slice(), key.row.as_slice()) {
        ([_], [Datum::Null]) => {
            out.push_str("~0");
            return Ok(());
        }
        // The usual keys, without a copy.
        ([_], [Datum::Str(text)]) => {
            push_bounded(text, out);
            return Ok(());
        }
        ([field], [Datum::Int(number)]) if is_integer(&field.field_type) => {
            out.push_str(itoa::Buffer::new().format(*number));
            return Ok(());
        }
        ([field], [datum]) => push_text(field, datum, &mut text)?,
        (fields, row) => push_joined(fields, row, &mut text)?,
    }
    push_bounded(&text, out);
    Ok(())
}

const fn is_integer(field_type: &FieldType) -> bool {
    matches!(field_type, FieldType::Int32 | FieldType::Int64)
}

/// The key's texts that an `_id` was written of, as [`of_key`] does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyTexts {
    /// Of each column.
    All(Vec<String>),
    /// No key without nulls has this `_id`.
    None,
    /// It is a hash.
    Hashed,
}

/// Reads the `_id` of a key of so many columns.
pub(crate) fn texts(id: &str, columns: usize) -> KeyTexts {
    let text = match id.strip_prefix('~') {
        None => id,
        Some("") => "",
        Some(text) if text.starts_with('~') => text,
        Some(text) if text.starts_with('#') => return KeyTexts::Hashed,
        Some(_) => return KeyTexts::None,
    };
    if columns == 1 {
        return KeyTexts::All(vec![text.to_owned()]);
    }
    let mut texts = vec![String::new()];
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let letter = match letter {
            ',' => {
                texts.push(String::new());
                continue;
            }
            '\\' => match letters.next() {
                Some(escaped @ ('\\' | ',')) => escaped,
                _ => return KeyTexts::None,
            },
            letter => letter,
        };
        if let Some(last) = texts.last_mut() {
            last.push(letter);
        }
    }
    match texts.len() == columns {
        true => KeyTexts::All(texts),
        false => KeyTexts::None,
    }
}

/// Writes the `_id` of a row without a key: where it stands in the log.
pub(crate) fn of_position(partition: i32, offset: i64, out: &mut String) {
    out.push_str(itoa::Buffer::new().format(partition));
    out.push('-');
    out.push_str(itoa::Buffer::new().format(offset));
}

fn push_joined(fields: &[Field], row: &[Datum<'_>], out: &mut String) -> Result<(), RenderError> {
    let mut column = String::new();
    for (index, (field, datum)) in fields.iter().zip(row).enumerate() {
        if index > 0 {
            out.push(',');
        }
        if *datum == Datum::Null {
            out.push_str(NULL);
            continue;
        }
        column.clear();
        push_text(field, datum, &mut column)?;
        for letter in column.chars() {
            if matches!(letter, '\\' | ',') {
                out.push('\\');
            }
            out.push(letter);
        }
    }
    Ok(())
}

fn push_text(field: &Field, datum: &Datum<'_>, out: &mut String) -> Result<(), RenderError> {
    if let Datum::Str(text) = datum {
        out.push_str(text);
        return Ok(());
    }
    let mut json = Vec::new();
    render::json(&field.field_type, datum, &mut json)?;
    let json = String::from_utf8_lossy(&json);
    let bare = json
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    out.push_str(bare.unwrap_or(&json));
    Ok(())
}

fn push_bounded(text: &str, out: &mut String) {
    if text.is_empty() {
        out.push('~');
        return;
    }
    let escaped = text.starts_with('~');
    if text.len() + usize::from(escaped) > ID_BYTES {
        out.push_str("~#");
        naming::push_sha256(text.as_bytes(), out);
        return;
    }
    if escaped {
        out.push('~');
    }
    out.push_str(text);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tributary_engine::KeyRow;
    use tributary_schemas::record::{Datum, Field, FieldType, RecordType};

    use super::{KeyTexts, of_key, of_position, texts};

    fn id_of(columns: &[(FieldType, Datum<'_>)]) -> String {
        let key_type = RecordType {
            full_name: "t.Key".to_owned(),
            fields: columns
                .iter()
                .enumerate()
                .map(|(index, (field_type, _))| Field {
                    name: format!("k{index}"),
                    field_type: field_type.clone(),
                    nullable: false,
                })
                .collect(),
        };
        let key = KeyRow {
            key_type: &key_type,
            row: columns.iter().map(|(_, datum)| datum.clone()).collect(),
        };
        let mut id = String::new();
        of_key(&key, &mut id).unwrap();
        id
    }

    fn text_id(columns: &[&str]) -> String {
        let columns: Vec<_> = columns
            .iter()
            .map(|text| (FieldType::String, Datum::Str(text)))
            .collect();
        id_of(&columns)
    }

    #[test]
    fn one_column_is_its_text() {
        assert_eq!(id_of(&[(FieldType::Int32, Datum::Int(-7))]), "-7");
        assert_eq!(id_of(&[(FieldType::Bool, Datum::Bool(true))]), "true");
        assert_eq!(text_id(&["a,b \\ \"ü\""]), "a,b \\ \"ü\"");
        assert_eq!(
            id_of(&[(
                FieldType::Decimal {
                    precision: None,
                    scale: 2
                },
                Datum::Bytes(&[1, 0])
            )]),
            "2.56"
        );
    }

    #[test]
    fn several_columns_are_joined() {
        let id = id_of(&[
            (FieldType::Int64, Datum::Int(4)),
            (FieldType::String, Datum::Str("a,\\b")),
            (FieldType::String, Datum::Null),
            (FieldType::String, Datum::Str("")),
        ]);
        assert_eq!(id, "4,a\\,\\\\b,\\0,");
    }

    #[test]
    fn texts_that_no_engine_takes_get_another_form() {
        assert_eq!(text_id(&[""]), "~");
        assert_eq!(text_id(&["~"]), "~~");
        assert_eq!(text_id(&["~#a"]), "~~#a");
        assert_eq!(text_id(&[&"x".repeat(512)]), "x".repeat(512));
        assert_eq!(
            text_id(&[&"x".repeat(513)]),
            "~#35ade0090e64e74d6ad04204009c23a4e34b82bdf0f4f317fbcc5f26f9b10241"
        );
        assert_ne!(text_id(&[&"x".repeat(513)]), text_id(&[&"x".repeat(514)]));
        assert_eq!(text_id(&[&format!("~{}", "x".repeat(511))]).len(), 66);
        assert_eq!(id_of(&[(FieldType::String, Datum::Null)]), "~0");
        assert_eq!(text_id(&["\\0"]), "\\0");
    }

    #[test]
    fn what_no_key_has_is_not_read_as_one() {
        assert_eq!(texts("~0", 1), KeyTexts::None);
        assert_eq!(texts("~?", 1), KeyTexts::None);
        assert_eq!(texts("~#0f", 2), KeyTexts::Hashed);
        for id in ["a", "a,b,c", "a,\\0", "a,b\\"] {
            assert_eq!(texts(id, 2), KeyTexts::None, "{id}");
        }
    }

    #[test]
    fn a_row_without_a_key_is_its_position() {
        let mut id = String::new();
        of_position(3, 12_345, &mut id);
        assert_eq!(id, "3-12345");
    }

    proptest! {
        #[test]
        fn different_composite_keys_have_different_ids(
            a in prop::collection::vec("[,~0\\\\x]{0,3}", 2),
            b in prop::collection::vec("[,~0\\\\x]{0,3}", 2),
        ) {
            let ids = [&a, &b].map(|key| text_id(&key.iter().map(String::as_str).collect::<Vec<_>>()));
            prop_assert_eq!(a == b, ids[0] == ids[1]);
        }

        #[test]
        fn different_keys_have_different_ids(a in "[~#a]{0,4}", b in "[~#a]{0,4}") {
            prop_assert_eq!(a == b, text_id(&[&a]) == text_id(&[&b]));
        }

        #[test]
        fn an_id_gives_its_key_back(key in prop::collection::vec("[,~#0\\\\x]{0,4}", 1..4)) {
            let id = text_id(&key.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(texts(&id, key.len()), KeyTexts::All(key));
        }

        #[test]
        fn an_id_is_neither_empty_nor_too_long(key in prop::collection::vec(".{0,400}", 1..3)) {
            let id = text_id(&key.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert!((1..=512).contains(&id.len()));
        }
    }
}
