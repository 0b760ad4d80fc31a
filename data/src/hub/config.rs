//! How the hub is reached and where its files are kept: what `huggingface_hub` reads from the
//! environment, read once, in one place.
//!
//! | variable | gives |
//! | --- | --- |
//! | `HF_ENDPOINT` | the server, else `https://huggingface.co` |
//! | `HF_HUB_CACHE`, else `HF_HOME`/hub, else `XDG_CACHE_HOME`/huggingface/hub, else `~/.cache/huggingface/hub` | the cache |
//! | `HF_TOKEN`, else the file `HF_TOKEN_PATH`, else `HF_HOME`/token | the token |
//! | `HF_HUB_OFFLINE` | `1`, `true`, `yes`, `on`: no request at all |

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};

/// Where the hub is, how patiently it is asked, and where its files are kept.
#[derive(Clone)]
pub struct HubConfig {
    /// The server, without a slash at its end.
    pub endpoint: String,
    /// The cache, in `huggingface_hub`'s layout and shared with it.
    pub cache_dir: PathBuf,
    /// Sent to `endpoint` alone; in no message and no `Debug`.
    pub token: Option<String>,
    /// Makes no request; what the cache holds is used.
    pub offline: bool,
    /// Failures in a row of one request before it is given up.
    pub retries: u32,
    /// The first wait between two tries; it doubles with each failure, to 30 seconds at most.
    pub retry_base: Duration,
    /// A connection that sends nothing for so long is cut.
    pub idle_timeout: Duration,
    /// The longest list of a dataset's files that is read, in bytes (C4's, of 28,000 files,
    /// takes about 8 MB).
    pub listing_limit_bytes: u64,
}

impl fmt::Debug for HubConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubConfig")
            .field("endpoint", &self.endpoint)
            .field("cache_dir", &self.cache_dir)
            .field("token", &self.token.as_ref().map(|_| "<hidden>"))
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

impl HubConfig {
    /// The public hub with its files under `cache_dir`, without a token.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: "https://huggingface.co".into(),
            cache_dir: cache_dir.into(),
            token: None,
            offline: false,
            retries: 6,
            retry_base: Duration::from_millis(500),
            idle_timeout: Duration::from_secs(60),
            listing_limit_bytes: 256 << 20,
        }
    }

    /// Reads the environment, as `huggingface_hub` does.
    ///
    /// # Errors
    ///
    /// [`Error::Hub`] naming the variable that cannot be used.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(get: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let path = |name: &str| get(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let text = |name: &str| {
            get(name)
                .filter(|v| !v.is_empty())
                .map(|v| v.into_string().map_err(|_| unusable(name, "not UTF-8")))
                .transpose()
        };
        let home = path("HF_HOME")
            .or_else(|| path("XDG_CACHE_HOME").map(|p| p.join("huggingface")))
            .or_else(|| path("HOME").map(|p| p.join(".cache").join("huggingface")))
            .or_else(|| path("USERPROFILE").map(|p| p.join(".cache").join("huggingface")));
        let cache_dir = path("HF_HUB_CACHE")
            .or_else(|| home.as_ref().map(|p| p.join("hub")))
            .ok_or_else(|| unusable("HF_HOME", "not set, and there is no home directory"))?;
        let mut config = Self::new(absolute(cache_dir)?);
        if let Some(endpoint) = text("HF_ENDPOINT")? {
            config.endpoint = endpoint_of(&endpoint)?;
        }
        let file = path("HF_TOKEN_PATH").or_else(|| home.map(|p| p.join("token")));
        let token = match (text("HF_TOKEN")?, file) {
            (Some(token), _) => Some(token),
            (None, Some(file)) => match std::fs::read_to_string(&file) {
                Ok(token) => Some(token),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
                Err(e) => return Err(Error::io(&file)(e)),
            },
            (None, None) => None,
        };
        config.token = token.map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
        if let Some(token) = &config.token
            && !token.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(unusable(
                "HF_TOKEN",
                "the token has characters no token has",
            ));
        }
        config.offline = text("HF_HUB_OFFLINE")?
            .is_some_and(|v| matches!(&*v.to_ascii_lowercase(), "1" | "true" | "yes" | "on"));
        Ok(config)
    }

    /// Whether the server is this machine, which no proxy is asked to reach.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.endpoint.split("://").nth(1).unwrap_or("");
        ["localhost", "127.", "[::1]"]
            .iter()
            .any(|own| host.starts_with(own))
    }
}

