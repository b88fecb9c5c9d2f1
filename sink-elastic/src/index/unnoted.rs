//! What was said already of notes that cannot be written.

use std::sync::{Mutex, PoisonError};

/// The index of which it was said that it cannot be noted which one it is.
#[derive(Debug, Default)]
pub(super) struct Unnoted(Mutex<Option<String>>);

impl Unnoted {
    /// Whether that is to be said of this one.
    pub(super) fn is_news(&self, index: &str) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = said.as_deref() != Some(index);
        *said = Some(index.to_owned());
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::Unnoted;

    #[test]
    fn it_is_said_once_of_each_index() {
        let unnoted = Unnoted::default();
        let said = ["a", "a", "b", "b"].map(|index| unnoted.is_news(index));
        assert_eq!(said, [true, false, true, false]);
    }
}
