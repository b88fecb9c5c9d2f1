//! Two indices of a real engine, that differ here and there.

use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tributary_runtime::{Error, Result};

use super::super::level::Level;
use super::super::site::Site;
use super::super::site::tests::site_at;
use super::{Compared, compare};

/// What happens while both catch up.
struct Meanwhile<F>(F);

impl<F: AsyncFnMut() -> Result<()>> Level for Meanwhile<F> {
    async fn level(&mut self) -> Result<()> {
        (self.0)().await
    }
}

/// An engine's two indices of a topic.
struct Pair {
    site: Site,
    http: Client,
    url: String,
    topic: String,
}

/// A document, with its version.
type Row<'r> = (&'r str, u64, Value);

impl Pair {
    /// The two with these fields, and whether their documents were made alike.
    async fn set(old: &Value, new: &Value, are_alike: bool) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let url = std::env::var("TRIBUTARY_SEARCH").expect("TRIBUTARY_SEARCH is not set");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let topic = format!("compared.t{}-{number}", std::process::id());
        let pair = Self {
            site: site_at(&url, &topic),
            http: Client::new(),
            url,
            topic,
        };
        for (name, fields) in [(pair.old(), old), (pair.new_one(), new)] {
            let mut ours = json!({"topic": pair.topic});
            if !are_alike && name == pair.old() {
                ours["documents"] = json!({"exclude": ["x"]});
            }
            let mappings =
                json!({"dynamic": false, "properties": fields, "_meta": {"tributary": ours}});
            let body = json!({"settings": {"index.number_of_replicas": 0}, "mappings": mappings});
            pair.call(Method::PUT, &format!("/{name}"), Some(body))
                .await;
        }
        pair
    }

    fn old(&self) -> String {
        format!("{}-000001", self.topic)
    }

    fn new_one(&self) -> String {
        format!("{}-000002", self.topic)
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        assert!(
            status.is_success(),
            "{path}: {}",
            answer.text().await.unwrap()
        );
    }

    async fn write(&self, index: &str, rows: &[Row<'_>]) {
        for (id, version, row) in rows {
            let path = format!("/{index}/_doc/{id}?version={version}&version_type=external");
            self.call(Method::PUT, &path, Some(row.clone())).await;
        }
    }

    async fn delete(&self, index: &str, id: &str, version: u64) {
        let path = format!("/{index}/_doc/{id}?version={version}&version_type=external");
        self.call(Method::DELETE, &path, None).await;
    }

    async fn compare(&self, catch_up: impl AsyncFnMut() -> Result<()>) -> Result<Compared> {
        let (old, new) = (
            self.site.index(&self.old()).await.unwrap().unwrap(),
            self.site.index(&self.new_one()).await.unwrap().unwrap(),
        );
        let stop = CancellationToken::new();
        compare(&self.site, (&old, &new), &stop, Meanwhile(catch_up)).await
    }

    async fn finish(self) {
        for index in [self.old(), self.new_one()] {
            self.call(Method::DELETE, &format!("/{index}"), None).await;
        }
    }
}

fn fields() -> Value {
    json!({"id": {"type": "keyword"}, "v": {"type": "long"}, "doc": {"type": "text"}})
}

fn row(v: i64) -> Value {
    json!({"id": "x", "v": v, "doc": "a"})
}

#[track_caller]
fn told(compared: Result<Compared>) -> Vec<String> {
    let error: Error = compared.unwrap_err();
    let remedy = error.remedy_text().unwrap();
    assert!(remedy.contains("--compare counts"), "{remedy}");
    let text = error.to_string();
    let (_, named) = text.split_once("is not moved: ").unwrap();
    let (named, _) = named.split_once("; to do: ").unwrap();
    let mut named: Vec<_> = named.split("; ").map(str::to_owned).collect();
    named.sort();
    named
}

#[tokio::test]
async fn what_differs_is_named_and_never_a_value() {
    let pair = Pair::set(&fields(), &fields(), true).await;
    let (old, new) = (pair.old(), pair.new_one());
    let same: Vec<_> = (0..30)
        .map(|number| (format!("s{number}"), number))
        .collect();
    let same: Vec<_> = same
        .iter()
        .map(|(id, v)| (id.as_str(), 7, row(*v)))
        .collect();
    for index in [&old, &new] {
        pair.write(index, &same).await;
    }
    assert_eq!(
        pair.compare(async || panic!("nothing is in doubt"))
            .await
            .unwrap(),
        Compared {
            documents: 60,
            changing: 0
        }
    );

    pair.write(
        &old,
        &[
            ("gone", 3, row(1)),
            ("stale", 4, row(1)),
            ("other", 5, row(12_345)),
        ],
    )
    .await;
    pair.write(
        &new,
        &[
            ("extra", 3, row(1)),
            ("stale", 9, row(1)),
            ("other", 5, row(54_321)),
        ],
    )
    .await;
    let mut looks = 0;
    let compared = pair
        .compare(async || {
            looks += 1;
            Ok(())
        })
        .await;
    assert_eq!(
        told(compared),
        [
            format!("'extra' is missing in '{old}'"),
            format!("'gone' is missing in '{new}'"),
            "'other' has other values, at the same version".to_owned(),
            format!("'stale' is older in '{old}'"),
        ]
    );
    assert_eq!(looks, 2, "looks behind the first one");
    pair.finish().await;
}

