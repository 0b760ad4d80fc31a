//! A model's tensors, found in the file and held to the configuration before anything runs.
//!
//! Matrices stay where they are, in the mapped file; a [`Weight`] only remembers shape and place, so that a forward
//! pass looks nothing up. Rows may lie in panels of sixteen ([`retort_format::gguf::panels`]). Norms and biases, a few
//! kilobytes, are decoded to f32. Tensor names are llama.cpp's. Every tensor that is missing or misshapen is named in one
//! error, and so is every tensor of the file that the engine does not use, as llama.cpp refuses it: a bias or a scale that
//! is passed over makes other numbers without a word.

use std::collections::HashSet;
use std::convert::Infallible;
use std::ops::Range;

use super::config::Config;
use super::layer::LayerVectors;
use retort_format::gguf::Gguf;
use retort_format::gguf::check::{check_layers, other_tensors, tensor_problem};
use retort_format::gguf::names::{HEAD, ROPE_DIVISORS};
use retort_format::gguf::panels::panels_name;
use retort_format::{
    Error, LayerLinear, ModelConfig, ParamKey, Result, TensorSpec, gguf_tensors,
    optional_gguf_tensors,
};
use retort_kernels::{Matrix, MatrixShape};

/// A matrix in the mapped file: a tensor or, where several share one, some of its rows. Found and checked once, when
/// the model is opened.
#[derive(Clone, Debug)]
pub(super) struct Weight {
    shape: MatrixShape,
    /// Where its bytes lie in the file.
    bytes: Range<usize>,
    panels: bool,
}

impl Weight {
    /// The matrix [rows, cols] as the kernels take it.
    pub(super) fn matrix<'g>(&self, gguf: &'g Gguf) -> Matrix<'g> {
        self.shape.over(&gguf.bytes()[self.bytes.clone()])
    }

    /// The length of its output.
    pub(super) fn rows(&self) -> usize {
        self.shape.rows()
    }

    /// Its bytes in the file.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// The weights of one layer.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) vectors: LayerVectors,
    /// In the order of [`LayerLinear::ALL`].
    matrices: [Weight; 7],
}

impl Layer {
    /// The matrix of `linear`.
    pub(super) fn matrix(&self, linear: LayerLinear) -> &Weight {
        &self.matrices[linear as usize]
    }
}

/// All weights of a model.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) token_embd: Weight,
    pub(super) layers: Vec<Layer>,
    pub(super) output_norm: Vec<f32>,
    /// The output projection; the embedding table where the two are tied.
    pub(super) output: Weight,
    /// Divisors of the rotary frequencies [rope_dim / 2], where the file has them.
    pub(super) rope_freqs: Option<Vec<f32>>,
}

impl Weights {
    /// Every matrix that a token goes through.
    pub(super) fn matrices(&self) -> impl Iterator<Item = &Weight> {
        let layers = self.layers.iter().flat_map(|layer| &layer.matrices);
        layers.chain([&self.output])
    }

    /// Whether every matrix that a token goes through lies in panels.
    pub(super) fn in_panels(&self) -> bool {
        self.matrices().all(|weight| weight.panels)
    }

    /// Finds and checks every tensor of `config`.
    pub(super) fn load(gguf: &Gguf, config: &Config) -> Result<Self> {
        let own_head = [HEAD.to_owned(), panels_name(HEAD)];
        let tied = !own_head.iter().any(|name| gguf.has_tensor(name));
        let model = config.model_config(tied);
        check_layers(gguf, &model)?;
        let mut loader = Loader {
            gguf,
            specs: [gguf_tensors(&model), optional_gguf_tensors(&model)].concat(),
            model,
            problems: Vec::new(),
        };
        let token_embd = loader.weight(ParamKey::Embedding);
        let weights = Self {
            output: if tied {
                token_embd.clone()
            } else {
                loader.weight(ParamKey::Head)
            },
            token_embd,
            layers: (0..config.n_layers)
                .map(|index| loader.layer(index))
                .collect(),
            output_norm: loader.vector(ParamKey::FinalNorm),
            rope_freqs: loader.rope_freqs(config.rope_dim / 2),
        };
        loader.note_unused();
        if loader.problems.is_empty() {
            Ok(weights)
        } else {
            Err(other_tensors(gguf, &loader.model, &loader.problems))
        }
    }
}

/// Collects what is wrong instead of stopping at the first tensor.
struct Loader<'g> {
    gguf: &'g Gguf,
    model: ModelConfig,
    /// The tensors that the file should have.
    specs: Vec<TensorSpec>,
    problems: Vec<String>,
}

