//! Files of JSON objects, one a line, each with its `step`: `metrics.jsonl`, `samples.jsonl`.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};

/// An open file, written at its end.
pub struct JsonlFile {
    path: PathBuf,
    file: File,
}

impl JsonlFile {
    /// Opens `path`, dropping lines past `step`: steps after the checkpoint that a resumed run
    /// starts from are done again.
    pub fn open(path: &Path, step: u64) -> Result<Self> {
        if path.exists() {
            let text = fs::read_to_string(path).map_err(Error::io(path))?;
            let kept: String = text
                .split_inclusive('\n')
                .filter(|line| {
                    serde_json::from_str::<Value>(line)
                        .is_ok_and(|v| v["step"].as_u64().is_some_and(|s| s <= step))
                })
                .collect();
            retort_files::write(path, kept.as_bytes()).map_err(Error::io(path))?;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(Error::io(path))?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Appends one line.
    pub fn write(&mut self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string(line).expect("lines have string keys");
        text.push('\n');
        self.file
            .write_all(text.as_bytes())
            .map_err(Error::io(&self.path))
    }

    /// Makes everything written so far durable.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(Error::io(&self.path))
    }
}
