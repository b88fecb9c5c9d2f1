//! What the configuration says of signing.

use std::env;

use serde::Deserialize;
use tributary_runtime::config::Secret;
use tributary_runtime::{Error, Problem, Result};

const REGION: &str = "elasticsearch.aws.region";
/// Where the tools of AWS look for the region, the first one first.
const REGION_VARIABLES: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

/// `[elasticsearch.aws]`: that requests are signed for AWS, and with whose keys.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsConfig {
    /// The region of the domain or collection; that of the environment (`AWS_REGION`) where unset.
    #[serde(default)]
    pub region: Option<String>,
    /// The service that the signatures are for.
    #[serde(default)]
    pub service: AwsService,
    /// The profile of the shared files (`~/.aws/config` and `credentials`) that the keys come from, and no other source.
    #[serde(default)]
    pub profile: Option<String>,
    /// The identifier of an access key, with `secret_access_key`.
    #[serde(default)]
    pub access_key_id: Option<Secret>,
    /// The access key itself.
    #[serde(default)]
    pub secret_access_key: Option<Secret>,
    /// The token of a temporary access key.
    #[serde(default)]
    pub session_token: Option<Secret>,
}

/// Which service of AWS requests go to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AwsService {
    /// A domain of OpenSearch Service.
    #[default]
    Es,
    /// A collection of OpenSearch Serverless.
    Aoss,
}

impl AwsService {
    /// Its name in a signature.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Es => "es",
            Self::Aoss => "aoss",
        }
    }
}

impl AwsConfig {
    /// What is wrong with the values, without a connection.
    pub(crate) fn validate(&self) -> Vec<Problem> {
        let mut problems: Vec<_> = self.region().err().iter().map(Problem::from).collect();
        let (id, secret) = (&self.access_key_id, &self.secret_access_key);
        if id.is_some() != secret.is_some() {
            problems.push(
                Problem::new("of `elasticsearch.aws.access_key_id` and `secret_access_key` one is set without the other")
                    .remedy("set both, or neither: then the keys come from the environment, a profile or a role"),
            );
        }
        if self.session_token.is_some() && id.is_none() && secret.is_none() {
            problems.push(
                Problem::new(
                    "`elasticsearch.aws.session_token` is set without the keys that it is of",
                )
                .remedy("set `elasticsearch.aws.access_key_id` and `secret_access_key`"),
            );
        }
        if self.profile.is_some() && (id.is_some() || secret.is_some()) {
            problems.push(
                Problem::new("`elasticsearch.aws.profile` is set beside keys")
                    .remedy("leave the profile or the keys, for a request is signed with one key"),
            );
        }
        problems
    }

    /// The region that is configured, or that of the environment.
    ///
    /// # Errors
    /// Stop: there is none, or it is no region's name.
    pub(super) fn region(&self) -> Result<String> {
        self.region_beside(|name| env::var(name).ok())
    }

    fn region_beside(&self, variable: impl Fn(&str) -> Option<String>) -> Result<String> {
        let configured = self.region.clone().map(|region| (REGION, region));
        let mut variables = REGION_VARIABLES.iter().filter_map(|&name| {
            let region = variable(name).filter(|region| !region.is_empty());
            region.map(|region| (name, region))
        });
        let remedy =
            "set `elasticsearch.aws.region` to the domain's region, such as \"eu-central-1\"";
        let Some((place, region)) = configured.or_else(|| variables.next()) else {
            return Err(Error::stop_msg(format_args!(
                "`{REGION}` is not set, and {} is not in the environment",
                REGION_VARIABLES[0]
            ))
            .remedy(remedy));
        };
        let is_letter =
            |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'-';
        if region.is_empty() || !region.bytes().all(is_letter) {
            return Err(Error::stop_msg(format_args!(
                "`{place}` is no name of a region: it has a-z, 0-9 and '-'"
            ))
            .remedy(remedy));
        }
        Ok(region)
    }
}

#[cfg(test)]
mod tests {
    use super::{AwsConfig, AwsService};

    fn config(toml: &str) -> AwsConfig {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn the_region_is_the_configured_one_then_that_of_the_environment() {
        let environment = |name: &str| Some(format!("{}-1", name.to_lowercase().replace('_', "-")));
        let region = |toml: &str| config(toml).region_beside(environment).unwrap();
        assert_eq!(region("region = \"eu-central-1\""), "eu-central-1");
        assert_eq!(region(""), "aws-region-1");
        let default = |name: &str| (name == "AWS_DEFAULT_REGION").then(|| "eu-west-1".to_owned());
        assert_eq!(config("").region_beside(default).unwrap(), "eu-west-1");

        let missing = config("").region_beside(|_| None).unwrap_err();
        assert!(missing.to_string().contains("AWS_REGION"), "{missing}");
        assert!(missing.remedy_text().is_some());
        for wrong in ["", "eu central", "EU", "eu/x"] {
            let config = config(&format!("region = \"{wrong}\""));
            let error = config.region_beside(environment).unwrap_err();
            assert!(
                error.to_string().contains("elasticsearch.aws.region"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_service_is_that_of_domains_unless_it_is_said() {
        assert_eq!(config("").service, AwsService::Es);
        assert_eq!(config("service = \"aoss\"").service.name(), "aoss");
        assert!(toml::from_str::<AwsConfig>("service = \"s3\"").is_err());
    }

    #[test]
    fn keys_that_cannot_sign_are_refused_and_not_told() {
        for (toml, count) in [
            ("", 0),
            ("profile = \"p\"", 0),
            (
                "access_key_id = \"AKHUSH\"\nsecret_access_key = \"hush\"",
                0,
            ),
            ("access_key_id = \"AKHUSH\"", 1),
            ("secret_access_key = \"hush\"", 1),
            ("session_token = \"hush\"", 1),
            (
                "access_key_id = \"AKHUSH\"\nsecret_access_key = \"hush\"\nprofile = \"p\"",
                1,
            ),
        ] {
            let config = config(&format!("region = \"eu-west-1\"\n{toml}"));
            let problems = config.validate();
            assert_eq!(problems.len(), count, "{problems:?}");
            assert!(problems.iter().all(|problem| problem.remedy.is_some()));
            assert!(
                !format!("{config:?} {problems:?}")
                    .to_lowercase()
                    .contains("hush")
            );
        }
    }
}
