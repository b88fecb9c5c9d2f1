//! `numeric`: decimal text to an unscaled integer in two's complement.

use super::binary;
use super::misfit::Misfit;
use crate::sentinel;

const NO_NUMBER: Misfit = Misfit::text("it is not a decimal number");

/// Decimal digits that always fit into a `u64`.
const LIMB_DIGITS: u32 = 19;

/// `numeric(precision, scale)` as the schema declares it: the scale is not negative, and the
/// precision not below it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fixed {
    /// Digits in all.
    precision: usize,
    /// Digits behind the point.
    scale: usize,
}

impl Fixed {
    /// Of Postgres' own precision and scale. A negative scale becomes 0, with more digits.
    pub(super) fn new(precision: u16, scale: i16) -> Self {
        let below_zero = usize::from(scale.min(0).unsigned_abs());
        Self {
            precision: usize::from(precision) + below_zero,
            scale: usize::try_from(scale).unwrap_or(0),
        }
    }

    /// Appends the value as `bytes`.
    pub(super) fn append(self, text: &[u8], out: &mut Vec<u8>) -> Result<(), Misfit> {
        let Some(number) = Number::parse(text)? else {
            return Err(Misfit::value(
                "a decimal of fixed scale holds finite numbers only",
            ));
        };
        let number = number.without_zeros_behind(self.scale);
        let Some(missing) = self.scale.checked_sub(number.fraction.len()) else {
            return Err(Misfit::value(
                "it has more digits behind the point than the type's scale",
            ));
        };
        if number.digits() + missing > self.precision {
            return Err(Misfit::value(
                "it has more digits than the type's precision",
            ));
        }
        binary::sized(out, |out| number.append_unscaled(missing, out));
        Ok(())
    }
}

/// Appends a `numeric` without a scale as `VariableScaleDecimal`: the number's own scale, then the
/// unscaled value. NaN and the infinities have the scale [`sentinel::SPECIAL_SCALE`] and the values
/// [`sentinel::NAN`], [`sentinel::INFINITY`] and [`sentinel::NEGATIVE_INFINITY`]. `canonical` drops
/// the zeros at the end of the fraction.
pub(super) fn variable(text: &[u8], canonical: bool, out: &mut Vec<u8>) -> Result<(), Misfit> {
    let Some(number) = Number::parse(text)? else {
        binary::long(sentinel::SPECIAL_SCALE.into(), out);
        let value = match text {
            b"NaN" => sentinel::NAN,
            b"Infinity" => sentinel::INFINITY,
            _ => sentinel::NEGATIVE_INFINITY,
        };
        binary::string(&value, out);
        return Ok(());
    };
    let number = if canonical {
        number.without_zeros_behind(0)
    } else {
        number
    };
    let scale = i32::try_from(number.fraction.len()).map_err(|_| NO_NUMBER)?;
    binary::long(scale.into(), out);
    binary::sized(out, |out| number.append_unscaled(0, out));
    Ok(())
}

/// Appends `money`, as a session with lc_monetary=C prints it (`-$1,234.56`), as `bytes` in hundredths.
pub(super) fn money(text: &[u8], out: &mut Vec<u8>) -> Result<(), Misfit> {
    const NO_MONEY: Misfit = Misfit::text("it is not money as lc_monetary=C prints it");
    let (negative, amount) = match text {
        [b'-', b'$', amount @ ..] => (true, amount),
        [b'$', amount @ ..] => (false, amount),
        _ => return Err(NO_MONEY),
    };
    let digits: Vec<u8> = amount
        .iter()
        .copied()
        .filter(|&byte| byte != b',')
        .collect();
    let Ok(Some(parsed)) = Number::parse(&digits) else {
        return Err(NO_MONEY);
    };
    if parsed.negative || parsed.fraction.len() != 2 {
        return Err(NO_MONEY);
    }
    let number = Number { negative, ..parsed };
    binary::sized(out, |out| number.append_unscaled(0, out));
    Ok(())
}

/// The parts of a decimal number's text; all digits are checked.
#[derive(Clone, Copy)]
struct Number<'a> {
    negative: bool,
    /// Without zeros in front.
    whole: &'a [u8],
    fraction: &'a [u8],
}

