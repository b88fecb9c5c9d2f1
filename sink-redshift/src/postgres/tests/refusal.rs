//! What stops a service, with the message that says what to do.

use tributary_engine::{Lane as _, Stand, TableName};
use tributary_runtime::Policy;

use super::fixture::{
    Fixture, PRODUCTS, Product, TestBatch, lane, message, open, open_as, target_error, try_open,
};
use crate::config::Warehouse;
use crate::postgres::{PostgresWarehouse, check};

/// A role that may connect and nothing else.
struct Role {
    name: String,
}

impl Role {
    async fn new(fixture: &Fixture) -> Self {
        let database = fixture
            .texts("SELECT current_database()::text")
            .await
            .remove(0);
        let name = format!("{database} röle");
        fixture
            .run(&format!(
                "CREATE ROLE \"{name}\" LOGIN PASSWORD 'geheim'; \
                 REVOKE ALL ON DATABASE {database} FROM PUBLIC; GRANT CONNECT ON DATABASE {database} TO \"{name}\""
            ))
            .await;
        Self { name }
    }

    /// The configuration of the service as this role.
    fn config(&self, fixture: &Fixture) -> Warehouse {
        let mut url = url::Url::parse(&fixture.url()).unwrap();
        url.set_username(&self.name).unwrap();
        url.set_password(Some("geheim")).unwrap();
        let mut config = fixture.config("");
        config.url = tributary_runtime::config::Secret::new(url.to_string());
        config
    }

    fn warehouse(&self, fixture: &Fixture) -> PostgresWarehouse {
        PostgresWarehouse::new("service", &self.config(fixture)).unwrap()
    }

    async fn problems(&self, fixture: &Fixture) -> Vec<String> {
        let topics = ["t.shop.product".to_owned(), "t.*".to_owned()];
        let problems = check("service", &topics, &self.config(fixture)).await;
        problems.iter().map(ToString::to_string).collect()
    }
}

async fn open_error(warehouse: &PostgresWarehouse) -> String {
    match try_open(warehouse, "product", 0).await {
        Ok(_) => panic!("it was opened"),
        Err(error) => message(Policy::Stop, &error),
    }
}

#[tokio::test]
async fn missing_privileges_are_named_one_by_one_as_grants() {
    let fixture = Fixture::new().await;
    let role = Role::new(&fixture).await;
    let user = &role.name;
    let database = fixture
        .texts("SELECT current_database()::text")
        .await
        .remove(0);
    let product = Product::new();
    let batch = |offset, seq| product.upsert(TestBatch::default(), offset, seq, 1, "x");

    let warehouse = role.warehouse(&fixture);
    let create = format!("GRANT CREATE ON DATABASE \"{database}\" TO \"{user}\"");
    let error = open_error(&warehouse).await;
    assert!(
        error.starts_with(
            "create the ledger \"_tributary\".\"_tributary_ledger\": permission denied"
        ),
        "{error}"
    );
    assert!(error.ends_with(&format!("to do: {create}")), "{error}");
    fixture.run(&create).await;
    let (writer, _) = open(&warehouse, "product", 0).await;

    let temporary = format!("GRANT TEMPORARY ON DATABASE \"{database}\" TO \"{user}\"");
    let error = message(
        Policy::Stop,
        &target_error(writer.apply(&batch(0, 1)).await),
    );
    assert!(error.ends_with(&format!("to do: {temporary}")), "{error}");
    fixture.run(&temporary).await;
    writer.apply(&batch(0, 1)).await.unwrap();

    fixture
        .run(&format!("ALTER TABLE shop.product OWNER TO CURRENT_USER; REVOKE ALL ON shop.product FROM \"{user}\""))
        .await;
    let error = message(
        Policy::Stop,
        &target_error(writer.apply(&batch(1, 2)).await),
    );
    let grant = format!(
        "GRANT USAGE ON SCHEMA \"shop\" TO \"{user}\"; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON \"shop\".\"product\" TO \"{user}\""
    );
    assert!(error.ends_with(&format!("to do: {grant}")), "{error}");
    fixture.run(&grant).await;
    writer.apply(&batch(1, 2)).await.unwrap();
    assert_eq!(fixture.texts(PRODUCTS).await, ["1 x @2"]);
}

