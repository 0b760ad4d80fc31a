//! Safetensors out: one file, or shards with an index, a tensor at a time.
//!
//! A tensor's bytes are asked for when their turn in the file comes and dropped when they
//! are written, so a checkpoint never exists a second time in memory.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::{Dtype, View};
use serde_json::json;

use crate::checkpoint::write_json;
use crate::error::{Error, Result};
use crate::precision::Precision;
use crate::tensors::TensorSpec;

/// Where tensors' bytes come from: row-major, little-endian, of the precision written.
pub type Bytes<'a> = dyn Fn(&TensorSpec) -> Vec<u8> + 'a;

struct Lazy<'a> {
    spec: &'a TensorSpec,
    precision: Precision,
    bytes: &'a Bytes<'a>,
}

impl View for Lazy<'_> {
    fn dtype(&self) -> Dtype {
        self.precision.in_file()
    }
    fn shape(&self) -> &[usize] {
        &self.spec.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        let bytes = (self.bytes)(self.spec);
        assert_eq!(bytes.len(), self.data_len(), "{}", self.spec.name);
        bytes.into()
    }
    fn data_len(&self) -> usize {
        size(self.spec, self.precision)
    }
}

fn size(spec: &TensorSpec, precision: Precision) -> usize {
    spec.elements() * precision.size()
}

/// Writes `specs` as `model.safetensors` into `directory` or, where they exceed
/// `max_shard_bytes`, as shards of at most that (or of one larger tensor) with
/// `model.safetensors.index.json`, as `transformers` cuts and names them.
///
/// # Errors
/// A file cannot be written.
///
/// # Panics
/// `bytes` gives another number of bytes than the shape and precision say.
pub fn write_weights(
    directory: &Path,
    specs: &[TensorSpec],
    precision: Precision,
    max_shard_bytes: u64,
    bytes: &Bytes<'_>,
) -> Result<()> {
    let mut shards: Vec<Vec<TensorSpec>> = vec![Vec::new()];
    let (mut held, mut total) = (0, 0);
    for spec in specs {
        let n = size(spec, precision) as u64;
        if held > 0 && held + n > max_shard_bytes {
            shards.push(Vec::new());
            held = 0;
        }
        held += n;
        total += n;
        if let Some(shard) = shards.last_mut() {
            shard.push(spec.clone());
        }
    }
    if let [all] = shards.as_slice() {
        return write_file(&directory.join("model.safetensors"), all, precision, bytes);
    }
    let mut map = BTreeMap::new();
    for (i, shard) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", i + 1, shards.len());
        write_file(&directory.join(&name), shard, precision, bytes)?;
        map.extend(shard.iter().map(|spec| (&spec.name, name.clone())));
    }
    write_json(
        &directory.join("model.safetensors.index.json"),
        &json!({"metadata": {"total_size": total}, "weight_map": map}),
    )
}

/// Writes `specs` as one file, marked as PyTorch's.
pub(crate) fn write_file(
    path: &Path,
    specs: &[TensorSpec],
    precision: Precision,
    bytes: &Bytes<'_>,
) -> Result<()> {
    let views = specs.iter().map(|spec| {
        let view = Lazy {
            spec,
            precision,
            bytes,
        };
        (spec.name.as_str(), view)
    });
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    // Written aside and renamed in there.
    safetensors::serialize_to_file(views, Some(metadata), path)
        .map_err(|e| Error::invalid(path, format!("cannot be written: {e}")))?;
    readable_like_its_neighbours(path).map_err(Error::io(path))
}

/// The library's temporary file is its owner's alone; a checkpoint is read by whoever may
/// read files made in its directory.
fn readable_like_its_neighbours(path: &Path) -> std::io::Result<()> {
    let probe = path.with_extension("mode");
    let permissions = fs::File::create(&probe)?.metadata()?.permissions();
    fs::remove_file(&probe)?;
    fs::set_permissions(path, permissions)
}
