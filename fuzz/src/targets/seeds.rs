//! The seeds: what a real server has sent, one a line, in fuzz/seeds. `make fuzz-seeds` records them.

use super::values::TYPES;

/// The targets, each with its file of seeds.
pub const FILES: [(&str, &str); 3] = [
    ("pgoutput", "pgoutput.hex"),
    ("wal2json", "wal2json.jsonl"),
    ("values", "values.tsv"),
];

/// The inputs that a file of seeds holds for its target.
///
/// # Panics
/// The file is malformed.
pub fn inputs(target: &str, text: &str) -> Vec<Vec<u8>> {
    let lines = text.lines();
    match target {
        "pgoutput" => lines.map(bytes).collect(),
        // Alone, and in the order of the slot.
        "wal2json" => {
            let alone = lines.clone().map(|line| [b"\0", line.as_bytes()].concat());
            alone.chain(chunks(text)).collect()
        }
        _ => lines.map(value).collect(),
    }
}

/// A slot's records, some at a time, under each answer of the catalog.
fn chunks(text: &str) -> Vec<Vec<u8>> {
    let lines: Vec<&str> = text.lines().collect();
    let chunk = |(index, lines): (usize, &[&str])| {
        let choice = u8::try_from(index % 8).expect("below eight");
        [&[choice], lines.join("\n").as_bytes()].concat()
    };
    lines.chunks(12).enumerate().map(chunk).collect()
}

/// Two digits a byte.
fn bytes(line: &str) -> Vec<u8> {
    let digits = line.as_bytes().chunks(2);
    digits
        .map(|pair| {
            let pair = std::str::from_utf8(pair).expect("ASCII");
            u8::from_str_radix(pair, 16).expect("hexadecimal digits")
        })
        .collect()
}

/// A type's name and a text, between them a tab; `\n`, `\t` and `\\` within.
fn value(line: &str) -> Vec<u8> {
    let (name, text) = line.split_once('\t').expect("a tab");
    let index = TYPES
        .iter()
        .position(|(known, _)| *known == name)
        .expect("a known type");
    let mut input = vec![u8::try_from(index).expect("few types")];
    let mut escaped = false;
    for character in text.chars() {
        let plain = match (escaped, character) {
            (false, '\\') => {
                escaped = true;
                continue;
            }
            (true, 'n') => '\n',
            (true, 't') => '\t',
            (_, other) => other,
        };
        escaped = false;
        input.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes());
    }
    input
}
