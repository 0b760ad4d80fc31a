//! Safetensors out: one file, or shards with an index, a tensor at a time.
//!
//! In: tensors by name, shape and precision; their bytes are asked for when their turn comes, in
//! parts of any size, so that a checkpoint never exists in memory. Out: files as the
//! `safetensors` crate writes them, byte for byte: the header's length in 8 bytes, the header as
//! JSON padded with spaces to a multiple of 8, then the tensors by type and name without gaps.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use ::safetensors::tensor::{Metadata, TensorInfo};
use retort_files::AtomicFile;
use serde_json::json;

use super::json::write_json;
use crate::error::{Error, Result};
use crate::precision::Precision;
use crate::tensors::TensorSpec;

/// The largest file that `transformers` makes where nothing else is asked, in bytes.
pub const MAX_SHARD_BYTES: u64 = 5_000_000_000;

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorHeader {
    /// Its name.
    pub name: String,
    /// Its shape, contiguous dimension last.
    pub shape: Vec<usize>,
    /// How its numbers are stored.
    pub precision: Precision,
}

impl TensorHeader {
    /// All of `specs`, stored as `precision`.
    pub fn all(specs: &[TensorSpec], precision: Precision) -> Vec<Self> {
        let header = |spec: &TensorSpec| Self {
            name: spec.name.clone(),
            shape: spec.shape.clone(),
            precision,
        };
        specs.iter().map(header).collect()
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> u64 {
        self.shape.iter().map(|&n| n as u64).product::<u64>() * self.precision.size() as u64
    }
}

/// Takes the bytes of one tensor: row-major, little-endian, of the precision declared.
pub struct TensorSink<'f> {
    path: PathBuf,
    file: BufWriter<&'f mut std::fs::File>,
    /// Bytes of the tensor that have not come.
    missing: u64,
}

impl TensorSink<'_> {
    /// Appends the next part of the tensor.
    ///
    /// # Errors
    /// The file cannot be written, or the tensor is complete already.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(missing) = self.missing.checked_sub(bytes.len() as u64) else {
            let reason = format!(
                "{} bytes written where {} are missing",
                bytes.len(),
                self.missing
            );
            return Err(Error::format(&self.path, reason));
        };
        self.missing = missing;
        self.file.write_all(bytes).map_err(Error::io(&self.path))
    }
}

