//! A student cut out of a parent: fewer layers, narrower, with fewer tokens (Minitron, arXiv
//! 2407.14679; ShortGPT, arXiv 2403.03853). It is not as good as it can be before it is trained
//! again, best with its parent for a teacher.
//!
//! ```text
//! Request ─► shape ─► vocabulary ─► influence ─► importance, activations ─► cut ─► write
//!            config   ids kept      layers kept  channels and heads kept    rows,  directory
//!                     and their     (text)       (weights, or text)         columns
//!                     tokenizer
//! ```
//!
//! In: a Hugging Face directory of any architecture of `retort-model`. Out: another. The parent
//! is read from its mapped files a tensor at a time; a model of it is made (in f32) only where
//! text goes through it.

mod activations;
mod budget;
mod byte_level;
mod calibration;
mod cut;
mod error;
mod importance;
mod influence;
mod report;
mod shape;
mod vocabulary;
mod write;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;
use retort_data::Tokenizer;
use retort_files::AtomicDirectory;
use retort_format::ModelConfig;
use retort_format::checkpoint::CheckpointReader;
use retort_model::Decoder;

pub use calibration::Text;
pub use error::{Error, Result};
pub use importance::ImportanceBy;
pub use influence::LayersBy;
pub use report::{Plan, Report, Shape};
pub use shape::Target;

use calibration::Calibration;
use cut::Cut;
use importance::{Importance, most};
use shape::student;
use vocabulary::Vocabulary;
use write::Student;

/// What is to be done.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The student's sizes.
    pub target: Target,
    /// How layers are chosen.
    pub layers_by: LayersBy,
    /// The layers to keep, such as `0,1,4-7`, in place of a number of them.
    pub keep_layers: Option<String>,
    /// Whether the first and the last layer may go.
    pub ends: bool,
    /// What channels and heads are judged by.
    pub importance: ImportanceBy,
    /// Text for influence and activations.
    pub text: Option<Text>,
    /// Tokens in a row of it; as many as the parent has positions, where these are fewer.
    pub row: usize,
    /// Text that tokens are counted in.
    pub vocabulary_text: Option<Text>,
}

/// How far something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is done.
    pub what: &'static str,
    /// How much of it.
    pub done: u64,
    /// Of how much.
    pub total: u64,
}

/// The shapes before and after, from `checkpoint`'s `config.json` alone.
///
/// # Errors
/// [`Error::Option`] names what cannot be.
pub fn plan(checkpoint: &Path, request: &Request) -> Result<Plan> {
    let parent = ModelConfig::from_json_file(&checkpoint.join("config.json"))?;
    let (student, _) = asked(&parent, request)?;
    Ok(Plan {
        parent: Shape::of(&parent),
        student: Shape::of(&student),
    })
}

/// The student's config, and the layers to keep if they are named.
fn asked(parent: &ModelConfig, request: &Request) -> Result<(ModelConfig, Option<Vec<usize>>)> {
    let layers = parent.num_hidden_layers;
    let mut target = request.target;
    let listed = request.keep_layers.as_deref();
    let listed = listed.map(|text| influence::listed(text, layers));
    let listed = listed.transpose()?;
    if let Some(listed) = &listed {
        target.layers = Some(listed.len());
    }
    let student = student(parent, &target)?;
    if listed.is_none() {
        influence::check(layers, student.num_hidden_layers, request.ends)?;
    }
    Ok((student, listed))
}

/// Cuts a student out of the model in `checkpoint` and writes it to `out`, which must not exist
/// or be empty. Text goes through the parent on `device`. `stop` ends it, with nothing written.
///
/// # Errors
/// Anything wrong with the checkpoint, the text or what is asked; nothing is written then.
pub fn prune(
    checkpoint: &Path,
    out: &Path,
    request: &Request,
    device: &Device,
    stop: &AtomicBool,
    progress: &dyn Fn(Progress),
) -> Result<Report> {
    AtomicDirectory::check(out).map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => Error::Exists {
            path: out.to_owned(),
        },
        _ => Error::io(out)(e),
    })?;
    let watch = Watch { stop, progress };
    let stored = CheckpointReader::open(checkpoint)?;
    let parent = stored.config();
    let (mut config, listed) = asked(parent, request)?;
    let steps = Steps::new(parent, &config, listed.is_some(), request)?;
    let vocabulary = match (request.target.vocabulary, &request.vocabulary_text) {
        (None, _) => None,
        (Some(_), None) => {
            let reason = "needs text to count tokens in: give --vocab-from SOURCE";
            return Err(Error::option("vocab", reason));
        }
        (Some(size), Some(text)) => {
            let mut show = |done: usize| watch.told("tokens", done as u64, text.tokens as u64);
            let rows = parent.vocab_size;
            let vocabulary = Vocabulary::choose(checkpoint, rows, size, text, &mut show)?;
            config.eos_token_id = config.eos_token_id.and_then(|id| vocabulary.new_id(id));
            config.bos_token_id = config.bos_token_id.and_then(|id| vocabulary.new_id(id));
            Some(vocabulary)
        }
    };
    let seen = match steps.needs_text() {
        true => Some(Seen::new(checkpoint, parent, request, device)?),
        false => None,
    };
    let (layers, moved) = match listed {
        Some(listed) => (listed, None),
        None => layers(parent, &config, request, seen.as_ref(), &watch)?,
    };
    let importance = match (steps.narrower, request.importance, &seen) {
        (true, ImportanceBy::L1, _) => {
            let total = parent.parameters();
            importance::l1(&stored, &layers, &mut |done| {
                watch.told("weights", done, total)
            })?
        }
        (true, ImportanceBy::Activation, Some(seen)) => seen.activations(&layers, &watch)?,
        _ => Importance::zero(parent, layers.len()),
    };
    let each = |scores: &[Vec<f64>], n| scores.iter().map(|scores| most(scores, n)).collect();
    let cut = Cut {
        hidden: most(&importance.hidden, config.hidden_size),
        groups: each(&importance.groups, config.num_key_value_heads),
        inner: each(&importance.inner, config.inner_size()),
        vocabulary: match &vocabulary {
            Some(vocabulary) => vocabulary.kept.clone(),
            None => (0..parent.vocab_size).collect(),
        },
        layers: layers.clone(),
    };
    let calibration_tokens = seen.map_or(0, |seen| seen.text.tokens());
    let student = Student {
        directory: checkpoint,
        parent: &stored,
        config: &config,
        cut: &cut,
        vocabulary: vocabulary.as_ref(),
    };
    let total = config.parameters();
    student.write(out, &|done| watch.told("writing", done, total))?;
    Ok(Report {
        plan: Plan {
            parent: Shape::of(parent),
            student: Shape::of(&config),
        },
        layers,
        moved,
        calibration_tokens,
        vocabulary_covers: vocabulary.map(|vocabulary| vocabulary.covers),
    })
}