/// Symbolic links between blobs and snapshots are computed between absolute paths.
fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path).map_err(Error::io(&path))
}

fn endpoint_of(value: &str) -> Result<String> {
    let endpoint = value.trim().trim_end_matches('/');
    let host = endpoint
        .strip_prefix("https://")
        .or_else(|| endpoint.strip_prefix("http://"));
    match host {
        // A password in the address would end up in messages.
        Some(host) if host.contains('@') => Err(unusable(
            "HF_ENDPOINT",
            "has a user or password in it; give the bare address and HF_TOKEN",
        )),
        Some(host)
            if !host.is_empty()
                && host
                    .bytes()
                    .all(|b| b.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&b)) =>
        {
            Ok(endpoint.to_owned())
        }
        _ => Err(unusable(
            "HF_ENDPOINT",
            "not an address; give one as https://huggingface.co",
        )),
    }
}

fn unusable(variable: &str, reason: &str) -> Error {
    Error::hub(format!("environment variable {variable}"), reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn from(variables: &[(&str, &str)]) -> Result<HubConfig> {
        HubConfig::from_variables(|name| {
            variables
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| v.into())
        })
    }

    #[test]
    fn the_cache_is_where_huggingface_hub_keeps_it() {
        let cache = |v: &[(&str, &str)]| from(v).unwrap().cache_dir;
        let home = ("HOME", "/home/a");
        assert_eq!(cache(&[home]), Path::new("/home/a/.cache/huggingface/hub"));
        let xdg = ("XDG_CACHE_HOME", "/x");
        assert_eq!(cache(&[home, xdg]), Path::new("/x/huggingface/hub"));
        let hf = ("HF_HOME", "/hf");
        assert_eq!(cache(&[home, xdg, hf]), Path::new("/hf/hub"));
        let hub = ("HF_HUB_CACHE", "/c");
        assert_eq!(cache(&[home, xdg, hf, hub]), Path::new("/c"));
        assert!(from(&[]).unwrap_err().to_string().contains("HF_HOME"));
    }

    #[test]
    fn the_token_is_read_from_the_variable_then_the_file_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        let home = ("HF_HOME", dir.path().to_str().unwrap());
        assert_eq!(from(&[home]).unwrap().token.as_deref(), Some("hf_file"));
        let config = from(&[home, ("HF_TOKEN", " hf_variable\n")]).unwrap();
        assert_eq!(config.token.as_deref(), Some("hf_variable"));
        assert!(!format!("{config:?}").contains("hf_variable"));
        let message = from(&[home, ("HF_TOKEN", "hf_a\nX-Evil: 1")]).unwrap_err();
        assert!(!message.to_string().contains("Evil"), "{message}");
    }

    #[test]
    fn endpoint_and_offline() {
        let home = ("HF_HOME", "/nowhere");
        let config = from(&[home, ("HF_ENDPOINT", "http://127.0.0.1:80/")]).unwrap();
        assert_eq!(config.endpoint, "http://127.0.0.1:80");
        assert!(config.is_loopback() && !config.offline);
        for wrong in [
            "huggingface.co",
            "https://",
            "https://u:secret@h",
            "file:///x",
        ] {
            let message = from(&[home, ("HF_ENDPOINT", wrong)])
                .unwrap_err()
                .to_string();
            assert!(message.contains("HF_ENDPOINT") && !message.contains("secret"));
        }
        assert!(from(&[home, ("HF_HUB_OFFLINE", "True")]).unwrap().offline);
        assert!(!from(&[home, ("HF_HUB_OFFLINE", "0")]).unwrap().offline);
    }
}
