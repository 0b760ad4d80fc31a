//! The part of a file that is calibrated: its tokens, the order in which tensors are written, going on after a stop.

use std::path::Path;

use super::resume::{Kept, print};
use super::{File, Progress, Texts};
use crate::calibrate;
use crate::calibrate::{Calibration, Encoded};
use retort_engine::decoder::Engine;
use retort_engine::tokenizer::Tokenizer;
use retort_format::gguf::Gguf;
use retort_format::quant::search::is_searched;
use retort_format::{Error, GgmlType, Result, quant};

impl File<'_> {
    /// Everything outside the layers, then the layers, one after the other, those that are rounded to blocks calibrated.
    /// Returns what is kept beside `out` for a later try, to be removed when the file is there.
    pub(super) fn calibrated(
        &mut self,
        engine: &Engine,
        tokenizer: &Tokenizer,
        texts: Texts,
        out: &Path,
    ) -> Result<Kept> {
        let (gguf, pool) = (engine.gguf(), engine.pool());
        let settings = texts.settings.clone();
        let tokens = self.tokens(gguf, tokenizer, texts)?;
        let types = self.types;
        let ty = |name: &str| {
            let mut named = gguf.tensors().zip(types);
            let named = named.find(|(tensor, _)| tensor.name == name);
            named.map_or(GgmlType::F32, |(_, ty)| *ty)
        };
        let table = gguf.tensor("token_embd.weight")?;
        let (table_ty, row_bytes) = (
            ty(table.name),
            table.data.len() / engine.config().vocab_size,
        );
        let rounded_row = |token: u32, out: &mut [f32]| {
            let at = token as usize * row_bytes;
            quant::dequantize_row(table.ty, &table.data[at..at + row_bytes], out)?;
            let mut encoded = Vec::new();
            quant::quantize_row(table_ty, out, &mut encoded)?;
            quant::dequantize_row(table_ty, &encoded, out)
        };
        let mut calibration = Calibration::new(engine, &settings, &tokens, rounded_row)?;

        let in_layers: Vec<_> = (0..engine.config().n_layers)
            .map(|layer| calibrate::tensors(engine, layer))
            .collect();
        let outside = || {
            let in_a_layer = |name: &str| in_layers.iter().flatten().any(|other| other == name);
            gguf.tensors()
                .filter(move |tensor| !in_a_layer(tensor.name))
        };
        let inside = in_layers.iter().flatten().map(|name| gguf.tensor(name));
        for tensor in outside().map(Ok).chain(inside) {
            let tensor = tensor?;
            self.writer
                .declare(tensor.name, tensor.dims, ty(tensor.name))?;
        }
        for tensor in outside() {
            self.write_alone(gguf, &tensor, ty(tensor.name), pool)?;
        }

        let print = print(engine, types, &settings, &tokens);
        let (mut kept, done) = Kept::open(out, print, calibration.states().len())?;
        let mut next = 0;
        if let Some(done) = done {
            next = done.layers.len();
            (self.progress)(Progress::Notice(format!(
                "going on after the {next} layers that an earlier try has calibrated"
            )));
            for tensors in &done.layers {
                self.write_layer(gguf, tensors)?;
            }
            calibration.go_on(next, done.states)?;
        }
        let is_calibrated = |names: &Vec<String>| names.iter().any(|name| is_searched(ty(name)));
        let end = (in_layers.iter().rposition(is_calibrated)).map_or(0, |last| last + 1);
        for _ in next..end {
            let tensors = calibration.next_layer(ty)?;
            kept.put(&tensors, calibration.states())?;
            self.write_layer(gguf, &tensors)?;
        }
        for name in in_layers[end..].iter().flatten() {
            self.write_alone(gguf, &gguf.tensor(name)?, ty(name), pool)?;
        }
        Ok(kept)
    }

    /// The ids of the texts, whole windows.
    fn tokens(&mut self, gguf: &Gguf, tokenizer: &Tokenizer, texts: Texts) -> Result<Vec<u32>> {
        let ids = |text: Result<String>| {
            let ids = tokenizer.encode(&text?, false);
            ids.map_err(|problem| Error::tokenizer(gguf.path(), problem))
        };
        let context = texts.settings.context;
        let tokens = calibrate::windows(texts.documents.map(ids), texts.tokens, context)?;
        if tokens.len() < texts.tokens / context * context {
            (self.progress)(Progress::Notice(format!(
                "the texts have only {} tokens for calibration",
                tokens.len()
            )));
        }
        Ok(tokens)
    }

    fn write_layer(&mut self, gguf: &Gguf, tensors: &[Encoded]) -> Result<()> {
        for (name, bytes) in tensors {
            self.writer.write(name, bytes)?;
            self.done += gguf.tensor(name)?.n_elements();
        }
        (self.progress)(Progress::Weights(self.done, self.total));
        Ok(())
    }
}
