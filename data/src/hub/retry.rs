//! What is tried again and after how long.
//!
//! Cut connections, silence, 408, 429 and 5xx are tried again, after the seconds `Retry-After`
//! gives or else after a time that doubles with each failure; part of it is random, so that many
//! runs do not come back at the same moment.

use std::time::Duration;

use super::config::HubConfig;
use super::stop::Stop;
use retort_tokenizer::catch_panic;

use crate::error::{Error, Result};

/// The longest wait between two tries, unless the server asks for more.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The longest wait that a server may ask for: the hub counts requests over five minutes.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Why one try did not succeed.
pub(crate) enum Trouble {
    /// It may succeed later, after `after` if the server said so.
    Passing {
        /// What happened.
        reason: String,
        /// What the server asks for.
        after: Option<Duration>,
    },
    /// It never will.
    Lasting(Error),
    /// The content is not what the listing says; `found` in its stead.
    Wrong {
        /// A size or a digest.
        expected: String,
        /// The same of what came.
        found: String,
    },
    /// Nobody wants it any more.
    Stopped,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Lasting(error)
    }
}

impl Trouble {
    /// As the user is told of it, when `name` is not tried again.
    pub fn error(self, name: &str) -> Error {
        let name = name.to_owned();
        match self {
            Self::Lasting(error) => error,
            Self::Passing { reason, .. } => Error::hub(name, reason),
            Self::Wrong { expected, found } => Error::Verification {
                name,
                expected,
                found,
            },
            Self::Stopped => Error::hub(name, "no longer wanted"),
        }
    }
}

/// Trouble that may pass.
pub(crate) fn passing(reason: &str) -> Trouble {
    Trouble::Passing {
        reason: reason.into(),
        after: None,
    }
}

/// Runs one exchange with the server. The HTTP client asserts its own states in dozens of places;
/// should an answer ever break one of these, it must cost this request and not the run.
pub(crate) fn guarded<T>(
    name: &str,
    exchange: impl FnOnce() -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    catch_panic(exchange).unwrap_or_else(|| {
        Err(Trouble::Lasting(Error::hub(
            name,
            "the HTTP client failed on the server's answer; try again, or download it by \
             other means and give a glob",
        )))
    })
}

/// How often something may still fail, and how long to wait before the next try.
pub(crate) struct Patience<'a> {
    config: &'a HubConfig,
    stop: &'a Stop,
    failures: u32,
}

impl<'a> Patience<'a> {
    /// None of it used yet.
    pub fn new(config: &'a HubConfig, stop: &'a Stop) -> Self {
        Self {
            config,
            stop,
            failures: 0,
        }
    }

    /// Something was achieved: failures are counted anew.
    pub fn restore(&mut self) {
        self.failures = 0;
    }

    /// Waits before the next try.
    ///
    /// # Errors
    ///
    /// If there is to be none: the trouble lasts, or was met too often.
    pub fn wait(&mut self, trouble: Trouble, name: &str) -> Result<()> {
        let (reason, after) = match trouble {
            Trouble::Passing { reason, after } => (reason, after),
            lasting => return Err(lasting.error(name)),
        };
        let config = self.config;
        if self.failures >= config.retries {
            let reason = format!(
                "{reason}, {} times in a row; check the network and HF_ENDPOINT ({}), or set \
                 HF_HUB_OFFLINE=1 to use what the cache holds",
                self.failures + 1,
                config.endpoint
            );
            return Err(Trouble::Passing { reason, after }.error(name));
        }
        let doubled = config
            .retry_base
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST_WAIT);
        self.failures += 1;
        let random = doubled.mul_f64(rand::random::<f64>() / 2.0);
        let time = match after {
            Some(asked) => asked.min(LONGEST_RETRY_AFTER) + random,
            None => doubled / 2 + random,
        };
        if self.stop.sleep(time) {
            return Err(Trouble::Stopped.error(name));
        }
        Ok(())
    }
}
