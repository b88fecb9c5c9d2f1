//! Who may depend on whom.

use crate::workspace::Member;

/// The crates of the workspace that a crate may depend on. Dependencies point one way: source → postgres → runtime →
/// schemas, and sinks → engine → runtime → schemas; what compares a sink's copy with its table uses postgres; the tests may use everything, and nobody uses them.
pub(crate) const ALLOWED: [(&str, &[&str]); 8] = [
    ("tributary-schemas", &[]),
    ("tributary-runtime", &["tributary-schemas"]),
    (
        "tributary-engine",
        &["tributary-runtime", "tributary-schemas"],
    ),
    (
        "tributary-postgres",
        &["tributary-runtime", "tributary-schemas"],
    ),
    (
        "tributary-source",
        &[
            "tributary-postgres",
            "tributary-runtime",
            "tributary-schemas",
        ],
    ),
    (
        "tributary-sink-elastic",
        &[
            "tributary-engine",
            "tributary-postgres",
            "tributary-runtime",
            "tributary-schemas",
        ],
    ),
    (
        "tributary-sink-redshift",
        &["tributary-engine", "tributary-runtime", "tributary-schemas"],
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

pub(crate) fn wrong_dependencies(member: &Member) -> Vec<String> {
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
        if name == "tributary-postgres" && dependency == "rdkafka" {
            faults.push(format!(
                "{name} knows no Kafka and must not depend on {dependency}"
            ));
        }
        if name == "tributary-schemas" && NOT_IN_SCHEMAS.contains(&dependency.as_str()) {
            faults.push(format!(
                "{name} is pure and must not depend on {dependency}"
            ));
        }
    }
    faults
}

mod planted {
    use super::*;

    fn depends(name: &str, on: &[&str]) -> Vec<String> {
        let dependencies = on.iter().map(|name| (*name).to_owned()).collect();
        wrong_dependencies(&Member {
            name: name.to_owned(),
            dependencies,
            folder: std::path::PathBuf::new(),
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
}
