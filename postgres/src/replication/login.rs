//! Start-up and authentication (page "Message Flow" of the Postgres manual).

use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;

use super::channel::{Channel, malformed};
use super::config::ReplicationConfig;
use super::error::Failure;

/// Logs in; afterwards the server waits for a query.
pub(super) async fn log_in(
    channel: &mut Channel,
    config: &ReplicationConfig,
) -> Result<(), Failure> {
    let parameters = config.startup_parameters();
    let parameters = parameters
        .iter()
        .map(|(name, value)| (*name, value.as_str()));
    frontend::startup_message(parameters, &mut channel.outgoing).map_err(|error| {
        Failure::Settings(format!(
            "user, database or application name is unusable: {error}"
        ))
    })?;
    channel.flush().await?;
    authenticate(channel, config).await?;
    loop {
        match channel.receive().await? {
            Message::ReadyForQuery(_) => return Ok(()),
            Message::BackendKeyData(_) => {}
            _ => return Err(out_of_turn()),
        }
    }
}

async fn authenticate(channel: &mut Channel, config: &ReplicationConfig) -> Result<(), Failure> {
    match channel.receive().await? {
        Message::AuthenticationOk => return Ok(()),
        Message::AuthenticationCleartextPassword => {
            send_password(channel, password(config)?).await?;
        }
        Message::AuthenticationMd5Password(body) => {
            let hash = md5_hash(config.user.as_bytes(), password(config)?, body.salt());
            send_password(channel, hash.as_bytes()).await?;
        }
        Message::AuthenticationSasl(body) => scram(channel, &body, password(config)?).await?,
        Message::AuthenticationGss
        | Message::AuthenticationSspi
        | Message::AuthenticationKerberosV5
        | Message::AuthenticationScmCredential => {
            return Err(Failure::Authentication(
                "the server asks for GSSAPI, SSPI or another method that is not supported; give this role \
                 scram-sha-256 in pg_hba.conf"
                    .to_owned(),
            ));
        }
        _ => return Err(out_of_turn()),
    }
    match channel.receive().await? {
        Message::AuthenticationOk => Ok(()),
        _ => Err(out_of_turn()),
    }
}

async fn send_password(channel: &mut Channel, password: &[u8]) -> Result<(), Failure> {
    frontend::password_message(password, &mut channel.outgoing)
        .map_err(|_| Failure::Settings("the password holds a zero byte".to_owned()))?;
    channel.flush().await
}

/// SCRAM-SHA-256 (RFC 5802, RFC 7677). It also proves to us that the server knows the password.
async fn scram(
    channel: &mut Channel,
    offer: &AuthenticationSaslBody,
    password: &[u8],
) -> Result<(), Failure> {
    let offered = offer
        .mechanisms()
        .any(|mechanism| Ok(mechanism == SCRAM_SHA_256));
    if !offered.map_err(|error| malformed(&error))? {
        return Err(Failure::Authentication(
            "the server does not offer SCRAM-SHA-256; give this role scram-sha-256 in pg_hba.conf"
                .to_owned(),
        ));
    }
    let distrust =
        |error| Failure::Authentication(format!("the server's SCRAM answer is wrong: {error}"));
    let mut scram = ScramSha256::new(password, ChannelBinding::unsupported());
    frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut channel.outgoing)
        .map_err(|error| malformed(&error))?;
    channel.flush().await?;
    match channel.receive().await? {
        Message::AuthenticationSaslContinue(body) => scram.update(body.data()).map_err(distrust)?,
        _ => return Err(out_of_turn()),
    }
    frontend::sasl_response(scram.message(), &mut channel.outgoing)
        .map_err(|error| malformed(&error))?;
    channel.flush().await?;
    match channel.receive().await? {
        Message::AuthenticationSaslFinal(body) => scram.finish(body.data()).map_err(distrust),
        _ => Err(out_of_turn()),
    }
}

fn password(config: &ReplicationConfig) -> Result<&[u8], Failure> {
    config.password.as_deref().ok_or_else(|| {
        Failure::Authentication("the server asks for a password and none is configured".to_owned())
    })
}

fn out_of_turn() -> Failure {
    Failure::Protocol("an unexpected message came during the log-in".to_owned())
}
