//! `cache.json`: what a cache is of.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Choice, Rows};
use crate::error::{Error, Result};

/// Version of the form of a cache.
pub(super) const VERSION: u32 = 1;
const FILE: &str = "cache.json";

/// The file's contents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub version: u32,
    /// [`fingerprint`](crate::teacher::fingerprint) of the teacher.
    pub teacher: String,
    /// Hash of the student's `tokenizer.json`.
    pub tokenizer: String,
    /// Ids that the distributions are over.
    pub vocabulary: usize,
    pub temperature: f32,
    pub choice: Choice,
    pub rows: Rows,
    /// Seeds what is drawn.
    pub seed: u64,
}

impl Header {
    /// Reads the file in `dir`.
    ///
    /// # Errors
    /// It is not there or not one of this version.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
        let header: Self =
            serde_json::from_str(&text).map_err(|e| Error::cache(&path, e.to_string()))?;
        if header.version != VERSION {
            let problem = format!(
                "has version {}, this program reads {VERSION}: write it again",
                header.version
            );
            return Err(Error::cache(&path, problem));
        }
        Ok(header)
    }

    /// Makes `dir` a cache of this header, or goes on with it if it is one already.
    ///
    /// # Errors
    /// `dir` is a cache of something else, or cannot be written.
    pub fn claim(&self, dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        if path.exists() {
            let there = Self::read(dir)?;
            return match there == *self {
                true => Ok(()),
                false => Err(Error::cache(
                    &path,
                    format!(
                        "holds a cache of something else ({}): choose another --out",
                        difference(&there, self)
                    ),
                )),
            };
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
