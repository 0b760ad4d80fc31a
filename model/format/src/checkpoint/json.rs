//! The JSON files of a checkpoint, written.

use std::path::Path;

use serde_json::{Value, json};

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::precision::Precision;

/// Writes `config.json` and a `generation_config.json` for weights stored as `precision`.
///
/// # Errors
/// A file cannot be written.
pub fn write_config(directory: &Path, config: &ModelConfig, precision: Precision) -> Result<()> {
    write_json(&directory.join("config.json"), &config.to_json(precision))?;
    write_json(
        &directory.join("generation_config.json"),
        &json!({
            "bos_token_id": config.bos_token_id,
            "eos_token_id": config.eos_token_id,
        }),
    )
}

/// Writes `value` to `path`, indented.
///
/// # Errors
/// The file cannot be written.
pub fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).expect("a JSON value always serializes");
    retort_files::write(path, (text + "\n").as_bytes()).map_err(Error::io(path))
}
