//! The learning rate: linear warm-up, then a cosine down to a fraction of the peak
//! (Loshchilov and Hutter, arXiv 1608.03983).

use crate::recipe::TrainConfig;

/// The learning rate of update `step`, counted from 1 to `config.steps`.
pub fn learning_rate(config: &TrainConfig, step: u64) -> f64 {
    let (warmup, total) = (config.warmup_steps, config.steps);
    if step <= warmup {
        return config.lr * step as f64 / warmup as f64;
    }
    let progress = (step - warmup) as f64 / (total.saturating_sub(warmup)).max(1) as f64;
    let floor = config.lr * config.min_lr_ratio;
    floor + (config.lr - floor) * 0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warms_up_peaks_and_ends_at_the_floor() {
        let config = TrainConfig {
            steps: 100,
            warmup_steps: 10,
            lr: 1.0,
            min_lr_ratio: 0.1,
            ..TrainConfig::for_tests()
        };
        assert!((learning_rate(&config, 1) - 0.1).abs() < 1e-12);
        assert!((learning_rate(&config, 10) - 1.0).abs() < 1e-12);
        assert!((learning_rate(&config, 55) - 0.55).abs() < 1e-12);
        assert!((learning_rate(&config, 100) - 0.1).abs() < 1e-12);
        let all: Vec<f64> = (10..=100).map(|s| learning_rate(&config, s)).collect();
        assert!(all.windows(2).all(|w| w[1] < w[0]));
    }
}
