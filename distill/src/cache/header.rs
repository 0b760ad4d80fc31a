//! `cache.json`: the settings that a cache was written with.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::format::{RowFormat, Sparsification};
use crate::error::{Error, Result};

/// The format version.
pub(super) const VERSION: u32 = 1;
const FILE: &str = "cache.json";

/// The contents of `cache.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub version: u32,
    /// [`fingerprint`](crate::teacher::fingerprint) of the teacher.
    pub teacher: String,
    /// Hash of the student's `tokenizer.json`.
    pub tokenizer: String,
    /// Ids in a distribution.
    pub vocabulary: usize,
    pub temperature: f32,
    #[serde(rename = "choice")]
    pub sparsification: Sparsification,
    pub rows: RowFormat,
    /// Seeds the samples.
    pub seed: u64,
}

impl Header {
    /// Reads the file in `dir`.
    ///
    /// # Errors
    /// The file is absent, damaged or of another version.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
        let header: Self =
            serde_json::from_str(&text).map_err(|e| Error::cache(&path, e.to_string()))?;
        if header.version != VERSION {
            let reason = format!(
                "has version {}, this program reads {VERSION}: write it again",
                header.version
            );
            return Err(Error::cache(&path, reason));
        }
        Ok(header)
    }

    /// Writes the file into `dir`, or checks that the one there is the same.
    ///
    /// # Errors
    /// `dir` has a cache with another header, or cannot be written.
    pub fn claim(&self, dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        if path.exists() {
            let there = Self::read(dir)?;
            if there == *self {
                return Ok(());
            }
            let reason = format!(
                "holds a cache of something else ({}): choose another --out",
                difference(&there, self)
            );
            return Err(Error::cache(&path, reason));
        }
        fs::create_dir_all(dir).map_err(Error::io(dir))?;
        let text = serde_json::to_vec_pretty(self).expect("a header serializes");
        retort_files::write(&path, &text).map_err(Error::io(&path))
    }
}

/// The first field that differs, with both values.
fn difference(there: &Header, wanted: &Header) -> String {
    let value = |h: &Header| serde_json::to_value(h).expect("a header serializes");
    let (there, wanted) = (value(there), value(wanted));
    let fields = there.as_object().into_iter().flatten();
    let different = fields.filter_map(|(key, a)| {
        let b = &wanted[key];
        (a != b).then(|| format!("{key} is {a} there and {b} here"))
    });
    different.take(1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_json_of_version_1_stays_readable() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{
          "version": 1, "teacher": "00", "tokenizer": "11", "vocabulary": 300,
          "temperature": 1.0, "choice": {"sampled": {"draws": 20, "proposal": 0.5}},
          "rows": {"seq_len": 32, "document_attention": true}, "seed": 7
        }"#;
        fs::write(dir.path().join(FILE), text).unwrap();
        let header = Header::read(dir.path()).unwrap();
        let sparsification = Sparsification::Sampled {
            draws: 20,
            proposal: 0.5,
        };
        assert_eq!(header.sparsification, sparsification);
        let written: serde_json::Value = serde_json::to_value(&header).unwrap();
        let read: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(written, read);
    }
}
