//! Requests to the hub, and what an answer that refuses means for the user.
//!
//! The token goes to the server alone: `hf-hub` drops it when a redirect leads to another host,
//! and nothing the server says is put in a message without it being taken out.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder, ApiRepo};

use super::address::Address;
use super::config::HubConfig;
use super::listing::Listing;
use super::retry::{Patience, Trouble, guarded, passing};
use super::stop::Stop;
use crate::error::{Error, Result};

/// Asks for one dataset.
pub(crate) struct Client {
    api: Api,
    config: HubConfig,
    address: Address,
    /// At the revision asked for.
    repo: ApiRepo,
    stop: Arc<Stop>,
}

/// What of an answer matters here.
pub(crate) struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `Content-Length`.
    pub length: Option<u64>,
    /// Of `Content-Range`, the first byte and the size of the whole if told.
    pub range: Option<(u64, Option<u64>)>,
    retry_after: Option<Duration>,
    code: Option<&'static str>,
    /// The bytes; bound them when reading.
    pub body: Box<dyn Read + Send>,
}

impl Client {
    /// A client for one dataset; makes no request.
    pub fn new(config: &HubConfig, address: &Address, stop: Arc<Stop>) -> Result<Self> {
        let api = ApiBuilder::from_cache(hf_hub::Cache::new(config.cache_dir.clone()))
            .with_endpoint(config.endpoint.clone())
            .with_token(config.token.clone())
            .with_progress(false)
            .with_user_agent("retort", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(|e| {
                Error::hub(
                    config.endpoint.clone(),
                    format!("cannot make a client for it: {e}"),
                )
            })?;
        Ok(Self {
            repo: api.repo(address.repo(address.revision())),
            api,
            config: config.clone(),
            address: address.clone(),
            stop,
        })
    }

    /// As given.
    pub fn config(&self) -> &HubConfig {
        &self.config
    }

    /// Set when nobody wants an answer any more.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// The files of the dataset at its revision.
    ///
    /// # Errors
    ///
    /// [`Error::Hub`] if it cannot be had.
    pub fn listing(&self) -> Result<Listing> {
        let name = format!("hf://{}@{}", self.address.repo_id, self.address.revision());
        let limit = self.config.listing_limit_bytes;
        let lasting = |reason: String| Trouble::Lasting(Error::hub(name.clone(), reason));
        let too_long = || {
            lasting(format!(
                "the list of its files is longer than {limit} bytes; give a smaller dataset, or \
                 download what you need and give a glob"
            ))
        };
        let mut patience = Patience::new(&self.config, &self.stop);
        loop {
            let tried = guarded(&name, || {
                let answer = self.get(None, 0)?;
                if answer.status != 200 {
                    return Err(self.refusal(&answer, &name));
                }
                if answer.length.is_some_and(|length| length > limit) {
                    return Err(too_long());
                }
                let mut text = std::io::BufReader::new(answer.body.take(limit));
                Listing::parse(&mut text).map_err(|e| {
                    if text.get_ref().limit() == 0 {
                        too_long()
                    } else if e.is_io() || e.is_eof() {
                        passing("the connection was cut")
                    } else {
                        lasting(format!(
                            "the answer is not a list of a dataset's files (line {}, column {}); \
                             is {} a hub?",
                            e.line(),
                            e.column(),
                            self.config.endpoint
                        ))
                    }
                })
            });
            match tried {
                Ok(listing) => return Ok(listing),
                Err(trouble) => patience.wait(trouble, &name)?,
            }
        }
    }

    /// Asks for the file at `path` in `commit` from byte `from` on.
    pub fn file(&self, commit: &str, path: &str, from: u64) -> Result<Answer, Trouble> {
        let repo = self.api.repo(self.address.repo(commit));
        self.get(Some(&repo.url(&percent_encoded(path))), from)
    }

    /// One request, of `url` or else of the listing.
    fn get(&self, url: Option<&str>, from: u64) -> Result<Answer, Trouble> {
        let mut request = self.repo.info_request();
        request = match url {
            // The way to a request with hf-hub's headers and policies for any of its URLs.
            Some(url) => request.uri(url),
            None => request.query("blobs", "true"),
        };
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        let idle = Some(self.config.idle_timeout);
        let settings = request
            .config()
            .http_status_as_error(false)
            // The listing says what every file must be, so it must come as safely as was asked.
            .https_only(url.is_none() && self.config.endpoint.starts_with("https://"))
            // Sizes and ranges are those of the file, not of a compressed form of it.
            .accept_encoding("identity")
            .timeout_connect(idle)
            .timeout_send_request(idle)
            .timeout_recv_response(idle)
            .timeout_per_read(idle);
        let request = if self.config.is_loopback() {
            settings.proxy(None).build()
        } else {
            settings.build()
        };
        let (head, body) = request
            .call()
            .map_err(|e| passing(&self.clean(&e.to_string())))?
            .into_parts();
        let text = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok());
        Ok(Answer {
            status: head.status.as_u16(),
            length: text("content-length").and_then(|v| v.trim().parse().ok()),
            range: text("content-range").and_then(content_range),
            retry_after: text("retry-after")
                .and_then(|v| v.trim().parse().ok())
                .map(Duration::from_secs),
            code: text("x-error-code").and_then(|code| {
                let known = [
                    "RepoNotFound",
                    "RevisionNotFound",
                    "EntryNotFound",
                    "GatedRepo",
                ];
                known.into_iter().find(|&k| k == code)
            }),
            body: Box::new(body.into_reader()),
        })
    }

