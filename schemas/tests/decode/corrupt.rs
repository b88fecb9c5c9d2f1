//! Bodies cut short or altered: an error or another value, never a panic.

use proptest::prelude::*;
use tributary_schemas::decode::ValuePlan;

use super::envelope::{ENVELOPE, update};

#[test]
fn every_truncation_is_an_error() {
    let plan = ValuePlan::compile(ENVELOPE).unwrap();
    let body = update();
    assert!(plan.decode(&body).is_ok());
    for end in 0..body.len() {
        assert!(
            plan.decode(&body[..end]).is_err(),
            "cut at {end} of {}",
            body.len()
        );
    }
    let mut longer = body;
    longer.push(0);
    assert!(plan.decode(&longer).is_err());
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
            refused += usize::from(plan.decode(&body).is_err());
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
        let _ = plan.decode(&body);
        let _ = plan.decode(&body[..cut.index(body.len())]);
    }

    #[test]
    fn random_bytes_do_not_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let plan = ValuePlan::compile(ENVELOPE).unwrap();
        let _ = plan.decode(&body);
    }
}
