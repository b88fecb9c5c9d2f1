//! Bodies cut short or altered: an error or another value, never a panic; and what was checked can be read.

use proptest::prelude::*;
use tributary_schemas::decode::ValuePlan;

use super::envelope::{ENVELOPE, update};

/// Whether a body is refused. The row of one that is not can be read.
fn is_refused(plan: &ValuePlan, body: &[u8]) -> bool {
    let Ok(head) = plan.check(body) else {
        return true;
    };
    let row = plan.row(body).expect("it was checked");
    assert_eq!(row.is_some(), head.has_row);
    false
}

#[test]
fn every_truncation_is_an_error() {
    let plan = ValuePlan::compile(ENVELOPE).unwrap();
    let body = update();
    assert!(!is_refused(&plan, &body));
    for end in 0..body.len() {
        assert!(
            is_refused(&plan, &body[..end]),
            "cut at {end} of {}",
            body.len()
        );
    }
    let mut longer = body;
    longer.push(0);
    assert!(is_refused(&plan, &longer));
}

#[test]
fn every_single_byte_may_take_any_value() {
    let plan = ValuePlan::compile(ENVELOPE).unwrap();
    let body = update();
    let mut refused = 0;
    for at in 0..body.len() {
        let mut body = body.clone();
        for value in 0..=255 {
            body[at] = value;
            refused += usize::from(is_refused(&plan, &body));
        }
    }
    assert!(refused > body.len() * 64, "only {refused} refused");
}

proptest! {
    #[test]
    fn many_altered_bytes_do_not_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let plan = ValuePlan::compile(ENVELOPE).unwrap();
        let mut body = update();
        for (at, value) in changes {
            let at = at.index(body.len());
            body[at] = value;
        }
        is_refused(&plan, &body);
        is_refused(&plan, &body[..cut.index(body.len())]);
    }

    #[test]
    fn random_bytes_do_not_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let plan = ValuePlan::compile(ENVELOPE).unwrap();
        is_refused(&plan, &body);
    }
}
