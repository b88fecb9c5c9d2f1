//! Floating-point numbers as Postgres reads them.

/// The shortest text that reads back as the same number.
pub(super) fn write<F: ryu::Float + PartialOrd + Default>(
    value: F,
    finite: bool,
    out: &mut Vec<u8>,
) {
    let mut buffer = ryu::Buffer::new();
    let text = if finite {
        buffer.format_finite(value)
    } else if value > F::default() {
        "Infinity"
    } else if value < F::default() {
        "-Infinity"
    } else {
        "NaN"
    };
    out.extend_from_slice(text.as_bytes());
}