#[tokio::test]
async fn check_reports_all_that_is_missing_and_changes_nothing() {
    let fixture = Fixture::new().await;
    let role = Role::new(&fixture).await;
    let user = role.name.clone();
    let database = fixture
        .texts("SELECT current_database()::text")
        .await
        .remove(0);
    fixture.run("CREATE SCHEMA shop").await;
    assert_eq!(
        role.problems(&fixture).await,
        [
            format!(
                "the warehouse's user may not create tables in SCHEMA \"shop\"; \
                 to do: GRANT USAGE, CREATE ON SCHEMA \"shop\" TO \"{user}\""
            ),
            format!(
                "the warehouse's user may not create the schemas that are missing; \
                 to do: GRANT CREATE ON DATABASE \"{database}\" TO \"{user}\""
            ),
            format!(
                "the warehouse's user may not create temporary tables; \
                 to do: GRANT TEMPORARY ON DATABASE \"{database}\" TO \"{user}\""
            ),
        ]
    );
    fixture
        .run(&format!(
            "GRANT USAGE, CREATE ON SCHEMA shop TO \"{user}\"; \
             GRANT CREATE, TEMPORARY ON DATABASE {database} TO \"{user}\""
        ))
        .await;
    assert_eq!(role.problems(&fixture).await, [""; 0]);
    let schemas = "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE '%tributary%'";
    assert_eq!(fixture.texts(schemas).await, [""; 0]);

    // Tables that somebody else made for the service are looked at as well.
    let product = Product::new();
    let (writer, _) = open(&fixture.warehouse(), "product", 0).await;
    writer
        .apply(&product.upsert(TestBatch::default(), 0, 1, 1, "x"))
        .await
        .unwrap();
    fixture
        .run(&format!(
            "GRANT USAGE, CREATE ON SCHEMA _tributary TO \"{user}\""
        ))
        .await;
    let ledger = role.problems(&fixture).await;
    assert_eq!(ledger.len(), 1, "{ledger:?}");
    assert!(ledger[0].contains("may not use the ledger"), "{ledger:?}");
    fixture
        .run(&format!(
            "GRANT ALL ON _tributary._tributary_ledger TO \"{user}\""
        ))
        .await;
    let table = role.problems(&fixture).await;
    assert_eq!(table.len(), 1, "{table:?}");
    assert!(
        table[0].contains("may not write table \"shop\".\"product\""),
        "{table:?}"
    );
}

#[tokio::test]
async fn a_wrong_password_and_a_missing_database_stop() {
    let fixture = Fixture::new().await;
    let role = Role::new(&fixture).await;
    let mut config = role.config(&fixture);
    config.password = Some(tributary_runtime::config::Secret::new("falsch"));
    let warehouse = PostgresWarehouse::new("service", &config).unwrap();
    let wrong_password = open_error(&warehouse).await;
    assert_eq!(
        wrong_password,
        format!(
            "connect to the warehouse: password authentication failed for user \"{}\" (SQLSTATE 28P01); \
             to do: correct the user in [warehouse] url, or password / password_file",
            role.name
        )
    );
    assert_eq!(check("service", &[], &config).await.len(), 1);

    let mut url = url::Url::parse(&fixture.url()).unwrap();
    url.set_path("no such database");
    config.url = tributary_runtime::config::Secret::new(url.to_string());
    config.password = None;
    let warehouse = PostgresWarehouse::new("service", &config).unwrap();
    let error = open_error(&warehouse).await;
    assert!(
        error.contains("database \"no such database\" does not exist"),
        "{error}"
    );
    assert!(error.contains("to do: create the database"), "{error}");
}

#[tokio::test]
async fn tables_that_are_not_ours_are_left_alone() {
    let fixture = Fixture::new().await;
    fixture
        .run("CREATE SCHEMA shop; CREATE VIEW shop.product AS SELECT 1 AS id")
        .await;
    let warehouse = fixture.warehouse();
    let error = open_error(&warehouse).await;
    assert!(
        error.starts_with("\"shop\".\"product\" is no table"),
        "{error}"
    );
    fixture
        .run("DROP VIEW shop.product; CREATE TABLE shop.product (id bigint PRIMARY KEY)")
        .await;
    let error = open_error(&warehouse).await;
    assert_eq!(
        error,
        "\"shop\".\"product\" has no column _tributary_seq: it was not made by Tributary; \
         to do: move it away, or set [warehouse] schema to a schema of Tributary's own"
    );
    let nothing = "SELECT count(*)::text FROM _tributary._tributary_ledger";
    assert_eq!(fixture.texts(nothing).await, ["0"]);
}

/// What somebody did to a table that stays ours: each stop has a remedy that leads out.
#[tokio::test]
async fn a_table_that_was_changed_by_hand_stops_until_it_is_changed_back() {
    let fixture = Fixture::new().await;
    let role = Role::new(&fixture).await;
    let user = &role.name;
    fixture
        .run(&format!(
            "DO $$ BEGIN EXECUTE format('GRANT CREATE, TEMPORARY ON DATABASE %I TO %I', current_database(), '{user}'); END $$"
        ))
        .await;
    let warehouse = role.warehouse(&fixture);
    let product = Product::new();
    let (writer, _) = open(&warehouse, "product", 0).await;
    let row = |at| product.upsert(TestBatch::default(), at, 1, at, "x");
    writer.apply(&row(0)).await.unwrap();
    for (at, change, error_begins, remedy) in [
        (
            1,
            "ALTER TABLE shop.product SET UNLOGGED",
            "table \"shop\".\"product\" is not logged",
            "ALTER TABLE \"shop\".\"product\" SET LOGGED",
        ),
        (
            2,
            "ALTER TABLE shop.product ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
            "row-level security of table \"shop\".\"product\" applies",
            "ALTER TABLE \"shop\".\"product\" NO FORCE ROW LEVEL SECURITY",
        ),
        (
            3,
            "ALTER TABLE shop.product DROP CONSTRAINT product_pkey",
            "table \"shop\".\"product\" has no primary key",
            "ALTER TABLE \"shop\".\"product\" ADD PRIMARY KEY (\"id\")",
        ),
    ] {
        fixture.run(change).await;
        let error = message(Policy::Stop, &target_error(writer.apply(&row(at)).await));
        assert!(error.contains(error_begins), "{change}: {error}");
        assert!(
            error.contains(&format!("to do: {remedy}")),
            "{change}: {error}"
        );
        fixture.run(remedy).await;
        writer.apply(&row(at)).await.unwrap();
    }
    assert_eq!(fixture.texts(PRODUCTS).await.len(), 4);
}

