//! How indices differ from what is asked for: said once in the log, and in the status as long as it is so.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use tributary_runtime::health::Health;

/// The subject of the warning in the service's status.
const SUBJECT: &str = "search documents";
/// So many stand in the status; the log has all.
const SHOWN: usize = 5;

/// What is known of all indices of the service.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    health: OnceLock<Health>,
    differences: Mutex<BTreeMap<String, Vec<String>>>,
}

impl Announced {
    /// Says it from now on in the service's status.
    pub(crate) fn report_to(&self, health: Health) {
        // The first one stays: there is one service in a process.
        let _ = self.health.set(health);
    }

    /// These are all differences of the index behind an alias.
    pub(crate) fn set(&self, alias: &str, differences: Vec<String>) {
        let mut all = self
            .differences
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = all.remove(alias).unwrap_or_default();
        for difference in differences.iter().filter(|one| !known.contains(one)) {
            tracing::warn!(alias, "{difference}");
        }
        if !differences.is_empty() {
            all.insert(alias.to_owned(), differences);
        }
        if let Some(health) = self.health.get() {
            health.set_warning(SUBJECT, warning(&all));
        }
    }
}

fn warning(all: &BTreeMap<String, Vec<String>>) -> Option<String> {
    let mut each = all.iter().flat_map(|(alias, differences)| {
        let told = move |difference| format!("'{alias}': {difference}");
        differences.iter().map(told)
    });
    let shown: Vec<String> = each.by_ref().take(SHOWN).collect();
    let more = match each.count() {
        0 => String::new(),
        more => format!("; and {more} more, see the log"),
    };
    (!shown.is_empty()).then(|| format!("{}{more}", shown.join("; ")))
}

#[cfg(test)]
mod tests {
    use tributary_runtime::health::Health;

    use super::Announced;

    #[test]
    fn the_status_says_what_differs_until_it_does_not() {
        let (announced, health) = (Announced::default(), Health::new());
        announced.report_to(health.clone());
        announced.set("a", vec!["x".to_owned()]);
        announced.set("b", (0..6).map(|number| number.to_string()).collect());
        assert_eq!(
            health.warnings(),
            ["'a': x; 'b': 0; 'b': 1; 'b': 2; 'b': 3; and 2 more, see the log"]
        );
        announced.set("b", Vec::new());
        assert_eq!(health.warnings(), ["'a': x"]);
        announced.set("a", Vec::new());
        assert_eq!(health.warnings(), [""; 0]);
    }
}
