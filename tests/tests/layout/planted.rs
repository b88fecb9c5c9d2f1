//! Knots that the checker must find, and what is none.

use std::path::Path;

use crate::knots::knots;
use crate::names::arrows;

/// The knots of a crate of these files.
fn found(files: &[(&str, &str)]) -> Vec<String> {
    let text = |path: &Path| {
        let file = files
            .iter()
            .find(|(name, _)| Path::new("src").join(name) == path);
        file.map(|(_, text)| (*text).to_owned())
    };
    let arrows = arrows(Path::new("src/lib.rs"), &text).expect("the planted crate can be read");
    knots("src", &arrows)
}

const TWO: &str = "//! A crate.\n\nmod slot;\nmod stream;\n";
const SLOT: (&str, &str) = ("slot.rs", "use crate::stream::Stream;\nstruct Slot;\n");

/// `slot` takes `Stream`; whatever `stream` has, that is a ring if it takes `Slot`.
fn ties(stream: &str) -> bool {
    let knots = found(&[("lib.rs", TWO), SLOT, ("stream.rs", stream)]);
    assert!(knots.len() < 2, "{knots:?}");
    knots.len() == 1
}

#[test]
fn two_files_that_use_each_other_are_found_with_the_names() {
    let stream = "use crate::slot::{Slot, held};\nstruct Stream;\n";
    assert_eq!(
        found(&[("lib.rs", TWO), SLOT, ("stream.rs", stream)]),
        [
            "src: 2 modules use each other in a ring, as slot → stream → slot does\n    \
             src/slot.rs → src/stream.rs: Stream\n    \
             src/stream.rs → src/slot.rs: Slot, held"
        ]
    );
}

#[test]
fn every_way_to_take_a_name_is_found() {
    for stream in [
        "use crate::slot::Slot;",
        "use crate::slot::{self, Slot};",
        "use crate::{gap::Gap, slot::{held::{A, B}, Slot as Held}};",
        "use crate::slot::*;",
        "use crate::slot::Held as _;",
        "use super::slot::Slot;",
        "use self::super::slot::Slot;",
        "pub(crate) use crate::slot::Slot;",
        "use crate::slot;\nfn f() { slot::held(); }",
        "use crate::slot as place;\nfn f(of: &[place::Slot]) {}",
        "fn f() { crate::slot::held(); }",
        "fn f() -> Vec<super::slot::Slot> { Vec::new() }",
        "fn f() { use crate::slot::Slot; }",
        "fn f() { let all = 0..crate::slot::COUNT; }",
        "fn f() { info!(\"{}\", crate::slot::held()); }",
        "impl crate::slot::Held for Stream {}",
        "macro_rules! held { () => { $crate::slot::held() }; }",
        "mod inner { use super::super::slot::Slot; }",
        "fn f(a: impl Fn() + use<'_>) { crate::slot::held(); }",
        "#[cfg(unix)]\nuse crate::slot::Slot;",
        "#[cfg(test)]\nuse std::fmt;\nuse crate::slot::Slot;",
        "#[cfg(test)]\nconst A: A = A {};\nuse crate::slot::Slot;",
        "struct A { #[cfg(test)] b: u8, slot: crate::slot::Slot }",
    ] {
        assert!(ties(stream), "{stream}");
    }
}

#[test]
fn what_takes_nothing_is_no_arrow() {
    for stream in [
        "use crate::slot;",
        "use slot::Slot;",
        "use ::slot::Slot;",
        "// use crate::slot::Slot;",
        "/* crate::slot::held() */",
        "/// See [`crate::slot::Slot`].\nstruct Stream;",
        "const A: &str = \"crate::slot::Slot\";",
        "const A: &str = r#\"\"crate::slot::Slot\"#;",
        "pub(in crate::slot) struct Stream;",
        "fn f() { a.slot::<u8>(); }",
        "#[cfg(test)]\nmod tests { use crate::slot::Slot; }",
        "#[cfg(all(test, unix))]\nuse crate::slot::{Slot};",
        "#[cfg(test)]\n#[allow(dead_code)]\nfn f<A, B>() { crate::slot::held(); }",
        "struct A { #[cfg(test)] slot: crate::slot::Slot, b: u8 }",
        "#[cfg(test)]\nmod tests;",
    ] {
        assert!(!ties(stream), "{stream}");
    }
}

