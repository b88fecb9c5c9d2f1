//! No knots: inside a crate, too, what uses another thing is not used by it.
//!
//! In each folder (the crate's root is one) there is an order between the modules that stand in it, each with all that is
//! below it, and the folder's own file (`sink.rs` beside `sink/`, `lib.rs`): no chain of names taken leads from one of
//! them back to itself. So no two files take names of each other, no three files in a ring, no two folders, and a module
//! that uses its children is not used by them.
//!
//! A name is taken by a `use` item or by a path in the code; `mod child;` takes nothing. A name that comes through a
//! re-export is taken of the file that defines it, so a file of nothing but `mod` and `use` lines may be the face of a
//! folder whose files use each other. A face with code of its own counts as well.
//!
//! One thing is not seen: a type's methods may be written in several files (`impl Parent` in a child), and who calls
//! one by `self.` names no file.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::names::Arrow;

/// A child with all that is below it, by its name; or the folder's own file.
type Place = Option<String>;

/// The arrows between the places of one folder.
type Folder<'a> = BTreeMap<(Place, Place), Vec<&'a Arrow>>;

/// One message for each set of places that are all in rings with each other, with all arrows between them.
pub(crate) fn knots(of: &str, arrows: &[Arrow]) -> Vec<String> {
    let mut folders: BTreeMap<&[String], Folder> = BTreeMap::new();
    for arrow in arrows {
        let both = arrow.from.iter().zip(&arrow.to);
        let depth = both.take_while(|(from, to)| from == to).count();
        let places = (arrow.from.get(depth).cloned(), arrow.to.get(depth).cloned());
        let folder = folders.entry(&arrow.from[..depth]).or_default();
        folder.entry(places).or_default().push(arrow);
    }
    let messages = |(path, folder): (&&[String], &Folder)| {
        let name = format!("{of}/{}", path.join("/"));
        let own = path.last().map_or("the root", String::as_str).to_owned();
        tied(folder)
            .iter()
            .map(|places| message(name.trim_end_matches('/'), &own, places, folder))
            .collect::<Vec<_>>()
    };
    folders.iter().flat_map(messages).collect()
}

/// The sets of places from each of which all others of the set can be reached.
fn tied(folder: &Folder) -> BTreeSet<BTreeSet<Place>> {
    let places: BTreeSet<&Place> = folder.keys().flat_map(|(from, to)| [from, to]).collect();
    places
        .into_iter()
        .filter_map(|place| {
            let mut tied: BTreeSet<Place> = reached(folder, place).into_keys().collect();
            tied.retain(|other| reached(folder, other).contains_key(place));
            (!tied.is_empty()).then_some(tied)
        })
        .collect()
}

/// All places that can be reached from one (itself only by a ring), each with the one before it on a shortest way.
fn reached<'a>(folder: &'a Folder, from: &'a Place) -> BTreeMap<Place, &'a Place> {
    let mut before = BTreeMap::new();
    let mut next = VecDeque::from([from]);
    while let Some(place) = next.pop_front() {
        for (_, to) in folder.keys().filter(|(from, _)| from == place) {
            if !before.contains_key(to) {
                before.insert(to.clone(), place);
                next.push_back(to);
            }
        }
    }
    before
}

fn message(name: &str, own: &str, places: &BTreeSet<Place>, folder: &Folder) -> String {
    let shown = |place: &Place| match place {
        Some(child) => child.clone(),
        None => format!("{own} itself"),
    };
    let ring = places
        .iter()
        .map(|place| ring(folder, place))
        .min_by_key(Vec::len);
    let ring: Vec<String> = ring.iter().flatten().map(|place| shown(place)).collect();
    let mut lines = vec![format!(
        "{name}: {} modules use each other in a ring, as {} does",
        places.len(),
        ring.join(" → ")
    )];
    for ((from, to), arrows) in folder {
        if places.contains(from) && places.contains(to) {
            lines.extend(arrows.iter().map(|arrow| format!("    {}", arrow.text)));
        }
    }
    lines.join("\n")
}

/// A shortest way from a place back to itself.
fn ring<'a>(folder: &'a Folder, place: &'a Place) -> Vec<&'a Place> {
    let before = reached(folder, place);
    let mut ring = vec![place];
    let mut at = before.get(place);
    while let Some(&step) = at {
        ring.push(step);
        at = (step != place).then(|| before.get(step)).flatten();
    }
    ring.reverse();
    ring
}
