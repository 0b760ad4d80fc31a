//! The timed probe of a plan: a pass of as many rows of the batch and layers of the model as take seconds and fit into
//! memory.
//!
//! In: a shape and a recipe. Out: a [`Probe`], and what was [`Measured`] of a model of so many layers.

use std::time::Instant;

use retort_data::{Batch, BatchSource, Row};
use retort_format::ModelConfig;
use retort_model::Decoder;

use super::sizes::{Sizes, TeacherCost};
use super::totals::{Measured, Plan};
use crate::device::on_cpu;
use crate::error::Result;
use crate::objective::Objective;
use crate::peak::peak_flops_per_second;
use crate::recipe::{Recipe, TrainConfig};
use crate::step::gradients;

/// Operations of one pass on a CPU: half a minute at 100 GFLOP/s.
const ON_A_CPU: f64 = 3e12;
/// Operations of one pass on another device.
const ON_A_GPU: f64 = 1e15;

/// What of a step is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    /// Rows of the batch.
    pub(super) rows: usize,
    /// Layers of the model.
    pub(super) layers: usize,
    /// Whether the teacher runs as well.
    pub(super) teacher: bool,
}

/// What a pass may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Operations.
    pub(super) flops: f64,
    /// Bytes, where they are known.
    pub(super) bytes: Option<u64>,
}

impl Limits {
    /// Those of this machine.
    pub(super) fn here(device: &burn::tensor::Device) -> Self {
        Self {
            flops: if on_cpu(device) { ON_A_CPU } else { ON_A_GPU },
            bytes: retort_files::memory::available_bytes(),
        }
    }

    fn allow(self, (flops, bytes): (f64, u64)) -> bool {
        flops <= self.flops && self.hold(bytes)
    }

    /// Whether `bytes` are there, and half as many: operations that are not fused keep more
    /// than is counted.
    fn hold(self, bytes: u64) -> bool {
        self.bytes.is_none_or(|there| bytes + bytes / 2 <= there)
    }
}

/// The rows of the batch that `limits` allow through all `layers`, with the teacher if it can
/// run; else one row through as many layers as they allow. None if not even one layer fits.
pub(super) fn choose(
    recipe: &Recipe,
    config: &ModelConfig,
    teacher: Option<TeacherCost>,
    limits: Limits,
) -> Option<Probe> {
    let layers = config.num_hidden_layers;
    let whole = |teacher| {
        let fits = |&rows: &usize| limits.allow(cost(recipe, config, [rows, layers], teacher));
        let rows = (1..=recipe.train.batch_size).rev().find(fits)?;
        Some((rows, layers))
    };
    if let Some((rows, layers)) = whole(teacher) {
        let teacher = teacher.is_some();
        return Some(Probe {
            rows,
            layers,
            teacher,
        });
    }
    // Adapters may be of chosen layers: those are all there, or nothing is timed.
    let least = if recipe.lora.is_some() { layers } else { 1 };
    let cut = || {
        let fits = |&n: &usize| limits.allow(cost(recipe, config, [1, n], None));
        (least..layers).rev().find(fits).map(|n| (1, n))
    };
    let smallest = || {
        let (_, bytes) = cost(recipe, config, [1, least], None);
        limits.hold(bytes).then_some((1, least))
    };
    let (rows, layers) = whole(None).or_else(cut).or_else(smallest)?;
    Some(Probe {
        rows,
        layers,
        teacher: false,
    })
}

/// Operations and bytes of a pass of `rows` through `layers` of the model.
pub(super) fn cost(
    recipe: &Recipe,
    config: &ModelConfig,
    [rows, layers]: [usize; 2],
    teacher: Option<TeacherCost>,
) -> (f64, u64) {
    let config = with_layers(config, layers);
    let sizes = Sizes::new(&config, &[], recipe);
    let tokens = (rows * recipe.data.seq_len) as u64;
    let made = teacher.unwrap_or(TeacherCost {
        flops_per_token: 0,
        bytes: 0,
    });
    let each = sizes.flops_per_token(&config, recipe.data.seq_len as u64) + made.flops_per_token;
    let kept = 2 * config.parameters() + sizes.rounded + tokens * sizes.activations_per_token;
    (tokens as f64 * each as f64, 4 * kept + made.bytes)
}

/// `config` with only the first `layers` of its layers.
pub(super) fn with_layers(config: &ModelConfig, layers: usize) -> ModelConfig {
    let mut config = config.clone();
    config.num_hidden_layers = layers;
    config
}

