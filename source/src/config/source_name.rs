//! What a source may be called.

/// The longest `name`: a slot's name has 63 bytes at most, ours begins with `tributary_`.
pub(super) const NAME_BYTES: usize = 50;

/// Whether a source may have this name.
pub(super) fn is_source_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    !name.is_empty() && name.len() <= NAME_BYTES && name.chars().all(legal)
}
