//! The steps of pruning in order, see the crate's front page.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use retort_files::AtomicDirectory;
use retort_format::ModelConfig;
use retort_format::checkpoint::CheckpointReader;

use crate::error::{Error, Result};
use crate::importance::{ImportanceScores, top_indices};
use crate::layer_selection::{self, check_count, parse_list};
use crate::options::{ImportanceMetric, LayerSelection, Measurements, PruneOptions};
use crate::parent::CalibratedParent;
use crate::progress::{Monitor, Progress};
use crate::report::{PrunePlan, PruneReport};
use crate::slicing::KeptIndices;
use crate::student_config::student_config;
use crate::vocabulary::KeptVocabulary;
use crate::weight_scores::l1_scores;
use crate::write::Student;

/// The shapes of parent and student, from `checkpoint`'s `config.json` alone.
///
/// # Errors
/// [`Error::Option`] names the option that asks for what the parent cannot give.
pub fn plan(checkpoint: &Path, options: &PruneOptions) -> Result<PrunePlan> {
    let parent = ModelConfig::from_json_file(&checkpoint.join("config.json"))?;
    let (student, _) = configure(&parent, options)?;
    Ok(PrunePlan::new(&parent, &student))
}

/// The student's config, and the layers that stay if `options` list them.
fn configure(
    parent: &ModelConfig,
    options: &PruneOptions,
) -> Result<(ModelConfig, Option<Vec<usize>>)> {
    let layers = parent.num_hidden_layers;
    let mut sizes = options.sizes;
    let list = options.keep_layers.as_deref();
    let list = list.map(|list| parse_list(list, layers)).transpose()?;
    if let Some(list) = &list {
        sizes.layers = Some(list.len());
    }
    let student = student_config(parent, &sizes)?;
    if list.is_none() {
        check_count(layers, student.num_hidden_layers, options.remove_ends)?;
    }
    Ok((student, list))
}

/// Cuts a student out of the model in `checkpoint` and writes it to `out`, which must be absent
/// or an empty directory. Text goes through the parent on `device`. Setting `stop` ends the run.
///
/// # Errors
/// Anything wrong with the checkpoint, the text or the options, and [`Error::Stopped`]; nothing
/// is left of the student then.
pub fn prune(
    checkpoint: &Path,
    out: &Path,
    options: &PruneOptions,
    device: &Device,
    stop: &AtomicBool,
    progress: &dyn Fn(Progress),
) -> Result<PruneReport> {
    AtomicDirectory::check(out).map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => Error::Exists {
            path: out.to_owned(),
        },
        _ => Error::io(out)(e),
    })?;
    let monitor = Monitor::new(stop, progress);
    let stored = CheckpointReader::open(checkpoint)?;
    let parent = stored.config();
    let (mut config, listed) = configure(parent, options)?;
    let measurements = Measurements::of(parent, &config, listed.is_some(), options)?;
    let vocabulary = keep_vocabulary(checkpoint, parent, options, &monitor)?;
    if let Some(vocabulary) = &vocabulary {
        config.eos_token_id = config.eos_token_id.and_then(|id| vocabulary.new_id(id));
        config.bos_token_id = config.bos_token_id.and_then(|id| vocabulary.new_id(id));
    }
    let calibrated = if measurements.need_text() {
        Some(CalibratedParent::load(checkpoint, parent, options, device)?)
    } else {
        None
    };
    let (layers, layer_distances) = match listed {
        Some(listed) => (listed, None),
        None => select_layers(parent, &config, options, calibrated.as_ref(), &monitor)?,
    };
    let scores = match (options.importance, &calibrated) {
        _ if !measurements.importance => ImportanceScores::zeros(parent, layers.len()),
        (ImportanceMetric::Activation, Some(calibrated)) => {
            calibrated.activation_scores(&layers, &monitor)?
        }
        _ => l1_scores(&stored, &layers, &mut |done| {
            monitor.report("weights", done, parent.parameters())
        })?,
    };
    let in_each_layer = |scores: &[Vec<f64>], n| {
        let layers = scores.iter();
        layers.map(|scores| top_indices(scores, n)).collect()
    };
    let kept = KeptIndices {
        hidden: top_indices(&scores.hidden, config.hidden_size),
        kv_heads: in_each_layer(&scores.kv_heads, config.num_key_value_heads),
        mlp: in_each_layer(&scores.mlp, config.inner_size()),
        vocabulary: match &vocabulary {
            Some(vocabulary) => vocabulary.ids.clone(),
            None => (0..parent.vocab_size).collect(),
        },
        layers: layers.clone(),
    };
    let calibration_tokens = calibrated.map_or(0, |calibrated| calibrated.text.tokens());
    let student = Student {
        parent_directory: checkpoint,
        parent: &stored,
        config: &config,
        kept: &kept,
        vocabulary: vocabulary.as_ref(),
    };
    let total = config.parameters();
    student.write(out, &|done| monitor.report("writing", done, total))?;
    Ok(PruneReport {
        plan: PrunePlan::new(parent, &config),
        layers,
        layer_distances,
        calibration_tokens,
        vocabulary_coverage: vocabulary.map(|vocabulary| vocabulary.coverage),
    })
}

/// The smaller vocabulary, if `options` ask for one.
fn keep_vocabulary(
    checkpoint: &Path,
    parent: &ModelConfig,
    options: &PruneOptions,
    monitor: &Monitor<'_>,
) -> Result<Option<KeptVocabulary>> {
    let Some(size) = options.sizes.vocabulary else {
        return Ok(None);
    };
    let Some(text) = &options.vocabulary_text else {
        let reason = "needs text to count tokens in: give --vocab-from SOURCE";
        return Err(Error::option("vocab", reason));
    };
    let mut progress = |done: usize| monitor.report("tokens", done as u64, text.tokens as u64);
    KeptVocabulary::choose(checkpoint, parent.vocab_size, size, text, &mut progress).map(Some)
}

/// The layers that stay, and the distances that they were selected by, if any were measured.
fn select_layers(
    parent: &ModelConfig,
    student: &ModelConfig,
    options: &PruneOptions,
    calibrated: Option<&CalibratedParent<'_>>,
    monitor: &Monitor<'_>,
) -> Result<(Vec<usize>, Option<Vec<f64>>)> {
    let (layers, keep) = (parent.num_hidden_layers, student.num_hidden_layers);
    let ends = options.remove_ends;
    Ok(match (options.layer_selection, calibrated) {
        (LayerSelection::Influence, Some(calibrated)) if keep < layers => {
            let influence = calibrated.influence(monitor)?;
            let kept = layer_selection::by_influence(&influence, keep, ends);
            (kept, Some(influence))
        }
        (LayerSelection::Range, Some(calibrated)) if keep < layers => {
            let distances = calibrated.angular_distances(layers - keep, monitor)?;
            let kept = layer_selection::by_range(&distances, layers, ends);
            (kept, Some(distances))
        }
        _ => (layer_selection::evenly_spaced(layers, keep), None),
    })
}