impl Plan {
    /// Times the pass `probe` of `model`, which has so many layers, over made-up ids below
    /// `ids`, after one that warms up. `config` is the whole model's.
    ///
    /// # Errors
    /// The objective's.
    pub(super) fn measure(
        &mut self,
        (recipe, config): (&Recipe, &ModelConfig),
        probe: Probe,
        model: &Decoder,
        objective: &dyn Objective,
        ids: usize,
    ) -> Result<()> {
        let device = model.norm.gamma.val().device();
        let t = TrainConfig {
            batch_size: probe.rows,
            accumulate: 1,
            ..recipe.train.clone()
        };
        let batch = made_up(probe.rows, recipe.data.seq_len, ids);
        let mut seconds = 0.0;
        for _ in 0..2 {
            let start = Instant::now();
            // What the last step is made of: an objective may begin with something else.
            let now = (&[&batch][..], t.steps.saturating_sub(1));
            let found = gradients(model, objective, now, &t, &device)?;
            // A device that cannot finish will say so in the run itself.
            let _ = device.sync();
            drop(found);
            seconds = start.elapsed().as_secs_f64();
        }
        let cut = [probe.rows, probe.layers];
        let teacher = self.teacher.filter(|_| probe.teacher);
        let mut done = cost(recipe, config, cut, teacher).0;
        if recipe.lora.is_some() {
            // Its layers are whole, and what is frozen spares arithmetic.
            let made = teacher.map_or(0, |teacher| teacher.flops_per_token);
            let tokens = probe.rows * recipe.data.seq_len;
            done = tokens as f64 * (self.flops_per_token + made) as f64;
        }
        let flops_per_second = done / seconds;
        let seconds_per_step = self.flops_per_step() / flops_per_second;
        self.measured = Some(Measured {
            rows: probe.rows,
            rows_of: recipe.train.batch_size,
            layers: probe.layers,
            layers_of: config.num_hidden_layers,
            teacher: probe.teacher,
            seconds_per_step,
            tokens_per_second: self.tokens.tokens_per_step as f64 / seconds_per_step,
            flops_per_second,
            peak_flops_per_second: on_cpu(&device).then(peak_flops_per_second),
            peak_resident_bytes: retort_files::memory::peak_resident_bytes(),
        });
        self.hours = Some(seconds_per_step * self.tokens.steps_left as f64 / 3600.0);
        Ok(())
    }
}

/// A batch of full rows with ids all over the vocabulary.
fn made_up(rows: usize, seq_len: usize, ids: usize) -> Batch {
    let ids = ids.max(1) as u64;
    let rows: Vec<Row> = (0..rows as u64)
        .map(|row| Row {
            // Knuth's multiplicative hashing.
            ids: (0..=seq_len as u64)
                .map(|i| ((row * seq_len as u64 + i).wrapping_mul(2_654_435_761) % ids) as u32)
                .collect(),
            starts: vec![0],
        })
        .collect();
    Batch::new(&rows, seq_len, BatchSource::Synthetic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::CrossEntropy;
    use crate::optimizer::tests::model;
    use crate::param_groups::param_groups;

    fn recipe() -> Recipe {
        let text = "[data]\nsource = \"-\"\ntokenizer = \"-\"\nseq_len = 16\n[model]\nhidden_size = 8\n\
             intermediate_size = 12\nnum_hidden_layers = 2\nnum_attention_heads = 2\n\
             [train]\nsteps = 10\nbatch_size = 3\naccumulate = 2\nlr = 1e-3\n";
        Recipe::parse::<crate::NoTeacher>(text, std::path::Path::new("r.toml"), &[]).unwrap()
    }

    #[test]
    fn probe_drops_the_teacher_first_then_rows_then_layers() {
        let (recipe, model) = (recipe(), model());
        let config = model.config();
        let teacher = TeacherCost {
            flops_per_token: 1,
            bytes: 1 << 20,
        };
        let chosen = |flops: f64, bytes| {
            let probe = choose(&recipe, config, Some(teacher), Limits { flops, bytes })?;
            Some((probe.rows, probe.layers, probe.teacher))
        };
        let (row, _) = cost(&recipe, config, [1, 2], None);
        let (cut, small) = cost(&recipe, config, [1, 1], None);
        assert_eq!(chosen(1e12, None), Some((3, 2, true)));
        assert_eq!(chosen(2.5 * row, None), Some((2, 2, true)));
        assert_eq!(chosen(row, None), Some((1, 2, false)));
        assert_eq!(chosen(0.99 * row, None), Some((1, 1, false)));
        // One layer at least, however long it takes, if its memory is there.
        assert_eq!(chosen(0.5 * cut, None), Some((1, 1, false)));
        assert_eq!(chosen(1e12, Some(2 * small)), Some((1, 1, false)));
        assert_eq!(chosen(1e12, Some(small)), None);
    }

    #[test]
    fn probe_extrapolates_unmeasured_flops() {
        let (recipe, model) = (recipe(), model());
        let config = with_layers(model.config(), 4);
        let named = retort_model::named_parameters(&config);
        let param_groups = param_groups(&recipe.train, named).unwrap();
        let mut plan = Plan::new(&recipe, &config, &param_groups, None, 4);
        let probe = Probe {
            rows: 1,
            layers: 2,
            teacher: false,
        };
        plan.measure((&recipe, &config), probe, &model, &CrossEntropy, 20)
            .unwrap();
        let m = plan.measured.unwrap();
        assert_eq!((m.rows, m.rows_of, m.layers, m.layers_of), (1, 3, 2, 4));
        assert!(m.seconds_per_step > 0.0 && !m.teacher);
        // Six rows of 16 tokens through four layers a step.
        let flops = 96.0 * plan.flops_per_token as f64;
        assert!((flops / m.seconds_per_step / m.flops_per_second - 1.0).abs() < 1e-9);
        let hours = m.seconds_per_step * 6.0 / 3600.0;
        assert!((plan.hours.unwrap() / hours - 1.0).abs() < 1e-9);
    }
}
