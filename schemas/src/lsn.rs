//! A position in Postgres' write-ahead log.

use std::fmt;
use std::str::FromStr;

/// A log sequence number: a byte position in the write-ahead log.
///
/// Text for people (`16/B374D848`), an integer on the wire. Only commit LSNs are ordered across
/// transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The position that no record has (`InvalidXLogRecPtr`).
    pub const ZERO: Self = Self(0);

    /// Whether it is [`Lsn::ZERO`].
    pub const fn is_zero(&self) -> bool {
        self.0 == 0
    }

    /// Bytes from `earlier` up to `self`, or zero where `earlier` is the later one.
    pub const fn bytes_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// The text is not an LSN in Postgres' form `X/X`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an LSN (expected two hexadecimal numbers, as in 16/B374D848)")]
pub struct ParseLsnError(String);

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseLsnError(text.to_owned());
        let (high, low) = text.split_once('/').ok_or_else(wrong)?;
        let high = u32::from_str_radix(high, 16).map_err(|_| wrong())?;
        let low = u32::from_str_radix(low, 16).map_err(|_| wrong())?;
        Ok(Self(u64::from(high) << 32 | u64::from(low)))
    }
}

impl serde::Serialize for Lsn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Lsn {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::Lsn;

    #[test]
    fn text_round_trips() {
        for (text, value) in [
            ("0/0", 0),
            ("16/B374D848", 0x16_B374_D848),
            ("FFFFFFFF/FFFFFFFF", u64::MAX),
        ] {
            assert_eq!(text.parse::<Lsn>().unwrap(), Lsn(value));
            assert_eq!(Lsn(value).to_string(), text);
        }
        for wrong in ["", "1", "1/", "/1", "g/1", "1/100000000"] {
            assert!(wrong.parse::<Lsn>().is_err(), "{wrong}");
        }
    }
}
