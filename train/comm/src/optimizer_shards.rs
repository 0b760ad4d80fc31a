//! The optimizer's state cut into shards by parameter, and merged.
//!
//! A shard is a burnpack, as Burn writes the whole: tensors with their parameter's number, and scalars and texts whose
//! names begin with it.

use burn::tensor::Bytes;
use burn_pack::{Reader, Tensor, Writer};

use crate::error::{Error, Result};

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Ranks(format!(
        "the optimizer's state cannot be moved between ranks: {error}"
    ))
}

fn read(bytes: Vec<u8>) -> Result<Reader> {
    Reader::from_bytes(Bytes::from_bytes_vec(bytes)).map_err(failed)
}

/// The number of the parameter that an entry is of.
fn parameter(name: &str) -> Option<u64> {
    name.split('.').next()?.parse().ok()
}

/// Merges shards, no two of which have the same parameter.
///
/// # Errors
/// A shard cannot be read.
pub fn merge(shards: Vec<Vec<u8>>) -> Result<Vec<u8>> {
    let (mut tensors, mut entries) = (Vec::new(), Vec::new());
    for shard in shards {
        let reader = read(shard)?;
        entries.push((reader.scalars().clone(), reader.metadata().clone()));
        tensors.extend(reader.into_tensors().map_err(failed)?);
    }
    let mut writer = Writer::new(tensors);
    for (scalars, texts) in &entries {
        for (key, value) in scalars {
            writer = writer.with_scalar(key, *value);
        }
        for (key, value) in texts {
            writer = writer.with_metadata(key, value);
        }
    }
    Ok(writer.into_bytes().map_err(failed)?.to_vec())
}

/// The shard of `whole` with the `wanted` parameters.
///
/// # Errors
/// It cannot be read.
pub fn shard(whole: &[u8], wanted: impl Fn(u64) -> bool) -> Result<Vec<u8>> {
    let reader = read(whole.to_vec())?;
    let (scalars, texts) = (reader.scalars().clone(), reader.metadata().clone());
    let here = |name: &str| parameter(name).is_some_and(&wanted);
    let tensors = reader.into_tensors().map_err(failed)?.into_iter();
    let tensors: Vec<Tensor> = tensors
        .filter(|t| t.param_id.is_some_and(&wanted))
        .collect();
    let mut writer = Writer::new(tensors);
    for (key, value) in scalars.iter().filter(|(key, _)| here(key)) {
        writer = writer.with_scalar(key, *value);
    }
    for (key, value) in texts.iter().filter(|(key, _)| here(key)) {
        writer = writer.with_metadata(key, value);
    }
    Ok(writer.into_bytes().map_err(failed)?.to_vec())
}