impl Loader<'_> {
    fn layer(&mut self, index: usize) -> Layer {
        let qkv = [LayerLinear::Q, LayerLinear::K, LayerLinear::V];
        let mut biases = qkv.map(|linear| ParamKey::Bias(index, linear)).into_iter();
        let biased = self.model.model_type.qkv_bias()
            || biases.any(|key| self.gguf.has_tensor(&key.gguf_tensor(&self.model)));
        let architecture = self.model.model_type;
        let vector = |key| Ok::<_, Infallible>(self.vector(key));
        let Ok(vectors) = LayerVectors::read(architecture, index, biased, vector);
        Layer {
            vectors,
            matrices: LayerLinear::ALL.map(|linear| self.weight(ParamKey::Weight(index, linear))),
        }
    }

    /// The name and shape of the tensor that holds `key`, and its rows there.
    fn find(&self, key: ParamKey) -> (String, Vec<usize>, Range<usize>) {
        let found = self.specs.iter().find_map(|spec| {
            let (_, rows) = spec.parts.iter().find(|(other, _)| *other == key)?;
            Some((
                spec.gguf_name(&self.model),
                spec.shape.clone(),
                rows.clone(),
            ))
        });
        found.expect("the list has every parameter of the architecture")
    }

    /// The matrix of `key`, some rows of a tensor where several share one.
    fn weight(&mut self, key: ParamKey) -> Weight {
        let (name, shape, rows) = self.find(key);
        self.matrix(&name, shape[0], shape[1], rows)
    }

    /// The vector of `key`; empty where it is missing, which the loader has noted.
    fn vector(&mut self, key: ParamKey) -> Vec<f32> {
        let (name, shape, rows) = self.find(key);
        let whole = self.values(&name, shape[0]);
        whole.get(rows).unwrap_or_default().to_vec()
    }

    fn note(&mut self, problem: String) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Rows `part` of a matrix of this shape, in either layout; on a mismatch, a problem noted and a matrix without rows.
    fn matrix(&mut self, name: &str, rows: usize, cols: usize, part: Range<usize>) -> Weight {
        let in_panels = panels_name(name);
        let panels = !self.gguf.has_tensor(name) && self.gguf.has_tensor(&in_panels);
        let name = if panels { &in_panels } else { name };
        let found = self.check(name, &[cols as u64, rows as u64]);
        let tensor = self.gguf.tensor(name).ok().filter(|_| found);
        let weight = tensor.map(|tensor| {
            let start = tensor.offset as usize;
            let whole = if panels {
                Matrix::rows16(tensor.ty, rows, cols, tensor.data)
            } else {
                Matrix::from_tensor(tensor)
            }?;
            let before = whole.slice(0, part.start)?.data().len();
            let matrix = whole.slice(part.start, part.len())?;
            Ok::<_, Error>(Weight {
                shape: matrix.shape(),
                bytes: start + before..start + before + matrix.data().len(),
                panels,
            })
        });
        match weight {
            Some(Ok(weight)) => return weight,
            Some(Err(error)) => self.note(format!("{name}: {error}")),
            None => {}
        }
        Weight {
            shape: MatrixShape::default(),
            bytes: 0..0,
            panels,
        }
    }

    /// A vector of this length as f32; on a mismatch, a problem noted and nothing allocated.
    fn values(&mut self, name: &str, size: usize) -> Vec<f32> {
        if !self.check(name, &[size as u64]) {
            return Vec::new();
        }
        let decoded = self.gguf.tensor(name).and_then(|tensor| tensor.to_f32());
        decoded.unwrap_or_else(|error| {
            self.note(format!("{name}: {error}"));
            Vec::new()
        })
    }

    /// The divisors of the rotary frequencies, if the file has them.
    fn rope_freqs(&mut self, size: usize) -> Option<Vec<f32>> {
        if !self.gguf.has_tensor(ROPE_DIVISORS) {
            return None;
        }
        let divisors = self.values(ROPE_DIVISORS, size);
        if divisors.iter().any(|d| !(d.is_finite() && *d > 0.0)) {
            let problem = format!("{ROPE_DIVISORS} holds divisors that are no positive numbers");
            self.note(problem);
        }
        Some(divisors)
    }

    /// Notes every tensor of the file that is none of the list.
    fn note_unused(&mut self) {
        let names = self.specs.iter().map(|spec| spec.gguf_name(&self.model));
        let used: HashSet<String> = names.chain([ROPE_DIVISORS.to_owned()]).collect();
        let unused = self.gguf.tensors().filter(|tensor| {
            let plain = tensor.name.strip_suffix(&panels_name(""));
            !used.contains(plain.unwrap_or(tensor.name))
        });
        let problems: Vec<String> = unused
            .map(|tensor| format!("{} has no place in it", tensor.name))
            .collect();
        self.problems.extend(problems);
    }

    fn check(&mut self, name: &str, wanted: &[u64]) -> bool {
        let problem = tensor_problem(self.gguf, name, wanted);
        let fine = problem.is_none();
        problem.into_iter().for_each(|problem| self.note(problem));
        fine
    }
}
