//! The rules of the layout that no compiler checks: who may depend on whom, and how large a file or function may be.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The crates of the workspace that a crate may depend on. Dependencies point one way: source and sinks → runtime →
/// schemas; the tests may use everything, and nobody uses them.
const ALLOWED: [(&str, &[&str]); 6] = [
    ("tributary-schemas", &[]),
    ("tributary-runtime", &["tributary-schemas"]),
    (
        "tributary-source",
        &["tributary-runtime", "tributary-schemas"],
    ),
    (
        "tributary-sink-elastic",
        &["tributary-runtime", "tributary-schemas"],
    ),
    (
        "tributary-sink-redshift",
        &["tributary-runtime", "tributary-schemas"],
    ),
    (
        "tributary-tests",
        &[
            "tributary-runtime",
            "tributary-schemas",
            "tributary-sink-elastic",
            "tributary-sink-redshift",
            "tributary-source",
        ],
    ),
];

/// What would make the contract impure: it is the same for whoever reads or writes, and does neither itself.
const NOT_IN_SCHEMAS: [&str; 7] = [
    "axum",
    "futures",
    "hyper",
    "rdkafka",
    "reqwest",
    "tokio",
    "tokio-postgres",
];

/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 6] = ["common", "helpers", "misc", "shared", "types", "utils"];

const FILE_LINES: usize = 500;
const MAIN_LINES: usize = 100;
const FUNCTION_LINES: usize = 70;
const INLINE_TEST_LINES: usize = 200;

struct Member {
    name: String,
    /// Of all kinds: what only a test needs would still turn the arrow around.
    dependencies: Vec<String>,
    folder: PathBuf,
}

#[test]
fn dependencies_point_one_way() -> Result<()> {
    let members = members()?;
    ensure!(
        members.len() >= ALLOWED.len(),
        "cargo metadata names only {} crates",
        members.len()
    );
    let faults: Vec<String> = members.iter().flat_map(wrong_dependencies).collect();
    none(&faults);
    Ok(())
}

#[test]
fn files_and_functions_stay_readable() -> Result<()> {
    let mut faults = Vec::new();
    let mut seen = 0;
    for member in members()? {
        for path in sources(&member.folder)? {
            let text = fs::read_to_string(&path)?;
            let root = member
                .folder
                .parent()
                .context("the workspace has no folder")?;
            faults.extend(wrong_size(path.strip_prefix(root)?, &text));
            seen += 1;
        }
    }
    ensure!(seen > 20, "only {seen} source files were found");
    none(&faults);
    Ok(())
}

fn none(faults: &[String]) {
    assert!(
        faults.is_empty(),
        "
{}",
        faults.join(
            "
"
        )
    );
}

fn members() -> Result<Vec<Member>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("no parent folder")?;
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    packages.iter().map(member).collect()
}

fn member(package: &Value) -> Result<Member> {
    let text = |value: &Value| value.as_str().map(str::to_owned).context("no text");
    let manifest = PathBuf::from(text(&package["manifest_path"])?);
    let dependencies = package["dependencies"]
        .as_array()
        .context("no dependencies")?;
    Ok(Member {
        name: text(&package["name"])?,
        dependencies: dependencies
            .iter()
            .map(|d| text(&d["name"]))
            .collect::<Result<_>>()?,
        folder: manifest.parent().context("no folder")?.to_owned(),
    })
}

/// All Rust files of a crate.
fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["src", "tests", "benches", "examples"]
        .iter()
        .map(|name| folder.join(name))
        .collect();
    while let Some(folder) = folders.pop() {
        if !folder.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    Ok(found)
}

fn wrong_dependencies(member: &Member) -> Vec<String> {
    let name = &member.name;
    let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| known == name) else {
        return vec![format!(
            "{name} is new: say in layout.rs what it may depend on"
        )];
    };
    let mut faults = Vec::new();
    for dependency in &member.dependencies {
        let ours = dependency.starts_with("tributary-");
        if ours && !allowed.contains(&dependency.as_str()) {
            faults.push(format!("{name} must not depend on {dependency}"));
        }
        if name == "tributary-schemas" && NOT_IN_SCHEMAS.contains(&dependency.as_str()) {
            faults.push(format!(
                "{name} is pure and must not depend on {dependency}"
            ));
        }
    }
    faults
}

fn wrong_size(path: &Path, text: &str) -> Vec<String> {
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

    fn depends(name: &str, on: &[&str]) -> Vec<String> {
        let dependencies = on.iter().map(|name| (*name).to_owned()).collect();
        wrong_dependencies(&Member {
            name: name.to_owned(),
            dependencies,
            folder: PathBuf::new(),
        })
    }

    #[test]
    fn a_wrong_arrow_is_found() {
        for (name, on) in [
            ("tributary-schemas", "tributary-runtime"),
            ("tributary-runtime", "tributary-source"),
            ("tributary-sink-elastic", "tributary-sink-redshift"),
            ("tributary-sink-redshift", "tributary-source"),
            ("tributary-source", "tributary-tests"),
        ] {
            assert_eq!(
                depends(name, &["serde", on]),
                [format!("{name} must not depend on {on}")]
            );
        }
        assert!(depends("tributary-source", &["tributary-runtime", "tokio"]).is_empty());
        assert!(depends("tributary-tests", &["tributary-source", "rdkafka"]).is_empty());
    }

    #[test]
    fn an_impure_contract_is_found() {
        assert_eq!(
            depends("tributary-schemas", &["tokio", "serde"]),
            ["tributary-schemas is pure and must not depend on tokio"]
        );
    }

    #[test]
    fn a_crate_without_a_rule_is_found() {
        assert_eq!(
            depends("tributary-sink-new", &[]),
            ["tributary-sink-new is new: say in layout.rs what it may depend on"]
        );
    }

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
