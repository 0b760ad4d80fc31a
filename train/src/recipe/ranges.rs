//! The ranges of `[train]`'s numbers.

use retort_format::Precision;

use super::train::TrainConfig;

/// A key that is out of range, and what it must be.
type Wrong = (&'static str, &'static str);

impl TrainConfig {
    /// Whether every number of `[train]` is in its range.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        let counts = [
            (self.steps == 0, "steps", "must be at least 1"),
            (
                self.batch_size == 0 || self.batch_size > 1 << 20,
                "batch_size",
                "must be between 1 and 1048576",
            ),
            (
                self.accumulate == 0 || self.accumulate > 1 << 20,
                "accumulate",
                "must be between 1 and 1048576",
            ),
            (
                self.warmup_steps > self.steps,
                "warmup_steps",
                "must not be more than train.steps",
            ),
            (
                self.keep_checkpoints == 0,
                "keep_checkpoints",
                "must be at least 1",
            ),
            (self.max_skipped == 0, "max_skipped", "must be at least 1"),
            (
                self.precision == Precision::F16,
                "precision",
                "must be float32 or bfloat16: gradients fall below what float16 can hold",
            ),
            (
                self.spike_factor != 0.0
                    && !(self.spike_factor.is_finite() && self.spike_factor > 1.0),
                "spike_factor",
                "must be above 1, or 0 for no limit",
            ),
            (
                !(self.sample_temperature.is_finite() && self.sample_temperature >= 0.0),
                "sample_temperature",
                "must be 0 or more",
            ),
        ];
        first_wrong(&counts)?;
        self.check_diloco()?;
        self.check_optimizer()
    }

    fn check_diloco(&self) -> Result<(), Wrong> {
        let Some(d) = &self.diloco else {
            return Ok(());
        };
        first_wrong(&[
            (d.every == 0, "diloco", "every must be at least 1"),
            (
                !(d.lr.is_finite() && d.lr > 0.0),
                "diloco",
                "lr must be above 0",
            ),
            (
                !(0.0..1.0).contains(&d.momentum),
                "diloco",
                "momentum must be in [0, 1)",
            ),
            (
                self.ema_decay > 0.0,
                "ema_decay",
                "must be 0 beside [train.diloco], whose outer steps average already",
            ),
        ])
    }

    fn check_optimizer(&self) -> Result<(), Wrong> {
        let below_one = |v: f64| (0.0..1.0).contains(&v);
        let not_negative = |v: f64| v.is_finite() && v >= 0.0;
        first_wrong(&[
            (
                !(self.lr.is_finite() && self.lr > 0.0),
                "lr",
                "must be above 0",
            ),
            (
                !(0.0..=1.0).contains(&self.min_lr_ratio),
                "min_lr_ratio",
                "must be between 0 and 1",
            ),
            (
                !(0.0..=1.0).contains(&self.decay_fraction),
                "decay_fraction",
                "must be between 0 and 1",
            ),
            (
                !not_negative(self.weight_decay),
                "weight_decay",
                "must be 0 or more",
            ),
            (!below_one(self.beta1), "beta1", "must be in [0, 1)"),
            (!below_one(self.beta2), "beta2", "must be in [0, 1)"),
            (!below_one(self.momentum), "momentum", "must be in [0, 1)"),
            (!below_one(self.ema_decay), "ema_decay", "must be in [0, 1)"),
            (
                !(self.epsilon > 0.0 && self.epsilon < 1.0),
                "epsilon",
                "must be between 0 and 1",
            ),
            (
                !not_negative(self.grad_clip),
                "grad_clip",
                "must be 0 (no clipping) or more",
            ),
            (
                self.groups.iter().any(|g| !not_negative(g.lr_scale)),
                "groups",
                "lr_scale must be 0 or more",
            ),
            (
                self.groups
                    .iter()
                    .filter_map(|g| g.weight_decay)
                    .any(|decay| !not_negative(decay)),
                "groups",
                "weight_decay must be 0 or more",
            ),
        ])
    }
}

fn first_wrong(checks: &[(bool, &'static str, &'static str)]) -> Result<(), Wrong> {
    match checks.iter().find(|(wrong, ..)| *wrong) {
        Some(&(_, key, reason)) => Err((key, reason)),
        None => Ok(()),
    }
}
