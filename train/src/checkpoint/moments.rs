//! The optimizer's state in pieces: what several ranks have of it as one, and one as several.
//!
//! A piece is what Burn writes (burnpack): tensors with the number of their parameter, and entries whose names
//! begin with it.

use burn::tensor::Bytes;
use burn_pack::{Reader, Tensor, Writer};

use crate::error::{Error, Result};

fn failed(error: impl std::fmt::Display) -> Error {
    Error::World(format!(
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

/// The pieces as one; no two have the same parameter.
///
/// # Errors
/// A piece cannot be read.
pub fn merged(pieces: Vec<Vec<u8>>) -> Result<Vec<u8>> {
    let (mut tensors, mut entries) = (Vec::new(), Vec::new());
    for piece in pieces {
        let reader = read(piece)?;
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

/// What `whole` has of the parameters that are `wanted`.
///
/// # Errors
/// It cannot be read.
pub fn part(whole: &[u8], wanted: impl Fn(u64) -> bool) -> Result<Vec<u8>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::groups::rules;
    use crate::optimizer::tests::{grads, model};
    use crate::optimizer::{learning_rates, optimizer};
    use crate::recipe::TrainConfig;

    #[test]
    fn parts_make_the_whole_again_and_it_steps_as_before() {
        let text = "steps = 1\nbatch_size = 1\nlr = 1e-2\noptimizer = \"muon\"";
        let config: TrainConfig = toml::from_str(text).unwrap();
        let model = model();
        let rules = rules(&config, model.named_parameters()).unwrap();
        let rates = || learning_rates(0.1, &rules);
        let mut before = optimizer(&config, &rules);
        let model = before.step(rates(), model.clone(), grads(&model));
        let whole = before.into_bytes().unwrap();
        let parts = [0, 1, 2].map(|rank| part(&whole, |id| id % 3 == rank).unwrap());
        assert!(parts.iter().all(|part| part.len() < whole.len()));
        let bytes = Bytes::from_bytes_vec(merged(parts.to_vec()).unwrap());
        let mut after = optimizer(&config, &rules).from_bytes(bytes).unwrap();
        let step = |optimizer: &mut burn::optim::ModuleOptimizer| {
            let moved = optimizer.step(rates(), model.clone(), grads(&model));
            crate::parallel::checksum(&moved)
        };
        assert_eq!(step(&mut before), step(&mut after));
    }
}