    /// What an answer without content means.
    pub fn refusal(&self, answer: &Answer, name: &str) -> Trouble {
        let id = &self.address.repo_id;
        let page = format!("{}/datasets/{id}", self.config.endpoint);
        let token = match self.config.token {
            Some(_) => "the token that was sent does not give access to it",
            None => "no token was sent",
        };
        let access = format!(
            "if the dataset is gated or private, accept its terms at {page} and set HF_TOKEN to a \
             token that may read it; {token}"
        );
        let reason = match (answer.status, answer.code) {
            (408 | 429 | 500..=599, _) => {
                return Trouble::Passing {
                    reason: format!("the server answers {}", answer.status),
                    after: answer.retry_after,
                };
            }
            (401 | 404, Some("RepoNotFound")) => {
                format!(
                    "there is no such dataset for all the hub says; check the spelling; {access}"
                )
            }
            (401, _) => format!(
                "the hub asks who you are (401), as it does for datasets that are misspelt, gated \
                 or private; check the spelling; {access}"
            ),
            (403, _) => format!("the hub refuses access (403); {access}"),
            (404 | 410, code)
                if self.address.revision.is_none() && code != Some("EntryNotFound") =>
            {
                format!(
                    "not there (404): check the spelling; if the dataset exists, the hub has no \
                     parquet conversion of it: give a revision, as hf://{id}@main"
                )
            }
            (404 | 410, _) => format!(
                "not there (404): the name or the revision is misspelt, or the commit or file was \
                 deleted since; see {page}/tree/main for what there is"
            ),
            (status, _) => format!("the server answers {status}, which is no answer to this"),
        };
        Trouble::Lasting(Error::hub(name, reason))
    }

    /// Text that came from outside, fit for a message: one line of bounded length, no token.
    pub fn clean(&self, text: &str) -> String {
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        let text = match &self.config.token {
            Some(token) => text.replace(token, "<token>"),
            None => text,
        };
        text.chars().take(300).collect()
    }
}

/// `bytes 5-9/10` to the first byte and the size of the whole, which may be `*`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, whole) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.trim().parse().ok()?, whole.trim().parse().ok()))
}

/// A path as part of a URL.
fn percent_encoded(path: &str) -> String {
    path.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                char::from(b).to_string()
            }
            _ => format!("%{b:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_paths() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for wrong in ["", "bytes", "bytes */10", "bytes -1-2/3", "5-9/10"] {
            assert_eq!(content_range(wrong), None);
        }
        assert_eq!(percent_encoded("a b/c#?%.x"), "a%20b/c%23%3F%25.x");
    }
}
