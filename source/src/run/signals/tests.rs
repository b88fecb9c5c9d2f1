use super::{Action, Request, Signal};
use tributary_postgres::catalog::TablePattern;

fn parse(text: &str) -> Result<Signal, String> {
    Signal::parse(Some(text.as_bytes()))
}

fn tables(names: &[&str]) -> Vec<TablePattern> {
    names
        .iter()
        .map(|name| TablePattern::parse(name).unwrap())
        .collect()
}

fn request(names: &[&str], filter: Option<&str>, sweep: bool) -> Request {
    Request {
        tables: tables(names),
        filter: filter.map(str::to_owned),
        sweep,
    }
}

#[test]
fn what_the_command_line_writes_is_read_back() {
    for action in [
        Action::Snapshot(vec![request(&["s.t", "a.*"], None, true)]),
        Action::Snapshot(vec![request(&["s.t"], Some("id > 7"), false)]),
        Action::Pause,
        Action::Resume,
        Action::Cancel(None),
        Action::Cancel(Some(tables(&["s.t"]))),
    ] {
        for source in [None, Some("shop".to_owned())] {
            let action = action.clone();
            let signal = Signal { source, action };
            assert_eq!(Signal::parse(Some(&signal.encode())), Ok(signal));
        }
    }
}

#[test]
fn debeziums_signals_are_understood() {
    let text = r#"{"id":"7","type":"execute-snapshot","data":{"type":"INCREMENTAL",
        "data-collections":["s\\.t","s.u"],
        "additional-conditions":[{"data-collection":"s.u","filter":"color='blue'"}]}}"#;
    let expected = vec![
        request(&["s.t"], None, false),
        request(&["s.u"], Some("color='blue'"), false),
    ];
    assert_eq!(parse(text).unwrap().action, Action::Snapshot(expected));
    // The source channel of Debezium has `data` as text.
    let text = r#"{"type":"execute-snapshot","data":"{\"data-collections\":[\"s.t\"],\"additional-condition\":\"a = 1\"}"}"#;
    let expected = vec![request(&["s.t"], Some("a = 1"), false)];
    assert_eq!(parse(text).unwrap().action, Action::Snapshot(expected));
    let stop =
        r#"{"type":"stop-snapshot","data":{"data-collections":["s.t"],"type":"incremental"}}"#;
    assert_eq!(
        parse(stop).unwrap().action,
        Action::Cancel(Some(tables(&["s.t"])))
    );
    assert_eq!(
        parse(r#"{"type":"stop-snapshot"}"#).unwrap().action,
        Action::Cancel(None)
    );
    assert_eq!(
        parse(r#"{"type":"pause-snapshot","data":{}}"#)
            .unwrap()
            .action,
        Action::Pause
    );
    assert_eq!(
        parse(r#"{"type":"resume-snapshot"}"#).unwrap().action,
        Action::Resume
    );
}

#[test]
fn what_is_no_signal_is_refused_with_a_reason_that_quotes_nothing() {
    for (text, reason) in [
        ("hunter2", "not JSON (line 1, column 1)"),
        (r#"{"type":7}"#, "not a signal's fields"),
        (r#"{"tables":["s.t"]}"#, "not a signal's fields"),
        (r#"{"type":"hunter2"}"#, "`type` is none of"),
        (r#"{"type":"snapshot"}"#, "`tables` is missing or empty"),
        (
            r#"{"type":"snapshot","tables":[]}"#,
            "`tables` is missing or empty",
        ),
        (
            r#"{"type":"snapshot","tables":["hunter2"]}"#,
            "schema.table",
        ),
        (
            r#"{"type":"snapshot","tables":["s.t"],"where":"hunter2","sweep":true}"#,
            "cannot sweep",
        ),
        (
            r#"{"type":"execute-snapshot"}"#,
            "`data-collections` is missing",
        ),
        (
            r#"{"type":"execute-snapshot","data":"hunter2"}"#,
            "`data` does not",
        ),
        (
            r#"{"type":"execute-snapshot","data":{"data-collections":["s.t"],"type":"blocking"}}"#,
            "not incremental",
        ),
        (
            r#"{"type":"execute-snapshot","data":{"data-collections":["s.t"],"surrogate-key":"k"}}"#,
            "surrogate-key",
        ),
        (
            r#"{"type":"execute-snapshot","data":{"data-collections":["s.t"],
                "additional-conditions":[{"data-collection":"s.u","filter":"x"}]}}"#,
            "does not",
        ),
    ] {
        let refused = parse(text).unwrap_err();
        assert!(refused.contains(reason), "{text}: {refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
    }
    assert!(Signal::parse(None).is_err());
    assert!(Signal::parse(Some(&vec![b' '; 100_000])).is_err());
}

#[test]
fn a_signal_may_name_its_source() {
    let all = parse(r#"{"type":"pause"}"#).unwrap();
    let one = parse(r#"{"type":"pause","source":"shop"}"#).unwrap();
    assert_eq!((all.source, one.source.as_deref()), (None, Some("shop")));
}
