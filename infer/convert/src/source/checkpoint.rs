//! A Hugging Face directory as a source of weights: its tensors as they lie in the safetensors, no copy of them in
//! another file.
//!
//! Refused: what a GGUF file has no place for, before any weight is read. The rows of q and k of architectures with
//! adjacent rotary pairs are interleaved as they are read.

use std::ops::Range;
use std::path::Path;

use super::tokenizer::HfTokenizer;
use super::weight_source::{SourceTensor, WeightSource};
use retort_engine::decoder::{Config, config_metadata};
use retort_format::checkpoint::{self, SafetensorsMap};
use retort_format::gguf::Metadata;
use retort_format::gguf::names::{HEAD, ROPE_DIVISORS};
use retort_format::{
    Architecture, Error, GgmlType, ModelConfig, Precision, Result, RopeScaling, TensorSpec,
    gguf_tensors,
};

/// Where a tensor comes from.
enum Origin {
    /// `rope_freqs.weight`, made from the configuration.
    Divisors(Vec<f32>),
    Weights {
        spec: TensorSpec,
        /// Rows of a head whose halves are interleaved.
        interleaved: Option<usize>,
    },
}

/// A checkpoint.
pub struct CheckpointSource {
    metadata: Metadata,
    config: Config,
    tensors: Vec<SourceTensor>,
    origins: Vec<Origin>,
    map: SafetensorsMap,
}

impl CheckpointSource {
    /// Opens the model in `dir`.
    ///
    /// # Errors
    ///
    /// As of [`checkpoint::open`]; [`Error::Unsupported`] for a model that a GGUF file cannot express;
    /// [`Error::Tokenizer`].
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        refuse_what_is_not_expressed(&path, &ModelConfig::from_json_file(&path)?)?;
        let (model, map) = checkpoint::open(dir)?;
        let tokenizer = HfTokenizer::read(dir, model.vocab_size)?;
        let mut metadata = config_metadata(dir, &model);
        tokenizer.vocabulary.write(&mut metadata);
        if let Some(template) = tokenizer.chat_template {
            metadata.set("tokenizer.chat_template", template.as_str());
        }
        let mut source = Self {
            config: Config::from_metadata(&metadata, Some(model.vocab_size))?,
            metadata,
            tensors: Vec::new(),
            origins: Vec::new(),
            map,
        };
        let scaling = model.rope_scaling.as_ref();
        let divisors = scaling.and_then(|s| s.frequency_divisors(model.head_dim, model.rope_theta));
        if let Some(divisors) = divisors {
            let dims = vec![divisors.len() as u64];
            source.add(ROPE_DIVISORS, dims, Origin::Divisors(divisors));
        }
        let list = gguf_tensors(&model);
        // Readers of `qwen` files know no tied head.
        let copied = model.model_type == Architecture::Qwen && model.tie_word_embeddings;
        let copy = copied.then(|| (HEAD.to_owned(), list[0].clone()));
        let named = list.into_iter().map(|spec| (spec.gguf_name(&model), spec));
        for (name, spec) in named.chain(copy) {
            let interleaved = spec.interleaved_rows(&model);
            source.add(
                &name,
                spec.gguf_shape(),
                Origin::Weights { spec, interleaved },
            );
        }
        Ok(source)
    }

    fn add(&mut self, name: &str, dims: Vec<u64>, origin: Origin) {
        self.tensors.push(SourceTensor {
            name: name.to_owned(),
            dims,
        });
        self.origins.push(origin);
    }

    /// The float type that holds every tensor as it is.
    pub fn common_type(&self) -> GgmlType {
        match self.map.common_precision() {
            Some(Precision::F16) => GgmlType::F16,
            Some(Precision::Bf16) => GgmlType::BF16,
            Some(Precision::F32) | None => GgmlType::F32,
        }
    }
}

impl WeightSource for CheckpointSource {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn config(&self) -> &Config {
        &self.config
    }

    fn tensors(&self) -> &[SourceTensor] {
        &self.tensors
    }

    fn label(&self, tensor: usize) -> &str {
        match &self.origins[tensor] {
            Origin::Divisors(_) => ROPE_DIVISORS,
            Origin::Weights { spec, .. } => &spec.name,
        }
    }

    fn rows(&self, tensor: usize, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        let (spec, interleaved) = match &self.origins[tensor] {
            Origin::Divisors(divisors) => {
                out.clone_from(divisors);
                return Ok(());
            }
            Origin::Weights { spec, interleaved } => (spec, *interleaved),
        };
        // A vector is a row here, and a column in the checkpoint.
        let (cols, rows) = match spec.shape.get(1) {
            Some(&cols) => (cols, rows),
            None => (1, 0..spec.shape[0]),
        };
        match interleaved {
            None => *out = self.map.rows(spec, rows, false),
            Some(head) => {
                let first = rows.start / head * head;
                let end = rows.end.next_multiple_of(head);
                let whole: Vec<f32> = self.map.rows(spec, first..end, false);
                out.clear();
                for row in rows {
                    let within = row % head;
                    let from = row - within + within / 2 + within % 2 * (head / 2) - first;
                    out.extend_from_slice(&whole[from * cols..][..cols]);
                }
            }
        }
        if out.iter().any(|weight| !weight.is_finite()) {
            let problem = "it holds NaN or infinite weights; the checkpoint is not usable";
            return Err(Error::tensor(self.metadata.path(), &spec.name, problem));
        }
        Ok(())
    }
}

fn refuse_what_is_not_expressed(path: &Path, model: &ModelConfig) -> Result<()> {
    let biases = [
        ("attention_bias", model.attention_bias),
        ("mlp_bias", model.mlp_bias),
    ];
    if let Some((field, _)) = biases.into_iter().find(|(_, set)| *set) {
        let problem = format!("{field}: true has no place in a GGUF file that the engine runs");
        return Err(Error::unsupported(path, problem));
    }
    let llama3 = matches!(model.rope_scaling, Some(RopeScaling::Llama3 { .. }));
    if llama3 && model.model_type != Architecture::Llama {
        let name = model.model_type.name();
        let problem = format!("rope_type: llama3 has no place in a GGUF file of {name}");
        return Err(Error::unsupported(path, problem));
    }
    Ok(())
}