impl<'a> Number<'a> {
    /// `None` for NaN and the infinities.
    fn parse(text: &'a [u8]) -> Result<Option<Self>, Misfit> {
        if matches!(text, b"NaN" | b"Infinity" | b"-Infinity") {
            return Ok(None);
        }
        let (negative, digits) = match text {
            [b'-', digits @ ..] => (true, digits),
            digits => (false, digits),
        };
        let (whole, fraction) = match digits.iter().position(|&byte| byte == b'.') {
            Some(point) => (&digits[..point], &digits[point + 1..]),
            None => (digits, &[][..]),
        };
        let all_digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
        if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
            return Err(NO_NUMBER);
        }
        let zeros = whole.iter().take_while(|&&byte| byte == b'0').count();
        Ok(Some(Self {
            negative,
            whole: &whole[zeros..],
            fraction,
        }))
    }

    /// Without the zeros at the end, but not below `scale` digits behind the point.
    fn without_zeros_behind(mut self, scale: usize) -> Self {
        while self.fraction.len() > scale {
            let [rest @ .., b'0'] = self.fraction else {
                break;
            };
            self.fraction = rest;
        }
        self
    }

    /// The unscaled value's digits, without zeros in front.
    fn digits(&self) -> usize {
        if !self.whole.is_empty() {
            return self.whole.len() + self.fraction.len();
        }
        let zeros = self
            .fraction
            .iter()
            .take_while(|&&byte| byte == b'0')
            .count();
        self.fraction.len() - zeros
    }

    /// Appends the unscaled value times 10^`zeros`, as `BigInteger.toByteArray` has it: big-endian
    /// two's complement, as few bytes as possible.
    fn append_unscaled(&self, zeros: usize, out: &mut Vec<u8>) {
        let digits = self
            .whole
            .iter()
            .chain(self.fraction)
            .map(|byte| u64::from(byte - b'0'));
        let digits = digits.chain(std::iter::repeat_n(0, zeros));
        if self.whole.len() + self.fraction.len() + zeros <= LIMB_DIGITS as usize {
            let magnitude = digits.fold(0, |value, digit| value * 10 + digit);
            append_twos_complement(self.negative, &[magnitude], out);
        } else {
            append_twos_complement(self.negative, &limbs(digits), out);
        }
    }
}

/// The number with these decimal digits, in limbs of 64 bits, the lowest first.
fn limbs(mut digits: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut limbs: Vec<u64> = Vec::new();
    loop {
        let (mut chunk, mut factor, mut count) = (0, 1_u64, 0);
        for digit in digits.by_ref().take(LIMB_DIGITS as usize) {
            chunk = chunk * 10 + digit;
            factor *= 10;
            count += 1;
        }
        let mut carry = chunk;
        for limb in &mut limbs {
            let product = u128::from(*limb) * u128::from(factor) + u128::from(carry);
            (*limb, carry) = halves(product);
        }
        if carry > 0 {
            limbs.push(carry);
        }
        if count < LIMB_DIGITS {
            return limbs;
        }
    }
}

/// The lower and the upper 64 bits; the cut is what is wanted.
#[expect(clippy::cast_possible_truncation, reason = "the halves of a product")]
const fn halves(product: u128) -> (u64, u64) {
    (product as u64, (product >> 64) as u64)
}

fn append_twos_complement(negative: bool, limbs: &[u64], out: &mut Vec<u8>) {
    let start = out.len();
    let zero = limbs.iter().all(|&limb| limb == 0);
    let (flip, mut carry) = if negative && !zero {
        (u64::MAX, true)
    } else {
        (0, false)
    };
    let sign = low_bits(flip);
    // The sign's byte first, then the limbs from the lowest, each big-endian: reversed at the end.
    for &limb in limbs {
        let (limb, overflow) = (limb ^ flip).overflowing_add(u64::from(carry));
        carry = overflow;
        out.extend_from_slice(&limb.to_le_bytes());
    }
    out.push(sign);
    out[start..].reverse();
    // A byte in front goes when the next one says the same sign.
    let bytes = &out[start..];
    let needless = bytes
        .windows(2)
        .take_while(|pair| pair[0] == sign && (pair[1] ^ sign) & 0x80 == 0)
        .count();
    out.drain(start..start + needless);
}

const fn low_bits(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

#[cfg(test)]
mod tests;
