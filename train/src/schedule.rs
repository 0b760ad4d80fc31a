//! The learning rate: linear warm-up, then down to a fraction of the peak along a cosine
//! (Loshchilov and Hutter, arXiv 1608.03983), a line, or a line at the end alone
//! (warm-up, stable, decay: Hu et al., arXiv 2404.06395; linear as in Hägele et al.,
//! arXiv 2405.18392).
//!
//! In: a recipe's `[train]` and a step. Out: that step's learning rate. There is no state.

use crate::recipe::{Schedule, TrainConfig};

/// The learning rate of update `step`, counted from 1 to `config.steps`.
pub fn learning_rate(config: &TrainConfig, step: u64) -> f64 {
    let (warmup, total) = (config.warmup_steps, config.steps);
    if step <= warmup {
        return config.lr * step as f64 / warmup as f64;
    }
    let share = |from: u64| {
        let all = total.saturating_sub(from).max(1) as f64;
        (step.saturating_sub(from) as f64 / all).min(1.0)
    };
    let height = match config.schedule {
        Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * share(warmup)).cos()),
        Schedule::Linear => 1.0 - share(warmup),
        Schedule::Wsd => {
            let decay = (config.decay_fraction * total as f64).round() as u64;
            1.0 - share(total.saturating_sub(decay).max(warmup))
        }
    };
    let floor = config.lr * config.min_lr_ratio;
    floor + (config.lr - floor) * height
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(schedule: Schedule) -> TrainConfig {
        TrainConfig {
            steps: 100,
            warmup_steps: 10,
            lr: 1.0,
            min_lr_ratio: 0.1,
            decay_fraction: 0.25,
            schedule,
            ..TrainConfig::for_tests()
        }
    }

    fn check(config: &TrainConfig, expected: &[(u64, f64)]) {
        for &(step, lr) in expected {
            let found = learning_rate(config, step);
            assert!((found - lr).abs() < 1e-12, "{step}: {found}, not {lr}");
        }
    }

    #[test]
    fn every_schedule_warms_up_peaks_and_ends_at_the_floor() {
        for schedule in [Schedule::Cosine, Schedule::Linear, Schedule::Wsd] {
            let config = config(schedule);
            check(&config, &[(1, 0.1), (5, 0.5), (10, 1.0), (100, 0.1)]);
            let all: Vec<f64> = (10..=100).map(|s| learning_rate(&config, s)).collect();
            assert!(all.windows(2).all(|w| w[1] <= w[0]), "{schedule:?}");
        }
    }

    #[test]
    fn cosine_is_half_way_in_the_middle_and_flat_at_the_ends() {
        let third = 0.1 + 0.9 * 0.75;
        check(&config(Schedule::Cosine), &[(40, third), (55, 0.55)]);
    }

    #[test]
    fn linear_falls_by_the_same_at_every_step() {
        check(
            &config(Schedule::Linear),
            &[(11, 0.99), (40, 0.7), (55, 0.55), (99, 0.11)],
        );
    }

    #[test]
    fn wsd_is_flat_until_its_last_fraction() {
        let mut config = config(Schedule::Wsd);
        check(
            &config,
            &[(11, 1.0), (75, 1.0), (80, 0.82), (99, 0.136), (100, 0.1)],
        );
        // Without a decay it stays at the peak.
        config.decay_fraction = 0.0;
        check(&config, &[(99, 1.0)]);
        // A decay over everything leaves the warm-up alone.
        config.decay_fraction = 1.0;
        check(&config, &[(5, 0.5), (10, 1.0), (55, 0.55), (100, 0.1)]);
    }
}
