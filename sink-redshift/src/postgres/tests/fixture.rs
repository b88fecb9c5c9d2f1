//! A database per test, and batches that no loop built.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::{Client, NoTls};
use tributary_engine::{
    Action, Change, KeyRow, Known, Lane as _, Mark, Rejection, Stand, TableName, Target as _,
    ValueRow, WriteError, Written,
};
use tributary_runtime::{Error, Policy};
use tributary_schemas::record::{Datum, Field, FieldType, RecordType, Row};

use crate::config::Warehouse;
use crate::postgres::{PostgresLane, PostgresWarehouse};
use crate::warehouse::batch::Changes;

static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A database of the test's own, dropped with it, and the roles whose names begin with its name and a space.
pub(super) struct Fixture {
    pub(super) client: Client,
    server_url: String,
    database: String,
}

impl Fixture {
    pub(super) async fn new() -> Self {
        let server_url = std::env::var("TRIBUTARY_POSTGRES_URL").expect(
            "TRIBUTARY_POSTGRES_URL is not set: it names the Postgres server to test with (make up starts one)",
        );
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        let database = format!("tributary_sink_{}_{number}", std::process::id());
        let server = connect(&server_url).await;
        server
            .batch_execute(&format!("CREATE DATABASE {database}"))
            .await
            .unwrap();
        let client = connect(&database_url(&server_url, &database)).await;
        Self {
            client,
            server_url,
            database,
        }
    }

    pub(super) fn url(&self) -> String {
        database_url(&self.server_url, &self.database)
    }

    /// `[warehouse]` with further keys.
    pub(super) fn config(&self, more: &str) -> Warehouse {
        toml::from_str(&format!(
            "url = '{}'\ndialect = 'postgres'\n{more}",
            self.url()
        ))
        .unwrap()
    }

    pub(super) fn warehouse(&self) -> PostgresWarehouse {
        self.warehouse_with("service", "")
    }

    pub(super) fn warehouse_with(&self, name: &str, more: &str) -> PostgresWarehouse {
        PostgresWarehouse::new(name, &self.config(more)).unwrap()
    }

    /// One text column of a query, row by row; null as `NULL`.
    pub(super) async fn texts(&self, query: &str) -> Vec<String> {
        let rows = self.client.query(query, &[]).await.unwrap();
        rows.iter()
            .map(|row| {
                row.get::<_, Option<String>>(0)
                    .unwrap_or_else(|| "NULL".to_owned())
            })
            .collect()
    }

    pub(super) async fn run(&self, statement: &str) {
        self.client.batch_execute(statement).await.unwrap();
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let (url, database) = (self.server_url.clone(), self.database.clone());
        // The test's own runtime is on its way out.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let drop_it = format!("DROP DATABASE {database} WITH (FORCE)");
                let server = connect(&url).await;
                server.batch_execute(&drop_it).await.unwrap();
                let roles = "SELECT format('DROP ROLE %I', rolname) FROM pg_roles WHERE starts_with(rolname, $1)";
                for row in server.query(roles, &[&format!("{database} ")]).await.unwrap() {
                    server.batch_execute(row.get(0)).await.unwrap();
                }
            });
        });
        let dropped = dropping.join();
        assert!(
            dropped.is_ok() || std::thread::panicking(),
            "the test's database remains"
        );
    }
}

pub(super) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn database_url(server_url: &str, database: &str) -> String {
    let mut url = url::Url::parse(server_url).unwrap();
    url.set_path(database);
    url.to_string()
}

pub(super) fn table(name: &str) -> TableName {
    TableName {
        schema: "shop".to_owned(),
        table: name.to_owned(),
    }
}

/// One partition of a lane.
pub(super) struct Writer {
    lane: Arc<PostgresLane>,
    partition: i32,
}

impl Writer {
    /// How many changes the lane has passed over.
    pub(super) fn passed_over(&self) -> u64 {
        self.lane.passed_over()
    }

    /// Writes a batch of the partition.
    pub(super) async fn apply(&self, batch: &TestBatch) -> Result<Written, WriteError> {
        self.lane.apply(&[batch.of(self.partition)]).await?;
        Ok(Written::Durable)
    }

