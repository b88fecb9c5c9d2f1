//! How large a file or a function may be, and what a file may be called.

use std::path::Path;

/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 6] = ["common", "helpers", "misc", "shared", "types", "utils"];

const FILE_LINES: usize = 500;
const MAIN_LINES: usize = 100;
const FUNCTION_LINES: usize = 70;
const INLINE_TEST_LINES: usize = 200;

pub(crate) fn wrong_size(path: &Path, text: &str) -> Vec<String> {
    let name = path.display();
    let mut faults = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    // The declaration of a file with tests (`mod tests;`) is no test.
    let declares = |at: usize| {
        lines
            .get(at + 1)
            .is_some_and(|next| next.starts_with("mod ") && next.ends_with(';'))
    };
    let code = (0..lines.len())
        .find(|&at| lines[at] == "#[cfg(test)]" && !declares(at))
        .unwrap_or(lines.len());
    let limit = if path.ends_with("main.rs") {
        MAIN_LINES
    } else {
        FILE_LINES
    };
    // A file beside another that holds its tests may be as long as they need.
    if code > limit && !path.ends_with("tests.rs") {
        faults.push(format!(
            "{name}: {code} lines without its tests, {limit} are allowed"
        ));
    }
    let inline = lines.len() - code;
    if inline > INLINE_TEST_LINES {
        faults.push(format!("{name}: {inline} lines of inline tests, {INLINE_TEST_LINES} are allowed: move them beside"));
    }
    let parts = path
        .iter()
        .filter_map(|part| Path::new(part).file_stem()?.to_str());
    for part in parts.filter(|part| EMPTY_NAMES.contains(part)) {
        faults.push(format!("{name}: '{part}' does not say what is inside"));
    }
    for (line, length) in functions(&lines).filter(|(_, length)| *length > FUNCTION_LINES) {
        faults.push(format!(
            "{name}:{line}: a function of {length} lines, {FUNCTION_LINES} are allowed"
        ));
    }
    faults
}

/// First line (from 1) and number of lines of each function, from `fn` to its brace: rustfmt puts that at the same
/// indentation, alone.
fn functions<'a>(lines: &'a [&'a str]) -> impl Iterator<Item = (usize, usize)> + 'a {
    const QUALIFIERS: [&str; 7] = [
        "pub", "async", "const", "unsafe", "extern", "default", "\"C\"",
    ];
    lines.iter().enumerate().filter_map(|(first, line)| {
        let code = line.trim_start();
        let indent = &line[..line.len() - code.len()];
        let mut words = code.split(' ').skip_while(|word| {
            QUALIFIERS.contains(word)
                || word.starts_with("pub(")
                || (word.ends_with(')') && !word.contains('<'))
        });
        if words.next() != Some("fn") || code.ends_with('}') {
            return None;
        }
        let end = lines[first..].iter().position(|line| {
            // A declaration in a trait ends without a body.
            line.strip_prefix(indent)
                .is_some_and(|rest| rest == "}" || (rest.starts_with(')') && rest.ends_with(';')))
        })?;
        let declared = code.ends_with(';') || lines[first + end].ends_with(';');
        (!declared).then_some((first + 1, end + 1))
    })
}

mod planted {
    use super::*;

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        let lines = "x\n".repeat(500);
        assert!(wrong_size(Path::new("a/src/slot.rs"), &lines).is_empty());
        assert!(
            wrong_size(
                Path::new("a/src/slot.rs"),
                &format!("{lines}#[cfg(test)]\nmod tests {{\n}}\n")
            )
            .is_empty()
        );
        let hidden = format!("#[cfg(test)]\nmod tests;\n{lines}");
        assert_eq!(wrong_size(Path::new("a/src/slot.rs"), &hidden).len(), 1);
        let faults = wrong_size(Path::new("a/src/slot.rs"), &format!("{lines}x\n"));
        assert_eq!(
            faults,
            ["a/src/slot.rs: 501 lines without its tests, 500 are allowed"]
        );
        assert!(wrong_size(Path::new("a/src/slot/tests.rs"), &"x\n".repeat(501)).is_empty());
        let faults = wrong_size(Path::new("a/src/main.rs"), &"x\n".repeat(101));
        assert_eq!(
            faults,
            ["a/src/main.rs: 101 lines without its tests, 100 are allowed"]
        );
    }

    #[test]
    fn long_inline_tests_are_found() {
        let faults = wrong_size(
            Path::new("a/src/slot.rs"),
            &format!("x\n#[cfg(test)]\n{}", "x\n".repeat(200)),
        );
        assert_eq!(
            faults,
            ["a/src/slot.rs: 201 lines of inline tests, 200 are allowed: move them beside"]
        );
    }

    #[test]
    fn an_empty_name_is_found() {
        for path in ["a/src/utils.rs", "a/src/helpers/slot.rs"] {
            assert_eq!(wrong_size(Path::new(path), "x\n").len(), 1, "{path}");
        }
    }

    #[test]
    fn a_long_function_is_found() {
        for head in [
            "fn a()",
            "    pub(super) async fn a<T: Send>()",
            "pub unsafe fn a()",
            "pub(in crate::x) fn a()",
        ] {
            let indent = &head[..head.len() - head.trim_start().len()];
            let text = |body| {
                format!(
                    "x\n{head} {{\n{}{indent}}}\nfn b() {{}}\n",
                    format!("{indent}    x\n").repeat(body)
                )
            };
            assert!(
                wrong_size(Path::new("a/src/slot.rs"), &text(68)).is_empty(),
                "{head}"
            );
            let faults = wrong_size(Path::new("a/src/slot.rs"), &text(69));
            assert_eq!(
                faults,
                ["a/src/slot.rs:2: a function of 71 lines, 70 are allowed"],
                "{head}"
            );
        }
    }

    #[test]
    fn a_declaration_is_no_function() {
        let text = format!(
            "trait T {{\n    fn a(&self);\n    fn b(\n        &self,\n    ) -> u8;\n{}}}\n",
            "    // x\n".repeat(80)
        );
        assert!(wrong_size(Path::new("a/src/slot.rs"), &text).is_empty());
    }
}
