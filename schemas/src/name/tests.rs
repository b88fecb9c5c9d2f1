use proptest::prelude::*;

use super::{TopicNameError, avro_namespace, escape_avro, escape_topic, topic, unescape};

#[test]
fn legal_names_stay_and_others_are_escaped() {
    for (identifier, avro, in_topic) in [
        ("order_line", "order_line", "order_line"),
        ("_", "_", "_"),
        ("a b", "a_u0020b", "a_u0020b"),
        ("1st", "_u0031st", "1st"),
        ("a-b", "a_u002db", "a-b"),
        ("x.y", "x_u002ey", "x_u002ey"),
        (
            "Weird Näme-$",
            "Weird_u0020N_u00e4me_u002d_u0024",
            "Weird_u0020N_u00e4me-_u0024",
        ),
        ("😀", "_ud83d_ude00", "_ud83d_ude00"),
        // what looks like an escape is none
        ("a_u0020b", "a_u005fu0020b", "a_u005fu0020b"),
        ("_u005f", "_u005fu005f", "_u005fu005f"),
        ("_ud83d", "_u005fud83d", "_u005fud83d"),
        // and these only nearly look like one
        ("_u00E4", "_u00E4", "_u00E4"),
        ("_u00", "_u00", "_u00"),
        ("_u002é", "_u002_u00e9", "_u002_u00e9"),
    ] {
        assert_eq!(escape_avro(identifier), avro);
        assert_eq!(escape_topic(identifier), in_topic);
        assert_eq!(unescape(avro), identifier);
        assert_eq!(unescape(in_topic), identifier);
    }
}

/// Names taken from schemas that Debezium 3.3.1 registered with `avro_unicode`.
#[test]
fn names_that_debezium_escaped_are_read() {
    for (escaped, original) in [
        ("order_u005fline", "order_line"),
        ("a_u005fu0020b", "a_u0020b"),
        ("the_u0020id", "the id"),
        ("_u0031st", "1st"),
        ("_u00fc", "ü"),
        ("_ud83d_ude00", "😀"),
    ] {
        assert_eq!(unescape(escaped), original);
    }
}

#[test]
fn half_a_surrogate_pair_is_no_escape() {
    for name in ["_ud83d", "_ud83dx", "_ud83d_u0020"] {
        assert!(unescape(name).starts_with("_ud83d"), "{name}");
    }
    assert_eq!(unescape("_ude00_ud83d"), "_ude00_ud83d");
}

#[test]
fn topics_are_named_after_their_table() {
    assert_eq!(
        topic("shop", "sales", "order_line").unwrap(),
        "shop.sales.order_line"
    );
    assert_eq!(
        topic("shop-eu.v1", "a.b", "c").unwrap(),
        "shop-eu.v1.a_u002eb.c"
    );
    for prefix in ["", ".", "a..b", "a.", "shop eu", "ä"] {
        let error = topic(prefix, "s", "t").unwrap_err();
        assert_eq!(error, TopicNameError::Prefix(prefix.to_owned()));
    }
}

#[test]
fn a_topic_name_that_is_too_long_names_the_table() {
    // 63 bytes is the longest identifier; four bytes of UTF-8 become twelve of the escape.
    let table = "😀".repeat(15);
    assert!(topic("shop", "sales", &table).is_ok());
    let error = topic("shop", &table, &table).unwrap_err();
    assert!(error.to_string().contains(&table), "{error}");
    assert!(error.to_string().contains("366 bytes"), "{error}");
}

#[test]
fn namespaces_are_legal_avro_names() {
    assert_eq!(
        avro_namespace("shop.sales.order_line"),
        "shop.sales.order_line"
    );
    assert_eq!(
        avro_namespace("shop-eu.1a.b-2"),
        "shop_u002deu._u0031a.b_u002d2"
    );
    let topic = topic("shop", "s", "a_u002db c").unwrap();
    assert_eq!(topic, "shop.s.a_u005fu002db_u0020c");
    assert_eq!(avro_namespace(&topic), topic);
}

/// Identifiers full of what could be mistaken: underscores, `u`, hexadecimal digits, separators.
fn identifier() -> impl Strategy<Value = String> {
    prop_oneof![
        "[_u0-9a-fA-F.\\- 😀é]{1,16}",
        "(_u00(5f|20|2d|31)|_u|_|a|-|1){1,8}",
        "\\PC{1,20}"
    ]
}

fn is_avro_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

proptest! {
    #[test]
    fn escapes_are_legal_and_reversible(name in identifier()) {
        let avro = escape_avro(&name);
        prop_assert!(is_avro_name(&avro), "{}", avro);
        prop_assert_eq!(&unescape(&avro), &name);
        let part = escape_topic(&name);
        prop_assert!(part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'));
        prop_assert_eq!(unescape(&part), name);
    }

    #[test]
    fn topics_and_namespaces_are_unique_per_table(
        one in (identifier(), identifier()),
        other in (identifier(), identifier()),
    ) {
        let (Ok(first), Ok(second)) = (topic("p-1", &one.0, &one.1), topic("p-1", &other.0, &other.1))
        else {
            return Ok(());
        };
        prop_assert!(avro_namespace(&first).split('.').all(is_avro_name));
        prop_assert_eq!(first == second, one == other);
        prop_assert_eq!(avro_namespace(&first) == avro_namespace(&second), one == other);
    }
}
