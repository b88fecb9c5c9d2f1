//! The sink's configuration.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use tributary_postgres::verify::OriginConfig;
use tributary_runtime::Problem;
use tributary_runtime::config::{Secret, http_url_problems};

use crate::aws::AwsConfig;
use crate::naming;
use crate::options::DocumentOptions;
use crate::tls::TlsFiles;

tributary_engine::sink_config! {
    /// What `tributary-sink-elastic` reads from its file, beside what all services share.
    Config {
        /// The search engine.
        elasticsearch: ElasticConfig,
        /// The database that the topics come from: for `verify` alone.
        postgres: Option<OriginConfig>,
        /// Where it was read from, for a service that runs a command by itself.
        #[serde(skip)]
        file: Option<PathBuf>,
    }
}

/// `[elasticsearch]`: where the engine is, and how indices are made.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ElasticConfig {
    /// The nodes' URLs, one (also several with commas) or a list. Another one is used when one is away.
    #[serde(deserialize_with = "one_or_several")]
    pub url: Vec<String>,
    /// The user's name, with `password`.
    #[serde(default)]
    pub username: Option<String>,
    /// The user's password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// An API key in its encoded form, in place of a user.
    #[serde(default)]
    pub api_key: Option<Secret>,
    /// A token (a JSON Web Token, or Elasticsearch's own) for `Authorization: Bearer`, in place of a user.
    #[serde(default)]
    pub bearer_token: Option<Secret>,
    /// That requests are signed for AWS, in place of all of these.
    #[serde(default)]
    pub aws: Option<AwsConfig>,
    /// The certificates (PEM) of the authorities that are trusted, in place of the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The service's own certificate (PEM), with those between it and its authority behind it.
    #[serde(default)]
    pub client_certificate_file: Option<PathBuf>,
    /// The certificate's private key (PEM, not encrypted).
    #[serde(default)]
    pub client_key_file: Option<PathBuf>,
    /// What the names of all indices begin with.
    #[serde(default)]
    pub index_prefix: String,
    /// Bytes of one `_bulk` request, about (one document may be larger).
    #[serde(default = "default_bulk_bytes")]
    pub bulk_bytes: usize,
    /// Requests to `_bulk` of one index that are under way together, at most: fewer while the engine is busy.
    #[serde(default = "default_in_flight")]
    pub in_flight: u32,
    /// How the bodies of requests to `_bulk` are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// How long a request may take, in milliseconds.
    #[serde(default = "default_request_timeout_ms")]
    pub request_timeout_ms: u64,
    /// `index.number_of_shards` of new indices.
    #[serde(default = "default_shards")]
    pub number_of_shards: u32,
    /// `index.number_of_replicas` of new indices; the engine's default where unset.
    #[serde(default)]
    pub number_of_replicas: Option<u32>,
    /// `index.refresh_interval` of new indices, `1s`; the engine's default where unset.
    #[serde(default)]
    pub refresh_interval: Option<String>,
    /// What to do with an index whose mapping cannot take what a column has become.
    #[serde(default)]
    pub on_unfit_mapping: OnUnfitMapping,
    /// What the documents of some topics hold, and how they are mapped.
    #[serde(default)]
    pub documents: Vec<DocumentOptions>,
}

/// What is done with an index that maps a column's field otherwise than the column's type wants by now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUnfitMapping {
    /// It is said, in the log and in the status.
    #[default]
    Warn,
    /// The service has it built again from the beginning of the log, beside itself, and goes over to that one.
    Reindex,
}

/// How a request's body is compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// It is sent as it is.
    #[default]
    None,
    /// `Content-Encoding: gzip`, of the level that costs least time.
    Gzip,
}

const fn default_bulk_bytes() -> usize {
    5 * 1024 * 1024
}

/// Two for each of the writes that `batch.in_flight` lets go on together.
const fn default_in_flight() -> u32 {
    8
}

const fn default_request_timeout_ms() -> u64 {
    30_000
}

const fn default_shards() -> u32 {
    1
}

/// A request's deadline stays far below the hour for which an engine remembers a delete.
const MAX_REQUEST_TIMEOUT_MS: u64 = 600_000;

impl Config {
    /// What is wrong with the values, without a connection.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = self.engine().validate();
        problems.extend(self.elasticsearch.validate());
        problems.extend(self.postgres.iter().flat_map(OriginConfig::validate));
        problems
    }
}

