//! The package index of this machine: real data that nobody here wrote.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// With fewer packages to download than this the machine has no index, but only what is installed.
const FEW: usize = 1000;

/// One record of the index, as `deb822(5)` describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    /// By the name in lower case; the lines of one value are parted by a line feed.
    fields: BTreeMap<String, String>,
    /// The whole record, as it stands in the index.
    pub(super) record: String,
}

impl Package {
    /// A field's value; the name in lower case.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.fields
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// A field's number; nothing if it is none, or negative.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.get(name)?
            .parse()
            .ok()
            .filter(|number: &i64| *number >= 0)
    }

    /// The items of a field that is a list with commas.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let items = self.get(name).unwrap_or_default().split(',');
        items
            .map(|item| item.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter(|item| !item.is_empty())
            .collect()
    }
}

/// All packages that apt knows. Where it knows none and this is root, the index is fetched first.
///
/// # Errors
/// There is no apt, or it has no index.
pub(super) fn read() -> Result<Vec<Package>> {
    let packages = dump()?;
    if is_index(&packages) {
        return Ok(packages);
    }
    // SAFETY: geteuid(2) takes nothing and cannot fail.
    #[allow(unsafe_code)]
    if unsafe { libc::geteuid() } == 0 {
        super::board::say("apt has no package index yet: apt-get update");
        let status = Command::new("apt-get")
            .args(["update", "-q"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .context("cannot start apt-get")?;
        let packages = dump()?;
        if status.success() && is_index(&packages) {
            return Ok(packages);
        }
    }
    bail!("apt has no package index, which is the demo's data: run `apt-get update` as root first")
}

fn is_index(packages: &[Package]) -> bool {
    let known = packages
        .iter()
        .filter(|package| package.get("filename").is_some());
    known.count() >= FEW
}

fn dump() -> Result<Vec<Package>> {
    let output = Command::new("apt-cache")
        .arg("dumpavail")
        .stdin(Stdio::null())
        .output()
        .context("cannot start apt-cache: the demo's data are the packages of Debian or Ubuntu")?;
    if !output.status.success() {
        bail!(
            "apt-cache dumpavail fails: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// The records that name a package, in the order of the text.
pub(super) fn parse(text: &str) -> Vec<Package> {
    let mut packages = Vec::new();
    let mut lines = Vec::new();
    for line in text.lines().chain([""]) {
        if line.trim().is_empty() {
            packages.extend(package(&lines));
            lines.clear();
        } else {
            lines.push(line);
        }
    }
    packages
}

fn package(lines: &[&str]) -> Option<Package> {
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    let mut current: Option<String> = None;
    for line in lines {
        if let Some(rest) = line.strip_prefix([' ', '\t']) {
            if let Some(value) = current.as_ref().and_then(|name| fields.get_mut(name)) {
                value.push('\n');
                // A line that is to be empty is written as a dot.
                value.push_str(if rest.trim_end() == "." { "" } else { rest });
            }
            continue;
        }
        // The first of two fields with one name counts; the lines that continue the second go with it.
        current = line.split_once(':').and_then(|(name, value)| {
            let name = name.trim().to_ascii_lowercase();
            let is_new = !name.is_empty() && !fields.contains_key(&name);
            is_new.then(|| {
                fields.insert(name.clone(), clean(value.trim()));
                name
            })
        });
    }
    for value in fields.values_mut() {
        *value = clean(value.trim());
    }
    fields.get("package").filter(|name| !name.is_empty())?;
    Some(Package {
        fields,
        record: clean(&lines.join("\n")),
    })
}

/// Postgres' text holds every character but NUL.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn records_are_parted_by_blank_lines() {
        let packages =
            parse("Package: a\nSize: 12\n\n\nPackage: b\n \t\nPackage: c\r\nSize: 7\r\n");
        let names: Vec<_> = packages.iter().map(|p| p.get("package").unwrap()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(packages[0].number("size"), Some(12));
        assert_eq!(packages[2].number("size"), Some(7));
        assert_eq!(packages[0].record, "Package: a\nSize: 12");
        assert_eq!(parse(""), []);
    }

    #[test]
    fn lines_that_continue_a_field_belong_to_it() {
        let text = "Package: a\nDescription: short\n first line\n .\n\tlast: line\nTag: role::program, x::y,\n z::w,\n";
        let packages = parse(text);
        let package = &packages[0];
        assert_eq!(
            package.get("description"),
            Some("short\nfirst line\n\nlast: line")
        );
        assert_eq!(package.list("tag"), ["role::program", "x::y", "z::w"]);
        assert_eq!(package.get("last"), None);
        assert_eq!(package.record, text.trim_end());
    }

    #[test]
    fn missing_empty_and_wrong_fields_are_none() {
        let packages = parse("Package: a\nSize: many\nInstalled-Size: -3\nSection:\n");
        let package = &packages[0];
        assert_eq!(package.number("size"), None);
        assert_eq!(package.number("installed-size"), None);
        assert_eq!(package.get("section"), None);
        assert_eq!(package.get("homepage"), None);
        assert!(package.list("tag").is_empty());
    }

    #[test]
    fn what_is_no_package_is_passed_over() {
        assert_eq!(
            parse("Version: 1\n\nPackage:\n\n continued\n\nnonsense\n"),
            []
        );
        let packages = parse(" stray\nno colon\nPackage: a\n: nameless\n x\n");
        assert_eq!(packages.len(), 1);
        assert_eq!(packages[0].get("package"), Some("a"));
    }

    #[test]
    fn the_first_of_two_fields_counts() {
        let packages = parse("Package: a\nSize: 1\nsize: 2\n more\nVersion: 3\n");
        assert_eq!(packages[0].get("size"), Some("1"));
        assert_eq!(packages[0].get("version"), Some("3"));
    }

    #[test]
    fn odd_characters_are_kept_but_for_nul() {
        let packages = parse("Package: a\0b\nDescription: tab\there \\N \"q\" ü – 漢\n a:\0b\n");
        assert_eq!(packages[0].get("package"), Some("a\u{fffd}b"));
        assert_eq!(
            packages[0].get("description"),
            Some("tab\there \\N \"q\" ü – 漢\na:\u{fffd}b")
        );
        assert!(!packages[0].record.contains('\0'));
    }
}
