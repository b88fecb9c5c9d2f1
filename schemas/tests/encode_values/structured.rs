//! Types that are made of others: composites, geometries, vectors, and what arrays make of them.

use tributary_schemas::avro::value_schema;
use tributary_schemas::table::ColumnType;

use crate::oracle::tables::{address, array, composite, mood};
use crate::oracle::{TOPIC, assert_refused, assert_written, with_column};

#[test]
fn composites_are_records() {
    let pair = composite("pair", &[("n", ColumnType::Int4), ("t", ColumnType::Text)]);
    // The texts are those that PostgreSQL 15 prints.
    assert_written(
        &pair,
        &[
            ("(1,a)", "{n=1 t=a}"),
            ("(,)", "{n=null t=null}"),
            (r#"(,"")"#, "{n=null t=}"),
            (r#"(7,"a ""b"" \\ (c), d")"#, r#"{n=7 t=a "b" \ (c), d}"#),
            (r"(7,NULL)", "{n=7 t=NULL}"),
            ("(7,{})", "{n=7 t={}}"),
        ],
    );
    let single = composite("single", &[("t", ColumnType::Text)]);
    assert_written(
        &single,
        &[("()", "{t=null}"), (r#"("")"#, "{t=}"), ("(a)", "{t=a}")],
    );
    assert_written(&composite("nothing", &[]), &[("()", "{}")]);
}

#[test]
fn composites_hold_composites_and_arrays() {
    let inner = composite("pair", &[("n", ColumnType::Int4), ("t", ColumnType::Text)]);
    let outer = composite(
        "outer",
        &[
            ("p", inner.clone()),
            ("ps", array(inner)),
            ("m", array(array(ColumnType::Text))),
            ("b", ColumnType::Bytea),
            ("j", ColumnType::Json),
            ("mood", mood()),
        ],
    );
    assert_written(
        &outer,
        &[
            (
                r#"("(1,""a """"b"""""")","{""(2,\\""c,d\\"")"",NULL,""(,)""}","{{""x \\""y"",NULL}}","\\x00ff","{""k"": ""v\\""}","very, happy")"#,
                r#"{p={n=1 t=a "b"} ps=[{n=2 t=c,d}, null, {n=null t=null}] m=[[x "y, null]] b=x00ff j={"k": "v\"} mood=very, happy}"#,
            ),
            ("(,,,,,)", "{p=null ps=null m=null b=null j=null mood=null}"),
        ],
    );
}

#[test]
fn composites_that_do_not_fit_are_refused() {
    let pair = composite("pair", &[("n", ColumnType::Int4), ("t", ColumnType::Text)]);
    let other = "another number of attributes";
    for text in ["()", "(1)", "(1,a,)", "(1,a,b)"] {
        assert_refused(&pair, text, "pair", other);
    }
    assert_refused(&composite("nothing", &[]), "(1)", "nothing", other);
    assert_refused(&pair, "(x,a)", "pair", "not an integer");
    for text in [
        "",
        "(",
        ")",
        "1,a",
        "(1,a",
        r#"(1,"a)"#,
        r#"(1,"a"b)"#,
        r#"(1,"a\")"#,
    ] {
        assert_refused(&pair, text, "pair", "not the text of a composite");
    }
}

/// Each place has a record of its own: names inside another may repeat, with or without dots.
#[test]
fn records_of_composites_never_share_a_name() {
    let leaf = composite("leaf", &[("x", ColumnType::Int4)]);
    let deep = composite("deep", &[("b", leaf.clone()), ("b.c", leaf.clone())]);
    let deeper = composite("deeper", &[("c", leaf.clone())]);
    let deep = composite(
        "all",
        &[
            ("a", deep),
            ("a.b", deeper),
            ("Value", leaf.clone()),
            ("a\\", leaf),
        ],
    );
    let table = with_column(deep);
    let schema = value_schema(TOPIC, &table);
    apache_avro::Schema::parse_str(&schema).unwrap();
    for name in [
        "shop.public.t.value.c",
        "shop.public.t.value.c_u002ea",
        "shop.public.t.value.c_u002ea_u002eb",
        "shop.public.t.value.c_u002ea_u002eb_u005c_u002ec",
        "shop.public.t.value.c_u002ea_u005c_u002eb",
        "shop.public.t.value.c_u002ea_u005c_u002eb_u002ec",
    ] {
        let named = format!("\"connect.name\":\"{name}\"");
        assert_eq!(schema.matches(&named).count(), 1, "{name}: {schema}");
    }
}

#[test]
fn arrays_of_composites_and_of_domains_over_arrays() {
    assert_written(
        &array(address()),
        &[(
            r#"{"(\"Main \"\"St\"\" 1\",12345,\"(1,-2.5)\")",NULL,"(,,)"}"#,
            r#"[{street=Main "St" 1 zip=12345 at={x=1 y=-2.5 wkb=x0101000000000000000000f03f00000000000004c0 srid=null}}, null, {street=null zip=null at=null}]"#,
        )],
    );
    let rows = array(ColumnType::ArrayDomain(Box::new(array(ColumnType::Int4))));
    assert_written(
        &rows,
        &[
            (r#"{"{1,NULL}","{}",NULL}"#, "[[1, null], [], null]"),
            ("{}", "[]"),
        ],
    );
    assert_refused(&rows, "{{1,2}}", "integer[][]", "dimensions");
    assert_refused(&rows, r#"{"[0:0]={1}"}"#, "integer[][]", "lower bound");
    // One dimension of nulls is not two.
    assert_refused(
        &array(array(ColumnType::Int4)),
        "{NULL,NULL}",
        "integer[][]",
        "dimensions",
    );
    assert_written(
        &array(ColumnType::Box),
        &[("{(1,1),(0,0);(2,2),(1,1)}", "[(1,1),(0,0), (2,2),(1,1)]")],
    );
}

#[test]
fn points() {
    assert_written(
        &ColumnType::Point,
        &[
            (
                "(1,-2.5)",
                "{x=1 y=-2.5 wkb=x0101000000000000000000f03f00000000000004c0 srid=null}",
            ),
            (
                "(Infinity,NaN)",
                "{x=inf y=NaN wkb=x0101000000000000000000f07f000000000000f87f srid=null}",
            ),
            (
                "(-0,0.1)",
                "{x=-0 y=0.1 wkb=x010100000000000000000000809a9999999999b93f srid=null}",
            ),
        ],
    );
    for text in ["", "1,2", "(1,2", "(1)", "(1;2)"] {
        assert_refused(&ColumnType::Point, text, "point", "point");
    }
}

/// The texts are those that PostGIS 3.3 prints.
#[test]
fn geometries_keep_their_bytes_and_their_spatial_reference() {
    let point = "0101000020E6100000000000000000F03F0000000000000040";
    let stored = format!("{{wkb=x{} srid=4326}}", point.to_lowercase());
    for column_type in [ColumnType::Geometry, ColumnType::Geography] {
        assert_written(
            &column_type,
            &[
                (point, stored.as_str()),
                ("010700000000000000", "{wkb=x010700000000000000 srid=null}"),
                // Big-endian, as it may have been stored by others.
                (
                    "0020000001000010E63FF00000000000004000000000000000",
                    "{wkb=x0020000001000010e63ff00000000000004000000000000000 srid=4326}",
                ),
            ],
        );
    }
    assert_written(
        &array(ColumnType::Geometry),
        &[(
            "{010700000000000000:NULL}",
            "[{wkb=x010700000000000000 srid=null}, null]",
        )],
    );
    for text in [
        "",
        "01",
        "0101000020E61000",
        "0201000000",
        "POINT(1 2)",
        "010",
    ] {
        assert_refused(&ColumnType::Geometry, text, "geometry", "well-known binary");
    }
}

/// The texts are those that pgvector's documentation shows.
#[test]
fn vectors_are_arrays() {
    assert_written(
        &ColumnType::Vector,
        &[
            ("[1]", "[1]"),
            (
                "[0.1,-2,3.4028235e+38]",
                "[0.1, -2, 340282350000000000000000000000000000000]",
            ),
        ],
    );
    assert_written(
        &ColumnType::HalfVector,
        &[("[65504,-0.5]", "[65504, -0.5]")],
    );
    for text in ["", "1,2", "[1,2", "{1,2}"] {
        assert_refused(
            &ColumnType::Vector,
            text,
            "vector",
            "not the text of a vector",
        );
    }
    assert_refused(
        &ColumnType::Vector,
        "[1,,2]",
        "vector",
        "not a floating-point",
    );
}
