//! An index that cannot take what a column has become.

use tributary_engine::WriteError;
use tributary_runtime::Policy;
use tributary_runtime::health::Health;
use tributary_schemas::record::{Datum, FieldType};

use super::fixture::{Fixture, record_type, rejections, target_error, text_key, upsert};
use crate::ElasticLane;

async fn put(
    writer: &ElasticLane,
    id: &str,
    seq: u64,
    flag: (FieldType, Datum<'_>),
) -> Result<(), WriteError> {
    let (flag_type, flag) = flag;
    let (key, row) = (
        text_key(),
        record_type(&[("id", FieldType::String), ("flag", flag_type)]),
    );
    let change = upsert(
        seq.cast_signed(),
        seq,
        (&key, Datum::Str(id)),
        (&row, &[Datum::Str(id), flag]),
    );
    writer.put([change].into_iter()).await
}

fn truth() -> (FieldType, Datum<'static>) {
    (FieldType::Bool, Datum::Bool(true))
}

fn text() -> (FieldType, Datum<'static>) {
    (FieldType::String, Datum::Str("no truth"))
}

#[tokio::test]
async fn rows_that_an_outgrown_index_refuses_wait_for_another_one_by_option() {
    let mut fixture = Fixture::new();
    let (plain, health) = (fixture.elastic.clone(), Health::new());
    fixture.elastic = plain.clone().renewed();
    fixture.elastic.report_to(health.clone());
    let renewals = fixture.elastic.renewals();
    let writer = fixture.writer().await;
    // When a lane is opened its index is looked at.
    assert_eq!(renewals.next().await, fixture.topic);
    renewals.is_fit(&fixture.topic);

    put(&writer, "a", 1, truth()).await.unwrap();
    assert!(!renewals.is_awaited(&fixture.topic));
    let error = target_error(put(&writer, "b", 2, text()).await);
    assert_eq!(error.policy(), Policy::Retry, "{error}");
    assert!(
        error.to_string().contains("until it is built again"),
        "{error}"
    );
    let warnings = health.warnings();
    assert!(
        warnings[0].contains("field 'flag' is boolean, and text is asked for"),
        "{warnings:?}"
    );
    // What it takes goes on to be written.
    put(&writer, "c", 3, truth()).await.unwrap();
    assert_eq!(fixture.ids().await, ["a", "c"]);

    // Another one cannot be built, or the index is not for rows like this one: on_error decides.
    assert_eq!(renewals.next().await, fixture.topic);
    renewals.is_fit(&fixture.topic);
    assert_eq!(rejections(put(&writer, "b", 2, text()).await).len(), 1);

    // Without the option, and for the reindex itself, it decides at once.
    fixture.elastic = plain;
    let writer = fixture.writer().await;
    assert_eq!(rejections(put(&writer, "b", 2, text()).await).len(), 1);
    fixture.finish().await;
}

#[tokio::test]
async fn an_index_is_outgrown_by_the_newest_columns() {
    let fixture = Fixture::new();
    let writer = fixture.writer().await;
    put(&writer, "a", 1, truth()).await.unwrap();
    let index = fixture.elastic.index(&fixture.topic);
    for (flag, is_outgrown) in [(FieldType::Bool, false), (FieldType::String, true)] {
        let row = record_type(&[("id", FieldType::String), ("flag", flag)]);
        assert_eq!(index.is_outgrown(&row).await.unwrap(), is_outgrown);
    }
    fixture.finish().await;
}
