//! Decimals, against multiplication by hand.

use proptest::prelude::*;

use super::{as_json, assert_both, decimal, postgres};
use crate::record::{Datum, FieldType};
use crate::render::RenderError;
use crate::sentinel;

#[test]
fn decimals_keep_every_digit() {
    let cases: [(&[u8], i32, &str); 12] = [
        (&[], 0, "0"),
        (&[0], 3, "0.000"),
        (&[0x30, 0x39], 2, "123.45"),
        (&[0xCF, 0xC7], 2, "-123.45"),
        (&[0xFF], 4, "-0.0001"),
        (&[0x80], 0, "-128"),
        (&[0x00, 0x80], 0, "128"),
        (&[0xFF, 0xFF, 0xFF, 0x80], 1, "-12.8"),
        (&[0x07], -3, "7000"),
        (&[0x00], -3, "0"),
        (&[0x80; 1], 2, "-1.28"),
        (
            &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            1,
            "34028236692093846346337460743176821145.6",
        ),
    ];
    for (unscaled, scale, expected) in cases {
        assert_both(&decimal(scale), &Datum::Bytes(unscaled), expected, "");
        let datum = Datum::VariableDecimal { scale, unscaled };
        assert_both(&FieldType::VariableDecimal, &datum, expected, "");
    }
}

#[test]
fn decimals_that_are_no_numbers_have_names() {
    let cases = [
        (sentinel::NAN, "NaN"),
        (sentinel::INFINITY, "Infinity"),
        (sentinel::NEGATIVE_INFINITY, "-Infinity"),
    ];
    for (unscaled, name) in cases {
        let datum = Datum::VariableDecimal {
            scale: sentinel::SPECIAL_SCALE,
            unscaled: &unscaled,
        };
        assert_both(&FieldType::VariableDecimal, &datum, name, "\"");
    }
}

/// A scale of two thousand million must not write that many zeros.
#[test]
fn decimals_past_what_postgres_holds_are_refused() {
    let long = vec![1; 70_000];
    let cases: [(i32, &[u8]); 6] = [
        (i32::MIN, &[7]),
        (i32::MIN + 1, &[7]),
        (-131_072, &[7]),
        (16_384, &[7]),
        (i32::MAX, &[7]),
        (0, &long),
    ];
    for (scale, unscaled) in cases {
        let datum = Datum::VariableDecimal { scale, unscaled };
        let refused = Err(RenderError::OutOfRange { kind: "decimal" });
        assert_eq!(
            postgres(&FieldType::VariableDecimal, &datum),
            refused,
            "{scale}"
        );
        assert_eq!(
            as_json(&FieldType::VariableDecimal, &datum),
            refused,
            "{scale}"
        );
    }
    let largest = Datum::VariableDecimal {
        scale: -131_071,
        unscaled: &[7],
    };
    assert_eq!(
        postgres(&FieldType::VariableDecimal, &largest)
            .unwrap()
            .len(),
        131_072
    );
}

/// Digits to bytes by schoolbook multiplication: another way than the division under test.
fn bytes_of(digits: &str, negative: bool) -> Vec<u8> {
    let mut little = vec![0_u8];
    for digit in digits.bytes().filter(u8::is_ascii_digit) {
        let mut carry = u32::from(digit - b'0');
        for byte in &mut little {
            let value = u32::from(*byte) * 10 + carry;
            (*byte, carry) = (value as u8, value >> 8);
        }
        if carry > 0 {
            little.push(carry as u8);
        }
    }
    little.push(0);
    if negative {
        let mut carry = true;
        for byte in &mut little {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
    }
    little.reverse();
    little
}

proptest! {
    #[test]
    fn decimals_of_any_size_read_back(
        digits in "[1-9][0-9]{0,400}",
        scale in 0..420_usize,
        negative in any::<bool>(),
    ) {
        let unscaled = bytes_of(&digits, negative);
        let padded = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = padded.split_at(padded.len() - scale);
        let point = if scale > 0 { "." } else { "" };
        let expected = format!("{}{whole}{point}{fraction}", if negative { "-" } else { "" });
        let found = postgres(&decimal(scale as i32), &Datum::Bytes(&unscaled)).unwrap();
        prop_assert_eq!(found, expected);
    }
}
