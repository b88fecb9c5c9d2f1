//! How an answer of the registry is read: the middleware through which every request to it goes.
//!
//! schema_registry_converter reads an answer of any size, calls one retriable by two statuses (502 and 503), and
//! keeps the status as text only. So an answer is read whole and judged here, before the crate sees it.

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http::{Extensions, StatusCode};
use reqwest::{Request, Response};
use reqwest_middleware::{Error, Next};
use serde::Deserialize;

use super::fault::{Fault, Kind};

/// The most that an answer may have, in bytes. The largest schemas (a table of 1,600 columns) stay below 1 MiB.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most of a registry's message that an error repeats, in characters.
const MESSAGE_CHARS_MAX: usize = 1_000;

/// The body of a refusal.
#[derive(Deserialize)]
struct Refusal {
    error_code: Option<u32>,
    message: String,
}

/// Sends a request and reads the whole answer; fails with a [`Fault`] unless it is a success.
pub(super) fn read<'a>(
    request: Request,
    extensions: &'a mut Extensions,
    next: Next<'a>,
) -> BoxFuture<'a, Result<Response, Error>> {
    Box::pin(async move {
        let response = next.run(request, extensions).await;
        let response = response.map_err(|error| Error::middleware(broken(error)))?;
        let status = response.status();
        let body = body(response).await.map_err(Error::middleware)?;
        if !status.is_success() {
            return Err(Error::middleware(refused(status, &body)));
        }
        let mut answer = http::Response::new(body);
        *answer.status_mut() = status;
        Ok(Response::from(answer))
    })
}

async fn body(mut response: Response) -> Result<Bytes, Fault> {
    let mut body = BytesMut::new();
    loop {
        let chunk = response.chunk().await;
        let Some(chunk) = chunk.map_err(|error| broken(error.into()))? else {
            return Ok(body.freeze());
        };
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES_MAX {
            let detail = format!("more than {ANSWER_BYTES_MAX} bytes");
            return Err(Fault::new(Kind::TooLarge, detail));
        }
    }
}

/// No whole answer came: the server is away, restarts or is too slow.
fn broken(error: Error) -> Fault {
    let kind = if error.is_timeout() {
        Kind::Silent
    } else {
        Kind::Unreachable
    };
    let cause = anyhow::Error::from(error.without_url());
    Fault::new(kind, format!("{cause:#}"))
}

fn refused(status: StatusCode, body: &[u8]) -> Fault {
    let refusal = serde_json::from_slice::<Refusal>(body).ok();
    let code = refusal.as_ref().and_then(|refusal| refusal.error_code);
    let message = refusal.map_or_else(
        || "no message".to_owned(),
        |refusal| refusal.message.chars().take(MESSAGE_CHARS_MAX).collect(),
    );
    Fault::new(Kind::of(status, code), format!("{status}: {message}"))
}
