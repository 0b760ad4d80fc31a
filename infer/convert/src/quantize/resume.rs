//! What a calibration has done so far, beside the file that it writes, so that one that was stopped goes on.
//!
//! `OUT.calibration/` holds `of` (what it belongs to: parent, types, settings and tokens, as a number), `layer-N` (the
//! tensors of a finished layer: each u32 length of the name, name, u64 length, bytes, little-endian) and `states-N` (the
//! residual stream after N layers, [tokens, hidden_size] f32 as this machine has them). Every file is whole or not there; one that does not fit
//! is as if it were not there. What is written in the end is the same as without a stop.

use std::fs;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::calibrate::{CalibrationSettings, Encoded};
use crate::source::WeightSource;
use retort_format::{Error, GgmlType, Result};

/// The directory beside a file being written.
pub(super) struct CalibrationCheckpoint {
    dir: PathBuf,
    /// Layers that are there.
    layers: usize,
}

/// Layers that are done, and the residual stream after them.
pub(super) struct Done {
    pub(super) layers: Vec<Vec<Encoded>>,
    pub(super) states: Vec<f32>,
}

impl CalibrationCheckpoint {
    /// What is kept for `out` of a calibration of this `fingerprint`, with `values` numbers in the residual stream; anything
    /// else that was there is removed.
    pub(super) fn open(
        out: &Path,
        fingerprint: u64,
        values: usize,
    ) -> Result<(Self, Option<Done>)> {
        let mut name = out.as_os_str().to_owned();
        name.push(".calibration");
        let mut kept = Self {
            dir: name.into(),
            layers: 0,
        };
        let of = format!("{fingerprint:016x}\n");
        if fs::read_to_string(kept.dir.join("of")).is_ok_and(|there| there == of)
            && let Some(done) = kept.read(values)
        {
            kept.layers = done.layers.len();
            return Ok((kept, Some(done)));
        }
        kept.remove()?;
        fs::create_dir(&kept.dir).map_err(Error::io(&kept.dir))?;
        write(&kept.dir.join("of"), of.as_bytes())?;
        Ok((kept, None))
    }

    fn read(&self, values: usize) -> Option<Done> {
        let entries = fs::read_dir(&self.dir).ok()?.flatten();
        let numbers = entries.filter_map(|entry| {
            let name = entry.file_name();
            name.to_str()?.strip_prefix("states-")?.parse().ok()
        });
        let n: usize = numbers.max()?;
        let bytes = fs::read(self.dir.join(format!("states-{n}"))).ok()?;
        let states: Vec<f32> = (bytes.as_chunks().0.iter())
            .map(|bytes| f32::from_ne_bytes(*bytes))
            .collect();
        let layers = (0..n).map(|layer| {
            let bytes = fs::read(self.dir.join(format!("layer-{layer}"))).ok()?;
            parse(&bytes)
        });
        let layers = layers.collect::<Option<_>>()?;
        (bytes.len() == 4 * values).then_some(Done { layers, states })
    }

    /// Keeps a further layer and the residual stream after it.
    pub(super) fn put(&mut self, tensors: &[Encoded], states: &[f32]) -> Result<()> {
        let mut bytes = Vec::new();
        for (name, data) in tensors {
            bytes.extend((name.len() as u32).to_le_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend((data.len() as u64).to_le_bytes());
            bytes.extend(data);
        }
        write(&self.dir.join(format!("layer-{}", self.layers)), &bytes)?;
        self.layers += 1;
        let name = |layers: usize| self.dir.join(format!("states-{layers}"));
        write(&name(self.layers), bytemuck::cast_slice(states))?;
        // gone already if this is the first
        let _ = fs::remove_file(name(self.layers - 1));
        Ok(())
    }

    /// Removes the directory.
    pub(super) fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(&self.dir)(error))
            }
            _ => Ok(()),
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    retort_files::write(path, bytes).map_err(Error::io(path))
}

fn parse(mut bytes: &[u8]) -> Option<Vec<Encoded>> {
    let mut tensors = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk()?;
        let (name, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (data, rest) = rest.split_at_checked(length)?;
        tensors.push((String::from_utf8(name.into()).ok()?, data.to_vec()));
        bytes = rest;
    }
    Some(tensors)
}

/// A number that differs for another parent, rotated or not (as far as samples of its tensors tell), other types,
/// settings or tokens.
pub(super) fn fingerprint(
    source: &dyn WeightSource,
    types: &[GgmlType],
    settings: &CalibrationSettings,
    tokens: &[u32],
) -> Result<u64> {
    let mut hash = Xxh3::new();
    hash.update(env!("CARGO_PKG_VERSION").as_bytes());
    hash.update(format!("{settings:?}{:?}", source.config()).as_bytes());
    let mut row = Vec::new();
    for (index, (tensor, ty)) in source.tensors().iter().zip(types).enumerate() {
        hash.update(format!("{}{:?}{ty}", tensor.name, tensor.dims).as_bytes());
        let rows = tensor.shape().1;
        for at in [0, rows / 2, rows - 1] {
            source.rows(index, at..at + 1, &mut row)?;
            hash.update(bytemuck::cast_slice(&row));
        }
    }
    tokens
        .iter()
        .for_each(|token| hash.update(&token.to_le_bytes()));
    Ok(hash.digest())
}
