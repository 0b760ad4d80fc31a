//! `hf://OWNER/NAME[/CONFIG[/SPLIT]][@REVISION]`, as the user writes it, to its parts.
//!
//! Every part ends up in a URL and in a path of the cache, so each is held to the characters the
//! hub itself allows.

use hf_hub::{Repo, RepoType};

use crate::error::{Error, Result};

/// The branch of the hub's own conversion of a dataset to parquet.
const CONVERSION: &str = "refs/convert/parquet";

/// What a hub source names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Address {
    /// `OWNER/NAME`.
    pub repo_id: String,
    /// The configuration, if given.
    pub config: Option<String>,
    /// The split, if given.
    pub split: Option<String>,
    /// A branch, tag or commit; without one the hub's parquet conversion is meant.
    pub revision: Option<String>,
}

impl Address {
    /// Reads a source that begins with `hf://`.
    ///
    /// # Errors
    ///
    /// [`Error::Source`] with the form to give.
    pub fn parse(source: &str) -> Result<Self> {
        let wrong = |reason: &str| {
            Error::source(
                source,
                format!(
                    "{reason}; give hf://OWNER/NAME[/CONFIG[/SPLIT]][@REVISION], as hf://allenai/c4/en"
                ),
            )
        };
        let rest = source
            .trim()
            .strip_prefix("hf://")
            .ok_or_else(|| wrong("not a hub source"))?;
        let (path, revision) = match rest.split_once('@') {
            Some((path, revision)) => (path, Some(revision)),
            None => (rest, None),
        };
        let parts: Vec<&str> = path.trim_end_matches('/').split('/').collect();
        if !(2..=4).contains(&parts.len()) {
            return Err(wrong("two to four names are needed between hf:// and @"));
        }
        if parts[0] == "datasets" {
            return Err(wrong("hf:// already means datasets: leave out `datasets/`"));
        }
        let no_name = |(i, part): (usize, &&str)| !is_name(part) || (i < 2 && part.contains(ODD));
        if let Some((_, part)) = parts.iter().enumerate().find(|&at| no_name(at)) {
            return Err(wrong(&format!(
                "`{}` is no name on the hub",
                part.escape_debug()
            )));
        }
        if let Some(revision) = revision
            && !is_revision(revision)
        {
            return Err(wrong("what follows @ is no branch, tag or commit"));
        }
        Ok(Self {
            repo_id: format!("{}/{}", parts[0], parts[1]),
            config: parts.get(2).map(|&p| p.to_owned()),
            split: parts.get(3).map(|&p| p.to_owned()),
            revision: revision.map(str::to_owned),
        })
    }

    /// The revision asked for.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(CONVERSION)
    }

    /// The repository at `revision`, for URLs and names in the cache.
    pub fn repo(&self, revision: &str) -> Repo {
        Repo::with_revision(self.repo_id.clone(), RepoType::Dataset, revision.to_owned())
    }
}

/// Found in configurations and splits, never in an owner or a dataset.
const ODD: [char; 4] = ['+', '=', ',', ' '];

/// Letters, digits, `.`, `_`, `-` and [`ODD`] ones; never a name that means a place (`.`, `..`).
pub(crate) fn is_name(part: &str) -> bool {
    !part.is_empty()
        && part.len() <= 200
        && !part.starts_with('.')
        && part
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c) || ODD.contains(&c))
}

fn is_revision(revision: &str) -> bool {
    revision.len() <= 200
        && revision.split('/').all(|part| {
            !part.is_empty()
                && !part.starts_with('.')
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c))
        })
}

/// Whether `text` is a commit: 40 hexadecimal digits.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_source() {
        let address = Address::parse("hf://allenai/c4/en/validation@refs/pr/3").unwrap();
        assert_eq!(address.repo_id, "allenai/c4");
        assert_eq!(address.config.as_deref(), Some("en"));
        assert_eq!(address.split.as_deref(), Some("validation"));
        assert_eq!(address.revision(), "refs/pr/3");
        let address = Address::parse("hf://allenai/c4").unwrap();
        assert_eq!(
            (address.config.as_deref(), address.split.as_deref()),
            (None, None)
        );
        assert_eq!(address.revision(), "refs/convert/parquet");
    }

    #[test]
    fn what_could_leave_the_cache_or_the_url_is_refused() {
        for wrong in [
            "hf://c4",
            "hf://",
            "hf://a/b/c/d/e",
            "hf://../b",
            "hf://a/..",
            "hf://a//b",
            "hf://a b/c",
            "hf://a/b/c?x=1",
            "hf://a/b@",
            "hf://a/b@../../x",
            "hf://a/b@main#x",
            "hf://a/b@/etc",
            "hf://a/b@x@y",
            "hf://datasets/allenai/c4",
            "hf://a/b\u{0}/c",
        ] {
            let error = Address::parse(wrong).unwrap_err();
            assert!(error.to_string().contains("hf://OWNER/NAME"), "{error}");
        }
    }
}