impl ElasticConfig {
    /// What is wrong with the values, without a connection.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = self.url_problems();
        problems.extend(self.login_problems());
        problems.extend(self.tls_problems());
        if let Some(problem) = naming::prefix_problem(&self.index_prefix) {
            problems.push(
                Problem::new(format_args!("`elasticsearch.index_prefix` {problem}"))
                    .remedy("use a-z, 0-9, '-', '_' and '.', and begin with a letter or a digit"),
            );
        }
        let bounds = [
            (
                "bulk_bytes",
                self.bulk_bytes as u64,
                1024,
                100 * 1024 * 1024,
            ),
            ("in_flight", u64::from(self.in_flight), 1, 64),
            (
                "request_timeout_ms",
                self.request_timeout_ms,
                100,
                MAX_REQUEST_TIMEOUT_MS,
            ),
            (
                "number_of_shards",
                u64::from(self.number_of_shards),
                1,
                1024,
            ),
        ];
        for (key, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                problems.push(
                    Problem::new(format_args!("`elasticsearch.{key}` is {value}"))
                        .remedy(format!("set `elasticsearch.{key}` to {least} to {most}")),
                );
            }
        }
        for (number, options) in (1..).zip(&self.documents) {
            let place = format!("entry {number} of `elasticsearch.documents`");
            problems.extend(options.validate(&place));
        }
        problems
    }

    /// What is said of the documents of a topic.
    pub(crate) fn documents_of(&self, topic: &str) -> Option<&DocumentOptions> {
        let mut all = self.documents.iter();
        all.find(|options| options.is_of(topic))
    }

    /// The files of TLS.
    pub(crate) fn tls_files(&self) -> TlsFiles {
        TlsFiles {
            ca: self.ca_file.clone(),
            certificate: self.client_certificate_file.clone(),
            key: self.client_key_file.clone(),
        }
    }

    /// Whether the URL of a node has this scheme.
    pub(crate) fn has_scheme(&self, scheme: &str) -> bool {
        let mut urls = self.url.iter().filter_map(|url| url::Url::parse(url).ok());
        urls.any(|url| url.scheme() == scheme)
    }

    /// What somebody should know although the service runs.
    pub(crate) fn notes(&self) -> Vec<Problem> {
        let has_login =
            self.username.is_some() || self.api_key.is_some() || self.bearer_token.is_some();
        let urls = self.url.iter().filter_map(|url| url::Url::parse(url).ok());
        let open = urls.filter(|url| url.scheme() == "http" && !is_loopback(url));
        let hosts: Vec<_> = open
            .filter_map(|url| url.host_str().map(str::to_owned))
            .collect();
        let (what, read) = match &self.aws {
            _ if hosts.is_empty() => return Vec::new(),
            Some(_) => (
                "signed requests go",
                "can read what is in them, a session token too",
            ),
            None if has_login => ("credentials go", "can read them"),
            None => return Vec::new(),
        };
        let hosts = hosts.join(", ");
        let note = format!("{what} to {hosts} without TLS: whoever is on the way {read}");
        vec![Problem::note(note).remedy("begin `elasticsearch.url` with https://")]
    }

    fn login_problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let ways = [
            ("elasticsearch.username", self.username.is_some()),
            ("elasticsearch.api_key", self.api_key.is_some()),
            ("elasticsearch.bearer_token", self.bearer_token.is_some()),
            ("elasticsearch.aws", self.aws.is_some()),
        ];
        let given: Vec<_> = ways
            .iter()
            .filter(|(_, is_set)| *is_set)
            .map(|(key, _)| format!("`{key}`"))
            .collect();
        if given.len() > 1 {
            problems.push(
                Problem::new(format_args!("{} are set together", given.join(" and ")))
                    .remedy("leave one of them, for a request can say only once who sends it"),
            );
        }
        if self.password.is_some() && self.username.is_none() {
            problems.push(
                Problem::new("`elasticsearch.password` is set without `elasticsearch.username`")
                    .remedy("set `elasticsearch.username`"),
            );
        }
        problems.extend(self.aws.iter().flat_map(AwsConfig::validate));
        problems
    }

    fn tls_problems(&self) -> Vec<Problem> {
        let files = self.tls_files();
        if files.is_empty() {
            return Vec::new();
        }
        let mut problems = files.read().err().unwrap_or_default();
        if self.has_scheme("http") {
            problems.push(
                Problem::new("`elasticsearch.url` begins with http://, and certificates are set: they would not be used")
                    .remedy("begin `elasticsearch.url` with https://, or take `ca_file`, `client_certificate_file` and `client_key_file` out"),
            );
        }
        problems
    }

    fn url_problems(&self) -> Vec<Problem> {
        if self.url.is_empty() {
            return vec![
                Problem::new("`elasticsearch.url` is empty")
                    .remedy("set `elasticsearch.url` to the engine's address, http://search:9200"),
            ];
        }
        let mut problems = Vec::new();
        for url in &self.url {
            problems.extend(http_url_problems("elasticsearch.url", url));
            let has_user = url::Url::parse(url)
                .is_ok_and(|url| !url.username().is_empty() || url.password().is_some());
            if has_user {
                problems.push(
                    Problem::new("`elasticsearch.url` holds a user").remedy(
                        "set `elasticsearch.username` and `elasticsearch.password` instead",
                    ),
                );
            }
        }
        problems
    }
}

fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Urls;

    impl<'de> Visitor<'de> for Urls {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a URL or a list of URLs")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<String>, E> {
            let urls = text.split(',').map(str::trim).filter(|url| !url.is_empty());
            Ok(urls.map(str::to_owned).collect())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
            let mut urls = Vec::new();
            while let Some(url) = list.next_element()? {
                urls.push(url);
            }
            Ok(urls)
        }
    }

    deserializer.deserialize_any(Urls)
}

#[cfg(test)]
mod tests {
    use super::{Compression, Config};

    const SMALLEST: &str = r#"
        name = "search"
        topics = ["shop.*"]
        [kafka]
        brokers = ["kafka:9092"]
        registry = "http://registry:8081"
        [elasticsearch]
        url = "http://search:9200"
    "#;

    fn config(more: &str) -> Config {
        toml::from_str(&format!("{SMALLEST}{more}")).unwrap()
    }

    #[test]
    fn what_others_can_read_on_the_way_is_said() {
        let said = |more: &str| {
            let notes = config(more).elasticsearch.notes();
            notes.into_iter().map(|note| note.what).collect::<Vec<_>>()
        };
        assert_eq!(said(""), [""; 0]);
        let login = "api_key = \"a\"";
        assert_eq!(
            said(login),
            ["credentials go to search without TLS: whoever is on the way can read them"]
        );
        let aws = "[elasticsearch.aws]\nregion = \"eu-central-1\"";
        assert_eq!(
            said(aws),
            [
                "signed requests go to search without TLS: whoever is on the way can read what is in them, a session token too"
            ]
        );
    }

    #[test]
    fn the_smallest_file_is_enough() {
        let config = config("");
        assert_eq!(config.validate(), []);
        assert_eq!(config.elasticsearch.url, ["http://search:9200"]);
        assert_eq!(config.elasticsearch.bulk_bytes, 5 * 1024 * 1024);
        assert_eq!(config.elasticsearch.compression, Compression::None);
        assert_eq!(config.engine().name, "search");
    }

    #[test]
    fn several_urls_come_as_a_list_or_with_commas() {
        for urls in [
            r#"["http://a:1", "http://b:1"]"#,
            r#""http://a:1, http://b:1""#,
        ] {
            let text = SMALLEST.replace(r#""http://search:9200""#, urls);
            let config: Config = toml::from_str(&text).unwrap();
            assert_eq!(config.elasticsearch.url, ["http://a:1", "http://b:1"]);
        }
    }

    #[test]
    fn all_problems_are_found_at_once_and_no_secret_is_told() {
        let mut config = config(
            r#"
            username = "me"
            api_key = "hush"
            index_prefix = "Eu"
            bulk_bytes = 0
            in_flight = 0
            request_timeout_ms = 3600000
            number_of_shards = 0
            "#,
        );
        config.elasticsearch.url = vec!["http://me:hush@search:9200".to_owned()];
        let problems: Vec<_> = config.validate().iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 7, "{problems:?}");
        assert!(
            !format!("{problems:?} {config:?}")
                .replace("me:hush@", "")
                .contains("hush")
        );
        assert!(!format!("{problems:?}").contains("hush"));
    }

    #[test]
    fn a_signature_goes_without_other_ways_to_say_who_sends_a_request() {
        let aws = "[elasticsearch.aws]\nregion = \"eu-central-1\"\n";
        assert_eq!(config(&format!("\n{aws}")).validate(), []);
        for other in ["username", "api_key", "bearer_token"] {
            let config = config(&format!("\n{other} = \"hush\"\n{aws}"));
            let problems = config.validate();
            let [problem] = problems.as_slice() else {
                panic!("{problems:?}");
            };
            assert_eq!(
                problem.what,
                format!("`elasticsearch.{other}` and `elasticsearch.aws` are set together")
            );
        }
    }

    #[test]
    fn unknown_keys_are_errors() {
        assert!(toml::from_str::<Config>(&format!("{SMALLEST}\nusernam = 1")).is_err());
    }
}
