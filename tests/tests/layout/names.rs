//! Which file of a crate takes which names of which other file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;

use crate::modules::{Brings, Module, ModulePath, modules};

/// The names that one file takes of another, and where both stand.
#[derive(Debug)]
pub(crate) struct Arrow {
    pub(crate) from: ModulePath,
    pub(crate) to: ModulePath,
    /// `from.rs → to.rs: names`.
    pub(crate) text: String,
}

/// The arrows between the files of the crate whose root file is `root`.
///
/// A name that comes through a re-export is taken of the file that defines it, and, if the one that re-exports it has
/// code of its own, of that one as well. A module's name alone (`use crate::a;`) takes nothing: what is reached
/// through it does.
pub(crate) fn arrows(root: &Path, text: &dyn Fn(&Path) -> Option<String>) -> Result<Vec<Arrow>> {
    let names = Names(modules(root, text)?);
    let mut taken: BTreeMap<(&ModulePath, ModulePath), BTreeSet<String>> = BTreeMap::new();
    for (path, module) in &names.0 {
        let used = (0..module.uses.len()).flat_map(|at| names.brought(path, at));
        let written = module
            .paths
            .iter()
            .flat_map(|written| names.resolve(path, written, &mut Vec::new()));
        for found in used.chain(written) {
            if let Found::Item { home, name } = found
                && home != module.home
            {
                let names = taken.entry((&module.home, home)).or_default();
                names.insert(name);
            }
        }
    }
    let file = |path: &ModulePath| names.0[path].file.display();
    Ok(taken
        .into_iter()
        .map(|((from, to), names)| Arrow {
            text: format!(
                "{} → {}: {}",
                file(from),
                file(&to),
                names.into_iter().collect::<Vec<_>>().join(", ")
            ),
            from: from.clone(),
            to,
        })
        .collect())
}

/// What a path leads to.
enum Found {
    Module(ModulePath),
    Item { home: ModulePath, name: String },
}

struct Names(BTreeMap<ModulePath, Module>);

/// The `use` items that led here: one that leads to itself (`use a::a;` for a crate `a`) leads nowhere.
type Seen = Vec<(ModulePath, usize)>;

impl Names {
    /// What a `use` item takes.
    fn brought(&self, path: &ModulePath, at: usize) -> Vec<Found> {
        let used = &self.0[path].uses[at];
        let mut seen = vec![(path.clone(), at)];
        let found = self.resolve(path, &used.path, &mut seen);
        if used.brings != Brings::Everything {
            return found;
        }
        let all = |found| match found {
            Found::Module(of) if self.0[&of].has_code => vec![Found::Item {
                home: self.0[&of].home.clone(),
                name: "*".to_owned(),
            }],
            // The names of a face are those of the files that define them.
            Found::Module(of) if of != *path => (0..self.0[&of].uses.len())
                .flat_map(|at| self.brought(&of, at))
                .collect(),
            found => vec![found],
        };
        found.into_iter().flat_map(all).collect()
    }

    /// What `written` leads to when it stands in the module `at`; nothing if it leads out of the crate.
    fn resolve(&self, at: &ModulePath, written: &[String], seen: &mut Seen) -> Vec<Found> {
        let mut rest = written.iter();
        let mut found = match written.first().map(String::as_str) {
            Some("crate") => {
                rest.next();
                vec![Found::Module(ModulePath::new())]
            }
            Some("self" | "super") => {
                let mut at = at.clone();
                while let Some("self" | "super") = rest.as_slice().first().map(String::as_str) {
                    if rest.next().is_some_and(|name| name == "super") {
                        at.pop();
                    }
                }
                vec![Found::Module(at)]
            }
            Some(name) => {
                rest.next();
                self.here(at, name, at, seen)
            }
            None => Vec::new(),
        };
        for name in rest {
            if found.iter().any(|found| matches!(found, Found::Module(_))) {
                found.retain(|found| matches!(found, Found::Module(_)));
            }
            let step = |found| match found {
                Found::Module(of) => self.inside(&of, name, at, seen),
                // What follows is the item's own: a variant, a method.
                item @ Found::Item { .. } => vec![item],
            };
            found = found.into_iter().flat_map(step).collect();
        }
        found
    }

    /// What a name means that a path from elsewhere names in a module.
    fn inside(&self, of: &ModulePath, name: &str, by: &ModulePath, seen: &mut Seen) -> Vec<Found> {
        let found = self.here(of, name, by, seen);
        if found.is_empty() {
            // Re-exported of another crate, or made by a macro.
            return vec![self.item(of, name)];
        }
        found
    }

    /// What a name means in a module: an item, a module, or what a `use` item brings; nothing if it is of another crate.
    fn here(&self, of: &ModulePath, name: &str, by: &ModulePath, seen: &mut Seen) -> Vec<Found> {
        let module = &self.0[of];
        let mut found = Vec::new();
        if module.items.contains(name) {
            found.push(self.item(of, name));
        }
        if module.children.contains(name) {
            found.push(Found::Module([of.as_slice(), &[name.to_owned()]].concat()));
        }
        for at in 0..module.uses.len() {
            if module.uses[at].brings == Brings::Name(name.to_owned()) {
                found.extend(self.through(of, at, name, by, seen));
            }
        }
        for at in 0..module.uses.len() {
            if found.is_empty() && module.uses[at].brings == Brings::Everything {
                found.extend(self.through(of, at, name, by, seen));
            }
        }
        found
    }

    /// What the `use` item `at` of a module gives to `by` as `name`.
    fn through(
        &self,
        of: &ModulePath,
        at: usize,
        name: &str,
        by: &ModulePath,
        seen: &mut Seen,
    ) -> Vec<Found> {
        let step = (of.clone(), at);
        if seen.contains(&step) {
            return Vec::new();
        }
        seen.push(step);
        let used = &self.0[of].uses[at];
        let mut found = self.resolve(of, &used.path, seen);
        if used.brings == Brings::Everything {
            let one = |found| match found {
                Found::Module(inner) => self.here(&inner, name, of, seen),
                // A variant of an enum.
                Found::Item { .. } => Vec::new(),
            };
            found = found.into_iter().flat_map(one).collect();
        }
        seen.pop();
        if !found.is_empty() && self.0[of].has_code && self.0[of].home != self.0[by].home {
            found.push(self.item(of, name));
        }
        found
    }

    fn item(&self, of: &ModulePath, name: &str) -> Found {
        Found::Item {
            home: self.0[of].home.clone(),
            name: name.to_owned(),
        }
    }
}
