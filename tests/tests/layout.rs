//! The rules of the layout that no compiler checks: who may depend on whom, inside a crate as well, and how large a file
//! or function may be.

#[path = "layout/declarations.rs"]
mod declarations;
#[path = "layout/dependencies.rs"]
mod dependencies;
#[path = "layout/dialects.rs"]
mod dialects;
#[path = "layout/knots.rs"]
mod knots;
#[path = "layout/modules.rs"]
mod modules;
#[path = "layout/names.rs"]
mod names;
#[path = "layout/planted.rs"]
mod planted;
#[path = "layout/sizes.rs"]
mod sizes;
#[path = "layout/workspace.rs"]
mod workspace;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::declarations::declared_twice;
use crate::dependencies::{ALLOWED, wrong_dependencies};
use crate::dialects::dialect_in;
use crate::knots::knots;
use crate::names::arrows;
use crate::sizes::wrong_size;
use crate::workspace::{Member, members, root, sources};

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

#[test]
fn no_two_types_of_a_crate_have_one_name() -> Result<()> {
    let mut faults = Vec::new();
    for member in members()? {
        let mut files = Vec::new();
        for path in sources(&member.folder)? {
            let inner = path.strip_prefix(&member.folder)?;
            // What tests make for themselves is seen by nobody else.
            let is_of_tests = inner
                .components()
                .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
            if !is_of_tests {
                let text = fs::read_to_string(&path)?;
                files.push((inner.to_owned(), text));
            }
        }
        ensure!(files.len() > 1, "{} has no source files", member.name);
        faults.extend(declared_twice(&files));
    }
    none(&faults);
    Ok(())
}

#[test]
fn no_crate_has_a_knot() -> Result<()> {
    let mut faults = Vec::new();
    for member in members()?.iter().chain([&fuzz()]) {
        faults.extend(knots_of(&member.folder)?);
    }
    none(&faults);
    Ok(())
}

#[test]
fn what_any_warehouse_needs_knows_no_dialect() -> Result<()> {
    let text = |file: &Path| fs::read_to_string(root().join(file)).ok();
    let faults = dialect_in("warehouse", Path::new("sink-redshift/src/lib.rs"), &text)?;
    none(&faults);
    Ok(())
}

/// The fuzz targets are a workspace of their own.
fn fuzz() -> Member {
    Member {
        name: "tributary-fuzz".to_owned(),
        dependencies: Vec::new(),
        folder: root().join("fuzz"),
    }
}

/// The knots of a crate's library and programs.
fn knots_of(folder: &Path) -> Result<Vec<String>> {
    let src = folder.strip_prefix(root())?.join("src");
    let text = |file: &Path| fs::read_to_string(root().join(file)).ok();
    let mut roots = vec![src.join("lib.rs"), src.join("main.rs")];
    if let Ok(programs) = fs::read_dir(root().join(&src).join("bin")) {
        for program in programs {
            roots.push(src.join("bin").join(program?.file_name()));
        }
    }
    roots.retain(|file| root().join(file).is_file());
    ensure!(!roots.is_empty(), "{} holds no crate", src.display());
    let mut faults = Vec::new();
    for file in roots {
        let name = src.display().to_string();
        faults.extend(knots(&name, &arrows(&file, &text)?));
    }
    Ok(faults)
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
