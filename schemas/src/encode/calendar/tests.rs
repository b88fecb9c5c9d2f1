use super::{civil_from_days, days_from_civil};

#[test]
fn days_and_dates_are_inverse_over_all_of_postgres_range() {
    // Every day of 1200 years around the year 0, then every 997th of the whole range.
    let around_zero = -1_000_000..-560_000;
    let whole = (-2_500_000..2_145_031_949).step_by(99_991);
    for days in around_zero.chain(whole) {
        let (year, month, day) = civil_from_days(days);
        assert!(
            (1..=12).contains(&month) && (1..=31).contains(&day),
            "{days}"
        );
        assert_eq!(days_from_civil(year, month, day), days);
    }
}

#[test]
fn days_follow_each_other() {
    let mut previous = civil_from_days(-1_000_001);
    for days in -1_000_000..200_000 {
        let date = civil_from_days(days);
        assert!(date > previous, "{days}");
        assert!(date.2 == previous.2 + 1 || date.2 == 1, "{days}");
        previous = date;
    }
}