    /// Takes another partition of the same lane.
    pub(super) async fn take(&self, partition: i32) -> Self {
        self.lane.take(partition).await.unwrap();
        Self {
            lane: Arc::clone(&self.lane),
            partition,
        }
    }

    pub(super) fn lane(&self) -> &PostgresLane {
        &self.lane
    }

    /// Writes batches of several partitions together.
    pub(super) async fn apply_together(
        &self,
        batches: &[(i32, &TestBatch)],
    ) -> Result<Written, WriteError> {
        let batches: Vec<_> = batches
            .iter()
            .map(|(partition, batch)| batch.of(*partition))
            .collect();
        self.lane.apply(&batches).await?;
        Ok(Written::Durable)
    }
}

/// Opens a partition of the topic of `shop.<name>`.
pub(super) async fn open(
    warehouse: &PostgresWarehouse,
    name: &str,
    partition: i32,
) -> (Writer, Stand) {
    try_open(warehouse, name, partition).await.unwrap()
}

pub(super) async fn try_open(
    warehouse: &PostgresWarehouse,
    name: &str,
    partition: i32,
) -> Result<(Writer, Stand), Error> {
    open_as(
        warehouse,
        &format!("t.shop.{name}"),
        &table(name),
        partition,
    )
    .await
}

/// The lane of the topic of `shop.<name>`, as it is.
pub(super) async fn lane(warehouse: &PostgresWarehouse, name: &str) -> PostgresLane {
    let topic = format!("t.shop.{name}");
    warehouse.lane(&topic, &table(name)).await.unwrap()
}

/// Opens a partition of a topic whose table has another name.
pub(super) async fn open_as(
    warehouse: &PostgresWarehouse,
    topic: &str,
    table: &TableName,
    partition: i32,
) -> Result<(Writer, Stand), Error> {
    let lane = Arc::new(warehouse.lane(topic, table).await?);
    match lane.known().await? {
        Known::Marked(_) => {}
        Known::Nothing => lane.begin(&mark("first")).await?,
        Known::Unfit { reason, .. } => return Err(Error::stop_msg(reason)),
    }
    let stand = lane.take(partition).await?;
    Ok((Writer { lane, partition }, stand))
}

/// The error's whole message, which must have this policy.
pub(super) fn message(policy: Policy, error: &Error) -> String {
    assert_eq!(error.policy(), policy, "{error}");
    error.to_string()
}

pub(super) fn target_error(result: Result<impl std::fmt::Debug, WriteError>) -> Error {
    match result {
        Err(WriteError::Target(error) | WriteError::TakenOver(error)) => error,
        other => panic!("no error of the target: {other:?}"),
    }
}

pub(super) fn rejection(result: Result<impl std::fmt::Debug, WriteError>) -> Rejection {
    match result {
        Err(WriteError::Rejected(mut rejections)) if rejections.len() == 1 => rejections.remove(0),
        other => panic!("not one rejection: {other:?}"),
    }
}

/// A record type; all its fields are nullable.
pub(super) fn record(fields: &[(&str, FieldType)]) -> Arc<RecordType> {
    Arc::new(RecordType {
        full_name: "t.Value".to_owned(),
        fields: fields
            .iter()
            .map(|(name, field_type)| field(name, field_type.clone()))
            .collect(),
    })
}

pub(super) fn field(name: &str, field_type: FieldType) -> Field {
    Field {
        name: name.to_owned(),
        field_type,
        nullable: true,
    }
}

/// A batch as the loop would build it.
#[derive(Default)]
pub(super) struct TestBatch {
    pub(super) below: Option<u64>,
    pub(super) next_offset: i64,
    pub(super) inserts_only: bool,
    pub(super) rows: Vec<TestRow>,
}

