//! Each document of the old index is compared with that of the new one, while rows change.

use std::sync::Arc;

use reqwest::Method;
use serde_json::json;

use super::stage::Stage;

/// Rows that nothing changes but this test.
const PLANTED: [i64; 3] = [100_001, 100_002, 100_003];

/// What differs is named, and nothing else; an index without a difference takes the place.
pub(super) async fn differences_stop_the_move_and_changes_do_not(stage: &Arc<Stage>, table: &str) {
    let rows = PLANTED.map(|id| format!("({id}, 0, 'x')")).join(", ");
    stage
        .run(&format!("INSERT INTO {table} VALUES {rows}"))
        .await;
    stage.until_equal(table).await;
    let (old, new) = (stage.index(table, 1), stage.index(table, 2));
    let [changed, gone, newer] = PLANTED;
    let before = stage.get(&format!("/{old}/_doc/{changed}")).await;
    let mut source = before["_source"].clone();
    source["v"] = (-4711).into();
    let version = &before["_version"];
    let same = format!("/{old}/_doc/{changed}?version={version}&version_type=external_gte");
    let (status, answer) = stage.call(Method::PUT, &same, Some(source.clone())).await;
    assert_eq!(status, 200, "{answer}");
    stage.forget(&format!("/{old}/_doc/{gone}")).await;
    let later = format!("/{old}/_doc/{newer}?version=9000000000000000000&version_type=external");
    let (status, answer) = stage.call(Method::PUT, &later, Some(source)).await;
    assert_eq!(status, 200, "{answer}");
    let stray = format!("/{old}/_doc/stray");
    let (status, answer) = stage
        .call(Method::PUT, &stray, Some(json!({"id": 1})))
        .await;
    assert_eq!(status, 201, "{answer}");

    let changes = stage.begin_changes(table);
    let refused = stage.reindex(table, &["--compare", "documents"]).await;
    assert_eq!(refused.code, 1, "{}", refused.json);
    for expected in [
        "differ in 4 documents".to_owned(),
        format!("'{changed}' has other values, at the same version"),
        format!("'{gone}' is missing in '{old}'"),
        format!("'{newer}' is older in '{new}'"),
        format!("'stray' is missing in '{new}'"),
        "--compare counts".to_owned(),
    ] {
        assert!(refused.errors.contains(&expected), "{}", refused.errors);
    }
    assert!(!refused.errors.contains("4711"), "{}", refused.errors);
    let alias = stage.get(&format!("/{}", stage.alias_of(table))).await;
    assert!(alias[&old].is_object(), "{alias}");

    let healed = stage.reindex(table, &[]).await;
    assert_eq!(healed.code, 0, "{}", healed.errors);
    let equal = stage.reindex(table, &["--compare", "documents"]).await;
    assert_eq!(equal.code, 0, "{}", equal.errors);
    let compared = equal.json["compared"].as_i64().unwrap();
    assert!(compared >= 2 * stage.rows(), "{}", equal.json);
    let changed = changes.end().await;
    println!("{compared} documents of both are compared, and {changed} changes made in two runs");
    stage.until_equal(table).await;
}