/// Writes `tensors` as one file. `fill` is asked for the bytes of each by its number, in the
/// order in which they lie in the file.
///
/// # Errors
/// The file cannot be written; another number of bytes than declared; an error of `fill`.
/// Nothing is left then.
pub fn write_file<E: From<Error>>(
    path: &Path,
    tensors: &[TensorHeader],
    mut fill: impl FnMut(usize, &mut TensorSink<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let order: Vec<usize> = (0..tensors.len()).collect();
    write_shard(path, tensors, order, &mut fill)
}

/// Writes `tensors` into `directory` as `model.safetensors` or, where they exceed
/// `max_shard_bytes`, as shards of at most that (or of one larger tensor) with
/// `model.safetensors.index.json`, as `transformers` cuts and names them. `fill` is as in
/// [`write_file`]. Returns the number of files.
///
/// # Errors
/// As [`write_file`].
pub fn write_weights<E: From<Error>>(
    directory: &Path,
    tensors: &[TensorHeader],
    max_shard_bytes: u64,
    mut fill: impl FnMut(usize, &mut TensorSink<'_>) -> Result<(), E>,
) -> Result<usize, E> {
    let shards = shards(tensors, max_shard_bytes);
    let count = shards.len();
    if count == 1 {
        let path = directory.join("model.safetensors");
        write_file(&path, tensors, fill)?;
        return Ok(1);
    }
    let mut map = BTreeMap::new();
    for (i, shard) in shards.into_iter().enumerate() {
        let name = format!("model-{:05}-of-{count:05}.safetensors", i + 1);
        map.extend(shard.iter().map(|&t| (&tensors[t].name, name.clone())));
        write_shard(&directory.join(&name), tensors, shard, &mut fill)?;
    }
    let total: u64 = tensors.iter().map(TensorHeader::bytes).sum();
    write_json(
        &directory.join("model.safetensors.index.json"),
        &json!({"metadata": {"total_size": total}, "weight_map": map}),
    )?;
    Ok(count)
}

/// The tensors of each file, by number.
fn shards(tensors: &[TensorHeader], max_shard_bytes: u64) -> Vec<Vec<usize>> {
    let mut shards = vec![Vec::new()];
    let mut held = 0;
    for (i, tensor) in tensors.iter().enumerate() {
        let bytes = tensor.bytes();
        if held > 0 && held + bytes > max_shard_bytes {
            shards.push(Vec::new());
            held = 0;
        }
        held += bytes;
        if let Some(shard) = shards.last_mut() {
            shard.push(i);
        }
    }
    shards
}

fn write_shard<E: From<Error>>(
    path: &Path,
    tensors: &[TensorHeader],
    mut order: Vec<usize>,
    fill: &mut impl FnMut(usize, &mut TensorSink<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let dtype = |i: usize| tensors[i].precision.to_dtype();
    order.sort_by(|&a, &b| {
        let types = dtype(b).cmp(&dtype(a));
        types.then_with(|| tensors[a].name.cmp(&tensors[b].name))
    });
    let header = header(tensors, &order).map_err(|e| Error::format(path, e))?;
    let mut target = AtomicFile::create(path).map_err(Error::io(path))?;
    let mut sink = TensorSink {
        path: path.to_owned(),
        file: BufWriter::with_capacity(1 << 20, target.as_file()),
        missing: header.len() as u64,
    };
    sink.write(&header)?;
    for &i in &order {
        sink.missing = tensors[i].bytes();
        fill(i, &mut sink)?;
        if sink.missing > 0 {
            let reason = format!("{}: {} bytes are missing", tensors[i].name, sink.missing);
            return Err(Error::format(path, reason).into());
        }
    }
    sink.file.flush().map_err(Error::io(path))?;
    drop(sink);
    target.commit().map_err(Error::io(path))?;
    Ok(())
}

/// The header of a file of the tensors numbered `order`, marked as PyTorch's, with its length.
fn header(tensors: &[TensorHeader], order: &[usize]) -> Result<Vec<u8>, String> {
    let mut end = 0;
    let mut described = Vec::new();
    for tensor in order.iter().map(|&i| &tensors[i]) {
        let begin = end;
        end += usize::try_from(tensor.bytes()).map_err(|e| e.to_string())?;
        let info = TensorInfo {
            dtype: tensor.precision.to_dtype(),
            shape: tensor.shape.clone(),
            data_offsets: (begin, end),
        };
        described.push((tensor.name.clone(), info));
    }
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let metadata =
        Metadata::new(Some(format), described).map_err(|e| format!("safetensors header: {e}"))?;
    let mut json = serde_json::to_vec(&metadata).map_err(|e| e.to_string())?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.extend(json);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use ::safetensors::tensor::TensorView;

    use super::*;

    fn tensors() -> Vec<TensorHeader> {
        let tensor = |name: &str, shape: &[usize], precision| TensorHeader {
            name: name.into(),
            shape: shape.into(),
            precision,
        };
        vec![
            tensor("b", &[2, 3], Precision::F32),
            tensor("c", &[4], Precision::Bf16),
            tensor("a", &[1, 2], Precision::F32),
        ]
    }

    fn bytes(i: usize, tensor: &TensorHeader) -> Vec<u8> {
        vec![i as u8; tensor.bytes() as usize]
    }

    #[test]
    fn safetensors_file_equals_the_crates_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ours.safetensors");
        let tensors = tensors();
        let fill = |i: usize, sink: &mut TensorSink<'_>| {
            let bytes = bytes(i, &tensors[i]);
            let (a, b) = bytes.split_at(3);
            sink.write(a)?;
            sink.write(b)
        };
        write_file(&path, &tensors, fill).unwrap();
        let data: Vec<Vec<u8>> = (0..3).map(|i| bytes(i, &tensors[i])).collect();
        let views = tensors.iter().zip(&data).map(|(t, data)| {
            let view = TensorView::new(t.precision.to_dtype(), t.shape.clone(), data).unwrap();
            (t.name.as_str(), view)
        });
        let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let theirs = ::safetensors::serialize(views, Some(format)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), theirs);
    }

    #[test]
    fn safetensors_tensor_with_missing_bytes_is_an_error_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cut.safetensors");
        let fill = |_: usize, sink: &mut TensorSink<'_>| sink.write(&[0; 8]);
        let error = write_file(&path, &tensors(), fill).unwrap_err();
        assert!(
            error.to_string().contains("b: 16 bytes are missing"),
            "{error}"
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
