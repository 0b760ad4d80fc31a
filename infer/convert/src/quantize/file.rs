//! The GGUF file being written, tensor by tensor.

use super::encode::each_block;
use super::recipe::Rounding;
use crate::progress::Progress;
use crate::source::{SourceTensor, WeightSource};
use retort_format::gguf::panels::{Layout, LayoutWriter, NOTHING_TO_PACK};
use retort_format::{Error, GgmlType, Result};
use retort_kernels::pool::Pool;

/// The file being written.
pub(super) struct OutputFile<'a> {
    pub(super) source: &'a dyn WeightSource,
    pub(super) pool: &'a Pool,
    /// In the order of the source's tensors.
    pub(super) types: &'a [GgmlType],
    /// Of what is not calibrated.
    pub(super) rounding: Rounding,
    pub(super) layout: Layout,
    pub(super) writer: LayoutWriter,
    pub(super) done: u64,
    pub(super) total: u64,
    pub(super) progress: &'a mut dyn FnMut(Progress),
}

impl OutputFile<'_> {
    /// Declares the tensors, by number, in the order in which they will be written.
    pub(super) fn declare(&mut self, order: impl Iterator<Item = usize>) -> Result<()> {
        for tensor in order {
            let SourceTensor { name, dims } = &self.source.tensors()[tensor];
            self.writer.declare(name, dims, self.types[tensor])?;
        }
        if self.layout == Layout::Rows16 && self.writer.packed() == 0 {
            let problem = format!("in the types asked for it {NOTHING_TO_PACK}");
            return Err(Error::unsupported(self.source.metadata().path(), problem));
        }
        Ok(())
    }

    /// Every tensor by itself.
    pub(super) fn alone(&mut self) -> Result<()> {
        let all = 0..self.types.len();
        self.declare(all.clone())?;
        for tensor in all {
            self.write_alone(tensor)?;
        }
        Ok(())
    }

    pub(super) fn write_alone(&mut self, tensor: usize) -> Result<()> {
        let (source, pool, ty) = (self.source, self.pool, self.types[tensor]);
        let name = &source.tensors()[tensor].name;
        each_block(source, tensor, ty, self.rounding, pool, |weights, bytes| {
            self.writer.write(name, bytes)?;
            self.told(weights.len() as u64);
            Ok(())
        })
    }

    /// So many weights are written.
    pub(super) fn told(&mut self, weights: u64) {
        self.done += weights;
        let (done, total) = (self.done, self.total);
        (self.progress)(Progress::Weights { done, total });
    }
}
