//! Writing GGUF version 3: metadata and tensor descriptions first, then the tensors' bytes as they come.
//!
//! The file appears at its place, synced, by [`Writer::finish`]; a writer that is dropped before leaves nothing behind. Memory used is that of the metadata, whatever the model's size.

use super::metadata::Metadata;
use super::reader::string;
use super::value::Value;
use crate::error::{Error, Result};
use crate::quant::GgmlType;
use retort_files::AtomicFile;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

const ALIGNMENT: u64 = 32;

/// A GGUF file being written: [`set`](Writer::set) and [`declare`](Writer::declare) everything, then
/// [`write`](Writer::write) the tensors in the declared order, then [`finish`](Writer::finish).
pub struct Writer {
    target: PathBuf,
    metadata: Metadata,
    tensors: Vec<Declared>,
    output: Option<Output>,
}

struct Declared {
    name: String,
    dims: Vec<u64>,
    ty: GgmlType,
    length: u64,
    offset: u64,
}

struct Output {
    file: BufWriter<AtomicFile>,
    /// The tensor that is being written and how many of its bytes have come.
    tensor: usize,
    written: u64,
}

impl Writer {
    /// Starts a file that will appear at `path`, replacing what is there. Nothing is created yet.
    pub fn new(path: &Path) -> Writer {
        Writer {
            target: path.to_owned(),
            metadata: Metadata::new(path),
            tensors: Vec::new(),
            output: None,
        }
    }

    /// Sets a metadata key; a second value for a key takes the first one's place.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> Result<()> {
        if self.output.is_some() {
            return Err(Error::metadata(
                &self.target,
                key,
                "set after the first tensor was written",
            ));
        }
        if key == "general.alignment" {
            return Err(Error::metadata(
                &self.target,
                key,
                "is chosen by the writer",
            ));
        }
        self.metadata.set(key, value);
        Ok(())
    }

    /// Sets all keys of another file but those that the writer chooses.
    pub fn set_all(&mut self, metadata: &Metadata) -> Result<()> {
        for (key, value) in metadata.iter() {
            if key != "general.alignment" {
                self.set(key, value.clone())?;
            }
        }
        Ok(())
    }

    /// Declares the next tensor: sizes in GGUF's order, `dims[0]` being the length of a contiguous row.
    pub fn declare(&mut self, name: &str, dims: &[u64], ty: GgmlType) -> Result<()> {
        let refuse = |problem: String| Err(Error::tensor(&self.target, name, problem));
        if self.output.is_some() {
            return refuse("declared after the first tensor was written".into());
        }
        if name.len() >= 64 {
            return refuse(format!(
                "its name has {} bytes, GGUF readers take at most 63",
                name.len()
            ));
        }
        if self.tensors.iter().any(|t| t.name == name) {
            return refuse("declared twice".into());
        }
        let length = || -> Option<u64> {
            let row = ty.row_bytes(usize::try_from(*dims.first()?).ok()?)? as u64;
            dims[1..]
                .iter()
                .try_fold(row, |n, &d| n.checked_mul(d))
                .filter(|&n| n > 0 && dims.len() <= 4)
        };
        let end = self
            .tensors
            .last()
            .map_or(0, |t| (t.offset + t.length).next_multiple_of(ALIGNMENT));
        match length().filter(|n| end.checked_add(*n).is_some_and(|e| e < 1 << 62)) {
            None => refuse(format!(
                "sizes {dims:?} are impossible for {ty} (rows in blocks of {})",
                ty.block_size()
            )),
            Some(length) => {
                self.tensors.push(Declared {
                    name: name.into(),
                    dims: dims.into(),
                    ty,
                    length,
                    offset: end,
                });
                Ok(())
            }
        }
    }

    /// Appends encoded bytes to tensor `name`: all of them, or the next part of them. Tensors come in the declared
    /// order, each complete before the next begins.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let refuse = |problem: String| Err(Error::tensor(&self.target, name, problem));
        let (tensor, written) = self
            .output
            .as_ref()
            .map_or((0, 0), |o| (o.tensor, o.written));
        let Some(next) = self.tensors.get(tensor) else {
            return refuse("written although all declared tensors are complete".into());
        };
        if next.name != name {
            return refuse(format!(
                "written while {} is due ({written} of {} bytes)",
                next.name, next.length
            ));
        }
        let due = next.length - written;
        if bytes.len() as u64 > due {
            return refuse(format!(
                "{} bytes written where {due} are missing",
                bytes.len()
            ));
        }
        if self.output.is_none() {
            self.output = Some(self.begin()?);
        }
        if let Some(output) = &mut self.output {
            output.append(bytes, due, &self.target)?;
        }
        Ok(())
    }

    /// Syncs the file and gives it its name. Fails, leaving nothing, if a tensor is not complete.
    pub fn finish(mut self) -> Result<()> {
        let output = match self.output.take() {
            Some(output) => output,
            None => self.begin()?,
        };
        if let Some(t) = self.tensors.get(output.tensor) {
            let problem = format!(
                "{} of {} bytes written when the file was finished",
                output.written, t.length
            );
            return Err(Error::tensor(&self.target, &t.name, problem));
        }
        let file = output.file.into_inner().map_err(|error| error.into_error());
        file.and_then(AtomicFile::commit)
            .map_err(Error::io(&self.target))
    }

    /// Creates the file under a temporary name and writes everything up to the first tensor.
    fn begin(&self) -> Result<Output> {
        let mut header = self.header();
        header.resize(header.len().next_multiple_of(ALIGNMENT as usize), 0);
        let begun = AtomicFile::create(&self.target).and_then(|file| {
            let mut file = BufWriter::with_capacity(1 << 20, file);
            file.write_all(&header)?;
            Ok(file)
        });
        Ok(Output {
            file: begun.map_err(Error::io(&self.target))?,
            tensor: 0,
            written: 0,
        })
    }

    fn header(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.iter().len() as u64).to_le_bytes());
        for (key, value) in self.metadata.iter() {
            string(&mut out, key);
            value.write(&mut out);
        }
        for t in &self.tensors {
            string(&mut out, &t.name);
            out.extend((t.dims.len() as u32).to_le_bytes());
            out.extend(t.dims.iter().flat_map(|d| d.to_le_bytes()));
            out.extend(t.ty.id().to_le_bytes());
            out.extend(t.offset.to_le_bytes());
        }
        out
    }
}

impl Output {
    /// Appends part of the tensor that is due, of which `due` bytes are missing; pads it when it is complete.
    fn append(&mut self, bytes: &[u8], due: u64, target: &Path) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io(target))?;
        self.written += bytes.len() as u64;
        if bytes.len() as u64 == due {
            let padding = self.written.next_multiple_of(ALIGNMENT) - self.written;
            self.file
                .write_all(&[0; ALIGNMENT as usize][..padding as usize])
                .map_err(Error::io(target))?;
            (self.tensor, self.written) = (self.tensor + 1, 0);
        }
        Ok(())
    }
}