/// What has to be measured.
struct Steps {
    narrower: bool,
    activations: bool,
    influence: bool,
}

impl Steps {
    fn new(
        parent: &ModelConfig,
        student: &ModelConfig,
        listed: bool,
        request: &Request,
    ) -> Result<Self> {
        let narrower = student.hidden_size < parent.hidden_size
            || student.num_key_value_heads < parent.num_key_value_heads
            || student.inner_size() < parent.inner_size();
        let shallower = student.num_hidden_layers < parent.num_hidden_layers;
        let steps = Self {
            narrower,
            activations: narrower && request.importance == ImportanceBy::Activation,
            influence: shallower && !listed && request.layers_by != LayersBy::Every,
        };
        if request.text.is_some() || !steps.needs_text() {
            return Ok(steps);
        }
        let (option, other) = match steps.influence {
            true => ("layers-by", "every"),
            false => ("importance", "l1"),
        };
        let reason = format!("needs text: give --data SOURCE, or --{option} {other}");
        Err(Error::option(option, reason))
    }

    fn needs_text(&self) -> bool {
        self.activations || self.influence
    }
}

/// The layers kept, and what they were chosen by if that was measured.
fn layers(
    parent: &ModelConfig,
    student: &ModelConfig,
    request: &Request,
    seen: Option<&Seen<'_>>,
    watch: &Watch<'_>,
) -> Result<(Vec<usize>, Option<Vec<f64>>)> {
    let (layers, keep) = (parent.num_hidden_layers, student.num_hidden_layers);
    let every = || (influence::every(layers, keep), None);
    Ok(match (request.layers_by, seen) {
        _ if keep == layers => every(),
        (LayersBy::Every, _) | (_, None) => every(),
        (LayersBy::Influence, Some(seen)) => {
            let moved = seen.moved(1, influence::unlikeness, watch)?;
            let kept = influence::by_influence(&moved, keep, request.ends);
            (kept, Some(moved))
        }
        (LayersBy::Range, Some(seen)) => {
            let moved = seen.moved(layers - keep, influence::angle, watch)?;
            let kept = influence::by_range(&moved, layers, request.ends);
            (kept, Some(moved))
        }
    })
}

/// The parent with text to go through it.
struct Seen<'a> {
    model: Decoder,
    text: Calibration,
    device: &'a Device,
}

impl<'a> Seen<'a> {
    fn new(
        checkpoint: &Path,
        parent: &ModelConfig,
        request: &Request,
        device: &'a Device,
    ) -> Result<Self> {
        let Some(text) = &request.text else {
            return Err(Error::option("data", "is missing"));
        };
        let tokenizer = Tokenizer::from_file(checkpoint, None)?;
        let row = request.row.clamp(1, parent.max_position_embeddings);
        let text = Calibration::read(text, &tokenizer, parent.vocab_size, row)?;
        let (_, model) = retort_model::load(checkpoint, device)?;
        Ok(Self {
            model,
            text,
            device,
        })
    }

    fn moved(&self, span: usize, distance: fn(f64) -> f64, watch: &Watch<'_>) -> Result<Vec<f64>> {
        let total = self.text.tokens() as u64;
        let mut show = |done: usize| watch.told("layers", done as u64, total);
        influence::moved(
            &self.model,
            &self.text,
            span,
            distance,
            self.device,
            &mut show,
        )
    }

    fn activations(&self, layers: &[usize], watch: &Watch<'_>) -> Result<Importance> {
        let total = self.text.tokens() as u64;
        let mut show = |done: usize| watch.told("activations", done as u64, total);
        activations::activations(&self.model, layers, &self.text, self.device, &mut show)
    }
}

/// Who is told and who may stop it.
struct Watch<'a> {
    stop: &'a AtomicBool,
    progress: &'a dyn Fn(Progress),
}

impl Watch<'_> {
    fn told(&self, what: &'static str, done: u64, total: u64) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        (self.progress)(Progress { what, done, total });
        Ok(())
    }
}
