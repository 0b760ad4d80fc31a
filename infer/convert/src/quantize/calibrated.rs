//! The part of a file that is calibrated: its tokens, the order in which tensors are written, going on after a stop.

use std::path::Path;

use super::file::OutputFile;
use super::resume::{CalibrationCheckpoint, fingerprint};

use crate::calibrate::{self, Calibration, CalibrationSettings, Encoded};
use crate::progress::Progress;
use retort_engine::tokenizer::Tokenizer;
use retort_format::gguf::names::EMBEDDING;
use retort_format::quant::search::is_searched;
use retort_format::{Error, GgmlType, Result, quant};

/// The texts that a model is calibrated on.
pub struct Texts<'t> {
    /// Documents, as long as there are some.
    pub documents: &'t mut dyn Iterator<Item = Result<String>>,
    /// How many tokens are taken of them, about.
    pub tokens: usize,
    /// What is done with them.
    pub settings: CalibrationSettings,
}

impl OutputFile<'_> {
    /// Writes everything outside the layers, then the layers in order; layers of block types are calibrated. Returns
    /// the state kept beside `out` for a later try, to be removed when the file is there.
    pub(super) fn calibrated(&mut self, texts: Texts, out: &Path) -> Result<CalibrationCheckpoint> {
        let source = self.source;
        let settings = texts.settings.clone();
        let tokens = self.tokens(texts)?;
        let types = self.types;
        let ty = |name: &str| source.find(name).map_or(GgmlType::F32, |at| types[at]);
        let table_ty = ty(EMBEDDING);
        let rounded_row = |token: u32, out: &mut [f32]| {
            let (mut row, mut encoded) = (Vec::new(), Vec::new());
            let (at, table) = (token as usize, source.find(EMBEDDING).unwrap_or_default());
            source.rows(table, at..at + 1, &mut row)?;
            quant::quantize_row(table_ty, &row, &mut encoded)?;
            quant::dequantize_row(table_ty, &encoded, out)
        };
        let mut calibration = Calibration::new(source, self.pool, &settings, &tokens, rounded_row)?;

        let layers = 0..source.config().n_layers;
        let in_layers: Vec<Vec<usize>> = layers
            .map(|layer| calibrate::tensors(source, layer))
            .collect();
        let all = 0..types.len();
        let outside: Vec<usize> = all
            .filter(|tensor| !in_layers.iter().flatten().any(|other| other == tensor))
            .collect();
        self.declare(outside.iter().chain(in_layers.iter().flatten()).copied())?;
        for tensor in outside {
            self.write_alone(tensor)?;
        }

        let fingerprint = fingerprint(source, types, &settings, &tokens)?;
        let values = calibration.states().len();
        let (mut kept, done) = CalibrationCheckpoint::open(out, fingerprint, values)?;
        let mut next = 0;
        if let Some(done) = done {
            next = done.layers.len();
            (self.progress)(Progress::Notice(format!(
                "going on after the {next} layers that an earlier try has calibrated"
            )));
            for tensors in &done.layers {
                self.write_layer(tensors)?;
            }
            calibration.go_on(next, done.states)?;
        }
        let is_calibrated = |tensors: &Vec<usize>| tensors.iter().any(|&t| is_searched(types[t]));
        let end = (in_layers.iter().rposition(is_calibrated)).map_or(0, |last| last + 1);
        for _ in next..end {
            let tensors = calibration.next_layer(ty)?;
            kept.put(&tensors, calibration.states())?;
            self.write_layer(&tensors)?;
        }
        for &tensor in in_layers[end..].iter().flatten() {
            self.write_alone(tensor)?;
        }
        Ok(kept)
    }

    /// The ids of the texts, whole windows.
    fn tokens(&mut self, texts: Texts) -> Result<Vec<u32>> {
        let metadata = self.source.metadata();
        let tokenizer = Tokenizer::from_gguf(metadata)?;
        let ids = |text: Result<String>| {
            let ids = tokenizer.encode(&text?, false);
            ids.map_err(|problem| Error::tokenizer(metadata.path(), problem))
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

    fn write_layer(&mut self, tensors: &[Encoded]) -> Result<()> {
        for (name, bytes) in tensors {
            self.writer.write(name, bytes)?;
            let tensor = self.source.find(name);
            let elements = tensor.map_or(0, |at| self.source.tensors()[at].elements());
            self.told(elements);
        }
        Ok(())
    }
}
