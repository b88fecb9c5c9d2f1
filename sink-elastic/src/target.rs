//! Which index the writes to an alias go to.

use std::sync::{Arc, Mutex, PoisonError};

/// An index that writes go to. Another one, also one of the same name, is another generation, from 1.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) name: Arc<str>,
    pub(crate) generation: u64,
}

/// The index that writes go to by now; none before one was seen to be ours.
#[derive(Debug, Default)]
pub(crate) struct WriteTarget(Mutex<Option<Target>>);

impl WriteTarget {
    pub(crate) fn get(&self) -> Option<Target> {
        let target = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        target.clone()
    }

    /// Writes go to the index `name`, which was found: another one than before begins a generation.
    pub(crate) fn set(&self, name: &str) -> Target {
        self.put(name, true)
    }

    /// Writes go to the index `name`, which was made now: it begins a generation, also if one of its name was there
    /// before.
    pub(crate) fn begin(&self, name: &str) -> Target {
        self.put(name, false)
    }

    fn put(&self, name: &str, may_be_known: bool) -> Target {
        let mut target = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match target.as_ref() {
            Some(known) if may_be_known && *known.name == *name => known.clone(),
            known => {
                let generation = known.map_or(0, |known| known.generation) + 1;
                let name = name.into();
                target.insert(Target { name, generation }).clone()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::WriteTarget;

    #[test]
    fn another_index_or_one_made_anew_is_another_generation() {
        let target = WriteTarget::default();
        assert!(target.get().is_none());
        assert_eq!(target.set("a").generation, 1);
        assert_eq!(target.set("a").generation, 1);
        assert_eq!(target.set("b").generation, 2);
        assert_eq!(target.begin("b").generation, 3);
        assert_eq!(target.set("a").generation, 4);
        assert_eq!(*target.get().unwrap().name, *"a");
    }
}