/// Neither lacks anything: it only comes later in one of them.
#[tokio::test]
async fn what_is_only_behind_is_no_difference() {
    let pair = Pair::set(&fields(), &fields(), true).await;
    let (old, new) = (pair.old(), pair.new_one());
    let both = [
        ("a", 1, row(1)),
        ("b", 1, row(1)),
        ("hot", 1, row(1)),
        ("back", 1, row(1)),
    ];
    pair.write(&old, &both).await;
    pair.write(&new, &both).await;
    pair.write(
        &old,
        &[("a", 2, row(2)), ("hot", 2, row(2)), ("come", 2, row(2))],
    )
    .await;
    pair.delete(&new, "b", 3).await;
    pair.delete(&old, "back", 3).await;
    let (mut looks, pair_of) = (0, &pair);
    let compared = pair.compare(async || {
        looks += 1;
        let version = 10 * looks;
        // One that changes all the while, and stands still in neither.
        pair_of.write(&new, &[("hot", version, row(0))]).await;
        pair_of.write(&old, &[("hot", version + 1, row(0))]).await;
        if looks == 2 {
            pair_of
                .write(&new, &[("a", 2, row(2)), ("come", 2, row(2))])
                .await;
            pair_of.delete(&old, "b", 3).await;
            pair_of.delete(&new, "back", 3).await;
        }
        Ok(())
    });
    let compared = compared.await.unwrap();
    assert_eq!(compared.changing, 1);
    assert!(looks > 2);
    pair.finish().await;
}

/// One that stands still while the other goes on is stuck, also where the other one shows something new each time.
#[tokio::test]
async fn one_that_stands_still_while_the_other_goes_on_differs() {
    let pair = Pair::set(&fields(), &fields(), true).await;
    let (old, new) = (pair.old(), pair.new_one());
    pair.write(&old, &[("stuck", 1, row(1))]).await;
    pair.write(&new, &[("stuck", 2, row(1)), ("never", 2, row(1))])
        .await;
    let (mut looks, pair_of) = (2, &pair);
    let compared = pair.compare(async || {
        looks += 1;
        pair_of
            .write(&new, &[("stuck", looks, row(1)), ("never", looks, row(1))])
            .await;
        Ok(())
    });
    let compared = compared.await;
    assert_eq!(
        told(compared),
        [
            format!("'never' is missing in '{old}'"),
            format!("'stuck' is older in '{old}'"),
        ]
    );
    pair.finish().await;
}

/// A field that only one of them has, or wants in another form, says nothing.
#[tokio::test]
async fn fields_are_compared_that_both_want_in_one_form() {
    let mut others = fields();
    others["doc"] = json!({"type": "object", "enabled": false});
    others["v"] = json!({"type": "keyword"});
    others["more"] = json!({"type": "long"});
    let pair = Pair::set(&fields(), &others, true).await;
    let (old, new) = (pair.old(), pair.new_one());
    pair.write(
        &old,
        &[
            ("a", 1, json!({"v": 1, "doc": "{}"})),
            ("b", 1, json!({"v": 1})),
        ],
    )
    .await;
    pair.write(
        &new,
        &[
            ("a", 1, json!({"more": 9, "v": 1, "doc": {}})),
            ("b", 1, json!({"v": 2})),
        ],
    )
    .await;
    let compared = pair.compare(async || Ok(())).await;
    assert_eq!(
        told(compared),
        ["'b' has other values, at the same version"]
    );
    pair.finish().await;

    // Others altogether: by their versions alone.
    let pair = Pair::set(&fields(), &fields(), false).await;
    let (old, new) = (pair.old(), pair.new_one());
    pair.write(&old, &[("a", 1, row(1)), ("b", 1, row(1))])
        .await;
    pair.write(&new, &[("a", 1, row(2)), ("b", 2, row(1))])
        .await;
    let compared = pair.compare(async || Ok(())).await;
    assert_eq!(told(compared), [format!("'b' is older in '{old}'")]);
    pair.finish().await;
}