pub(super) struct TestRow {
    offset: i64,
    pub(super) seq: u64,
    key: Option<(Arc<RecordType>, Row<'static>)>,
    value: Option<(Arc<RecordType>, Row<'static>)>,
}

impl TestBatch {
    pub(super) fn upsert(
        mut self,
        offset: i64,
        seq: u64,
        key: (&Arc<RecordType>, Row<'static>),
        value: (&Arc<RecordType>, Row<'static>),
    ) -> Self {
        self.push(offset, seq, Some(key), Some(value));
        self
    }

    pub(super) fn delete(
        mut self,
        offset: i64,
        seq: u64,
        key: (&Arc<RecordType>, Row<'static>),
    ) -> Self {
        self.push(offset, seq, Some(key), None);
        self
    }

    pub(super) fn append(
        mut self,
        offset: i64,
        seq: u64,
        value: (&Arc<RecordType>, Row<'static>),
    ) -> Self {
        self.push(offset, seq, None, Some(value));
        self
    }

    fn push(
        &mut self,
        offset: i64,
        seq: u64,
        key: Option<(&Arc<RecordType>, Row<'static>)>,
        value: Option<(&Arc<RecordType>, Row<'static>)>,
    ) {
        let own = |(record, row): (&Arc<RecordType>, _)| (Arc::clone(record), row);
        self.rows.push(TestRow {
            offset,
            seq,
            key: key.map(own),
            value: value.map(own),
        });
        self.next_offset = offset + 1;
    }
}

/// A batch with the partition that it is of.
struct Placed<'b> {
    partition: i32,
    batch: &'b TestBatch,
}

impl TestBatch {
    const fn of(&self, partition: i32) -> Placed<'_> {
        Placed {
            partition,
            batch: self,
        }
    }
}

impl Changes for Placed<'_> {
    fn partition(&self) -> i32 {
        self.partition
    }

    fn next_offset(&self) -> i64 {
        self.batch.next_offset
    }

    fn below(&self) -> Option<u64> {
        self.batch.below
    }

    fn inserts_only(&self) -> bool {
        self.batch.inserts_only
    }

    fn lacks_values(&self) -> bool {
        let mut rows = self.batch.rows.iter().flat_map(|row| &row.value);
        rows.any(|(_, row)| row.contains(&Datum::Unavailable))
    }

    fn changes(&self) -> impl Iterator<Item = Change<'_>> + Send {
        self.batch.rows.iter().map(|row| Change {
            partition: self.partition,
            offset: row.offset,
            seq: row.seq,
            key: row.key.as_ref().map(|(key_type, row)| KeyRow {
                key_type,
                row: row.clone(),
            }),
            action: match &row.value {
                None => Action::Delete,
                Some((row_type, value)) => {
                    let value = ValueRow {
                        row_type,
                        row: value.clone(),
                    };
                    match row.key {
                        Some(_) => Action::Upsert(value),
                        None => Action::Append(value),
                    }
                }
            },
        })
    }
}

/// The table `product (id bigint, name text)` that most tests use.
pub(super) struct Product {
    pub(super) key: Arc<RecordType>,
    pub(super) value: Arc<RecordType>,
}

impl Product {
    pub(super) fn new() -> Self {
        Self {
            key: record(&[("id", FieldType::Int64)]),
            value: record(&[("id", FieldType::Int64), ("name", FieldType::String)]),
        }
    }

    pub(super) fn upsert(
        &self,
        batch: TestBatch,
        offset: i64,
        seq: u64,
        id: i64,
        name: &'static str,
    ) -> TestBatch {
        let row = vec![Datum::Int(id), Datum::Str(name)];
        batch.upsert(
            offset,
            seq,
            (&self.key, vec![Datum::Int(id)]),
            (&self.value, row),
        )
    }

    pub(super) fn delete(&self, batch: TestBatch, offset: i64, seq: u64, id: i64) -> TestBatch {
        batch.delete(offset, seq, (&self.key, vec![Datum::Int(id)]))
    }
}

/// What `shop.product` holds, a line per row.
pub(super) const PRODUCTS: &str = "SELECT id || ' ' || coalesce(name, 'NULL') || ' @' || _tributary_seq FROM shop.product ORDER BY id";

/// The mark of a generation of this name.
pub(super) fn mark(generation: &str) -> Mark {
    Mark {
        generation: generation.to_owned(),
        topic_id: Some("topic's id".to_owned()),
        partitions: 2,
        versions_are_offsets: false,
        key_schemas: std::collections::BTreeSet::new(),
        caught_up_ms: std::collections::BTreeMap::new(),
    }
}
