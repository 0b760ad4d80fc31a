//! The ranges of `[train]`'s numbers.

use retort_format::Precision;

use super::train::TrainConfig;

/// A key that is out of range, and what it must be.
type Wrong = (&'static str, &'static str);

impl TrainConfig {
    /// Whether every number of `[train]` is in its range.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        let batch = "must be between 1 and 1048576";
        let skipping = self.spike_factor.is_finite() && self.spike_factor > 1.0;
        let precision = "must be float32 or bfloat16: gradients fall below what float16 can hold";
        must(self.steps > 0, "steps", "must be at least 1")?;
        must(
            (1..=1 << 20).contains(&self.batch_size),
            "batch_size",
            batch,
        )?;
        must(
            (1..=1 << 20).contains(&self.accumulate),
            "accumulate",
            batch,
        )?;
        let warm_up = self.warmup_steps <= self.steps;
        must(warm_up, "warmup_steps", "must not be more than train.steps")?;
        must(
            self.keep_checkpoints > 0,
            "keep_checkpoints",
            "must be at least 1",
        )?;
        must(self.max_skipped > 0, "max_skipped", "must be at least 1")?;
        must(self.precision != Precision::F16, "precision", precision)?;
        let spikes = "must be above 1, or 0 for no limit";
        must(self.spike_factor == 0.0 || skipping, "spike_factor", spikes)?;
        not_negative("sample_temperature", self.sample_temperature)?;
        self.check_diloco()?;
        self.check_optimizer()
    }

    fn check_diloco(&self) -> Result<(), Wrong> {
        let Some(d) = &self.diloco else {
            return Ok(());
        };
        must(d.every > 0, "diloco", "every must be at least 1")?;
        must(is_positive(d.lr), "diloco", "lr must be above 0")?;
        let momentum = (0.0..1.0).contains(&d.momentum);
        must(momentum, "diloco", "momentum must be in [0, 1)")?;
        let averaged = "must be 0 beside [train.diloco], whose outer steps average already";
        must(self.ema_decay <= 0.0, "ema_decay", averaged)
    }

    fn check_optimizer(&self) -> Result<(), Wrong> {
        must(is_positive(self.lr), "lr", "must be above 0")?;
        for (key, share) in [
            ("min_lr_ratio", self.min_lr_ratio),
            ("decay_fraction", self.decay_fraction),
        ] {
            must((0.0..=1.0).contains(&share), key, "must be between 0 and 1")?;
        }
        not_negative("weight_decay", self.weight_decay)?;
        for (key, decay) in [
            ("beta1", self.beta1),
            ("beta2", self.beta2),
            ("momentum", self.momentum),
            ("ema_decay", self.ema_decay),
        ] {
            must((0.0..1.0).contains(&decay), key, "must be in [0, 1)")?;
        }
        let epsilon = self.epsilon > 0.0 && self.epsilon < 1.0;
        must(epsilon, "epsilon", "must be between 0 and 1")?;
        let clip = "must be 0 (no clipping) or more";
        must(is_not_negative(self.grad_clip), "grad_clip", clip)?;
        for group in &self.groups {
            let lr_scale = is_not_negative(group.lr_scale);
            must(lr_scale, "groups", "lr_scale must be 0 or more")?;
            let decay = group.weight_decay.is_none_or(is_not_negative);
            must(decay, "groups", "weight_decay must be 0 or more")?;
        }
        Ok(())
    }
}

/// An error about `key`, unless it `holds`.
fn must(holds: bool, key: &'static str, reason: &'static str) -> Result<(), Wrong> {
    if holds { Ok(()) } else { Err((key, reason)) }
}

fn not_negative(key: &'static str, value: f64) -> Result<(), Wrong> {
    must(is_not_negative(value), key, "must be 0 or more")
}

fn is_not_negative(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

fn is_positive(value: f64) -> bool {
    value.is_finite() && value > 0.0
}