#[tokio::test]
async fn offsets_without_a_table_and_a_table_without_offsets_ask_for_a_rebuild() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let product = Product::new();
    let (writer, _) = open(&warehouse, "product", 0).await;
    let batch = |offset| product.upsert(TestBatch::default(), offset, 1, 1, "x");
    writer.apply(&batch(0)).await.unwrap();

    fixture
        .run("DELETE FROM _tributary._tributary_ledger")
        .await;
    let error = message(Policy::Retry, &target_error(writer.apply(&batch(1)).await));
    assert!(
        error.contains("has lost the row of t.shop.product[0]"),
        "{error}"
    );
    let error = open_error(&warehouse).await;
    assert!(error.contains("deletes may have been missed"), "{error}");

    // Built again, it begins anew.
    let empty = async |generation: Option<&str>| {
        lane(&warehouse, "product")
            .await
            .discard(generation)
            .await
            .unwrap();
    };
    empty(None).await;
    let (writer, start) = open(&warehouse, "product", 0).await;
    assert_eq!(start, Stand::Nowhere);
    writer.apply(&batch(0)).await.unwrap();

    fixture.run("DROP TABLE shop.product").await;
    let error = message(Policy::Retry, &target_error(writer.apply(&batch(1)).await));
    assert!(error.contains("is gone, but the ledger"), "{error}");
    let error = open_error(&warehouse).await;
    assert!(error.contains("is gone, but the ledger"), "{error}");
    empty(Some("first")).await;
    let (_, start) = open(&warehouse, "product", 0).await;
    assert_eq!(start, Stand::Nowhere);
}

#[tokio::test]
async fn two_services_do_not_share_a_table_but_may_replay_beside_each_other() {
    let fixture = Fixture::new().await;
    let product = Product::new();
    let (writer, _) = open(&fixture.warehouse(), "product", 0).await;
    let batch = product.upsert(TestBatch::default(), 0, 1, 1, "x");
    writer.apply(&batch).await.unwrap();
    let error = open_error(&fixture.warehouse_with("second", "")).await;
    assert!(
        error.contains("is kept by service 'service' from topic 't.shop.product'"),
        "{error}"
    );
    // Nor do two topics of one service, whose tables differ in the schema only.
    let one_schema = fixture.warehouse_with("third", "schema = 'third'");
    drop(open(&one_schema, "product", 0).await);
    let other = TableName {
        schema: "other".to_owned(),
        table: "product".to_owned(),
    };
    let opened = open_as(&one_schema, "t.other.product", &other, 0).await;
    let error = opened.err().unwrap();
    let error = message(Policy::Stop, &error);
    assert!(
        error.contains("is kept by service 'third' from topic 't.shop.product'"),
        "{error}"
    );
    let (remedy, statement) = error
        .split_once("if nobody writes that topic to it any more: ")
        .unwrap();
    assert!(remedy.ends_with("or [warehouse] schema out; "), "{error}");
    fixture.run(statement).await;
    drop(
        open_as(&one_schema, "t.other.product", &other, 0)
            .await
            .unwrap(),
    );

    let replay = fixture.warehouse_with("second", "schema = 'Second one'");
    let (writer, start) = open(&replay, "product", 0).await;
    assert_eq!(start, Stand::Nowhere);
    writer.apply(&batch).await.unwrap();
    let equal =
        "SELECT count(*)::text FROM (TABLE shop.product EXCEPT TABLE \"Second one\".product) AS d";
    assert_eq!(fixture.texts(equal).await, ["0"]);
    assert_eq!(
        fixture
            .texts("SELECT count(*)::text FROM \"Second one\".product")
            .await,
        ["1"]
    );
}

#[tokio::test]
async fn a_newer_ledger_is_not_touched() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    drop(open(&warehouse, "product", 0).await);
    fixture
        .run("UPDATE _tributary._tributary_ledger SET format_version = 3")
        .await;
    let error = open_error(&warehouse).await;
    assert!(
        error.contains("has format 3, this program writes format 2"),
        "{error}"
    );
}