#[test]
fn a_ring_of_three_over_folders_is_found() {
    let knots = found(&[
        ("lib.rs", "mod log;\nmod change;\nmod run;\nmod lsn;"),
        ("log.rs", "mod outbox;"),
        (
            "log/outbox.rs",
            "use crate::change::Row;\nuse crate::lsn::Lsn;",
        ),
        ("change.rs", "mod row;\npub use row::Row;"),
        (
            "change/row.rs",
            "pub struct Row;\nfn f(of: crate::run::session::Session) {}",
        ),
        ("run.rs", "pub mod session;\nmod stream;"),
        ("run/session.rs", "pub struct Session;"),
        ("run/stream.rs", "use crate::log::outbox::Outbox;"),
        ("lsn.rs", "pub struct Lsn;"),
    ]);
    // No two of these files are in a ring, but the folders are.
    assert_eq!(
        knots,
        [
            "src: 3 modules use each other in a ring, as change → run → log → change does\n    \
             src/change/row.rs → src/run/session.rs: Session\n    \
             src/log/outbox.rs → src/change/row.rs: Row\n    \
             src/run/stream.rs → src/log/outbox.rs: Outbox"
        ]
    );
}

#[test]
fn a_ring_deep_down_is_found_where_it_is() {
    let knots = found(&[
        ("lib.rs", "mod log;"),
        ("log.rs", "mod outbox;\nmod topic;"),
        ("log/outbox.rs", "use super::topic::Topic;"),
        ("log/topic.rs", "mod name;"),
        (
            "log/topic/name.rs",
            "fn f(of: super::super::outbox::Outbox) {}",
        ),
    ]);
    assert_eq!(knots.len(), 1, "{knots:?}");
    assert!(
        knots[0].starts_with(
            "src/log: 2 modules use each other in a ring, as outbox → topic → outbox does"
        ),
        "{knots:?}"
    );
}

/// A folder `log` whose own file and whose child have this text.
fn parent_and_child(parent: &str, child: &str) -> Vec<String> {
    found(&[
        ("lib.rs", "mod log;"),
        ("log.rs", parent),
        ("log/outbox.rs", child),
    ])
}

#[test]
fn a_parent_and_a_child_that_use_each_other_are_found() {
    for parent in [
        "mod outbox;\nuse outbox::Outbox;\nstruct Log;",
        "mod outbox;\npub use outbox::Outbox;\nstruct Log;",
        "mod outbox;\nstruct Log;\nfn f() { outbox::new(); }",
    ] {
        let knots = parent_and_child(parent, "use super::Log;\npub struct Outbox;");
        assert_eq!(knots.len(), 1, "{parent}");
        assert!(
            knots[0].starts_with(
                "src/log: 2 modules use each other in a ring, as log itself → outbox → log itself does"
            ),
            "{knots:?}"
        );
    }
}

#[test]
fn a_root_counts_as_a_parent() {
    let knots = found(&[
        (
            "lib.rs",
            "mod slot;\npub use slot::Slot;\npub fn target() {}",
        ),
        ("slot.rs", "pub struct Slot;\nfn f() { crate::target(); }"),
    ]);
    assert_eq!(knots.len(), 1, "{knots:?}");
    assert!(knots[0].contains("the root itself"), "{knots:?}");
}

#[test]
fn a_child_may_add_to_what_its_parent_only_declares() {
    let child = "use super::Log;\nimpl Log { fn write(&self) {} }";
    assert!(
        parent_and_child(
            "mod outbox;\nstruct Log;\nfn f(log: &Log) { log.write(); }",
            child
        )
        .is_empty()
    );
}

#[test]
fn a_face_gives_the_names_of_the_files_behind_it() {
    let files = |face| {
        found(&[
            ("lib.rs", "mod log;"),
            ("log.rs", face),
            ("log/outbox.rs", "use super::Topic;\npub struct Outbox;"),
            ("log/topic.rs", "pub struct Topic;"),
        ])
    };
    let face = "//! The log.\n\nmod outbox;\nmod topic;\n\npub use outbox::Outbox;\npub(crate) use topic::*;\n\n#[cfg(test)]\nmod tests;\n";
    assert!(files(face).is_empty(), "{:?}", files(face));
    // With code of its own it is one of the files that use each other.
    let knots = files(&format!("{face}pub struct Log;"));
    assert_eq!(knots.len(), 1, "{knots:?}");
}

#[test]
fn a_ring_behind_a_face_is_found() {
    for topic in ["use super::Outbox;", "use crate::log::*;"] {
        let knots = found(&[
            ("lib.rs", "mod log;"),
            ("log.rs", "mod outbox;\nmod topic;\npub use outbox::Outbox;"),
            (
                "log/outbox.rs",
                "use super::topic::Topic;\npub struct Outbox;",
            ),
            ("log/topic.rs", topic),
        ]);
        assert_eq!(knots.len(), 1, "{topic}");
    }
}

#[test]
fn a_missing_file_and_broken_text_are_errors() {
    let none = |_: &Path| None;
    assert!(arrows(Path::new("src/lib.rs"), &none).is_err());
    let broken = |_: &Path| Some("fn f() {".to_owned());
    assert!(arrows(Path::new("src/lib.rs"), &broken).is_err());
    let elsewhere = |_: &Path| Some("#[path = \"a.rs\"]\nmod a;".to_owned());
    assert!(arrows(Path::new("src/lib.rs"), &elsewhere).is_err());
}
