//! A safetensors file written tensor by tensor, part by part.
//!
//! The format (`safetensors` crate, README): the header's length in 8 bytes, the header as JSON
//! padded with spaces to a multiple of 8, then the tensors without gaps. Tensors stand in the
//! order that the crate's own writer gives them, by type and then by name, so that the same
//! weights make the same file whoever writes it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::plan::Planned;
use retort_format::{Error, GgmlType, Result};

/// A file whose header is written.
pub(super) struct Shard {
    path: PathBuf,
    file: BufWriter<File>,
}

/// The tensors of a shard in the order of its bytes.
pub(super) fn in_file_order(tensors: &[Planned]) -> Vec<&Planned> {
    let mut sorted: Vec<&Planned> = tensors.iter().collect();
    sorted.sort_by(|a, b| {
        let types = dtype(b.ty).cmp(&dtype(a.ty));
        types.then_with(|| a.entry.hf.cmp(&b.entry.hf))
    });
    sorted
}

fn dtype(ty: GgmlType) -> Dtype {
    match ty {
        GgmlType::F16 => Dtype::F16,
        GgmlType::BF16 => Dtype::BF16,
        _ => Dtype::F32,
    }
}

impl Shard {
    /// Creates the file at `path` and writes its header; the tensors follow in
    /// [`in_file_order`].
    pub(super) fn create(path: &Path, tensors: &[Planned]) -> Result<Self> {
        let mut end = 0;
        let mut describe = |planned: &&Planned| {
            let begin = end;
            end += planned.bytes() as usize;
            let info = TensorInfo {
                dtype: dtype(planned.ty),
                shape: planned.entry.hf_shape(),
                data_offsets: (begin, end),
            };
            (planned.entry.hf.clone(), info)
        };
        let described = in_file_order(tensors).iter().map(&mut describe).collect();
        let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let header = Metadata::new(Some(format), described)
            .map_err(|error| Error::format(path, format!("safetensors header: {error}")))?;
        let mut header = serde_json::to_vec(&header)
            .map_err(|error| Error::format(path, format!("safetensors header: {error}")))?;
        header.resize(header.len().next_multiple_of(8), b' ');
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        let mut file = BufWriter::with_capacity(1 << 20, file.map_err(Error::io(path))?);
        file.write_all(&(header.len() as u64).to_le_bytes())
            .and_then(|()| file.write_all(&header))
            .map_err(Error::io(path))?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Appends encoded weights.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io(&self.path))
    }

    /// Writes what is left in memory and syncs the file.
    pub(super) fn finish(mut self) -> Result<()> {
        self.file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all())
            .map_err(Error::io(&self.path))
    }
}
