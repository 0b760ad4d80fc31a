//! The loss-spike detector: a batch whose loss or gradient is not a number, or whose loss leaps far above those before
//! it, is skipped.
//!
//! Weights and optimizer stay as they are; the step counts, and the data goes on. The decision depends on the steps so
//! far alone, so that a resumed run repeats it.

use serde::{Deserialize, Serialize};

use crate::recipe::TrainConfig;

/// Losses before the mean is trusted.
const WARM: u64 = 20;
/// What the mean keeps of itself at each step.
const KEEP: f64 = 0.95;

/// The losses seen so far; a checkpoint holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpikeDetector {
    /// Batches passed over in the run.
    pub skipped: u64,
    /// Batches passed over since the last one that was trained on.
    pub in_a_row: u64,
    /// Losses in the mean.
    seen: u64,
    /// The bits of the running mean of the losses, an f64: JSON may lose the last.
    mean: u64,
}

/// Why a batch was passed over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Skip {
    /// The loss or the norm of the gradients is not a number.
    NotFinite,
    /// The loss is this many times the running mean.
    Spike(f64),
}

impl SpikeDetector {
    /// Takes a step's loss and the norm of its gradients. Returns why the batch is to be skipped, if it is.
    pub fn check(&mut self, config: &TrainConfig, loss: f64, grad_norm: f64) -> Option<Skip> {
        let mean = f64::from_bits(self.mean);
        let skip = if !loss.is_finite() || !grad_norm.is_finite() {
            Some(Skip::NotFinite)
        } else if config.spike_factor > 0.0
            && self.seen >= WARM
            && loss > config.spike_factor * mean
        {
            Some(Skip::Spike(loss / mean))
        } else {
            None
        };
        if skip.is_some() {
            self.skipped += 1;
            self.in_a_row += 1;
            return skip;
        }
        self.in_a_row = 0;
        let mean = match self.seen {
            0 => loss,
            _ => KEEP * mean + (1.0 - KEEP) * loss,
        };
        self.mean = mean.to_bits();
        self.seen += 1;
        None
    }
}

impl SpikeDetector {
    /// Another loss follows: the mean begins anew, the counts stay.
    pub fn reset(&mut self) {
        self.seen = 0;
        self.mean = 0;
    }
}

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotFinite => write!(f, "its loss or gradient is not a number"),
            Self::Spike(times) => write!(f, "its loss is {times:.1} times the running mean"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(spike_factor: f64) -> TrainConfig {
        TrainConfig {
            spike_factor,
            ..TrainConfig::for_tests()
        }
    }

    #[test]
    fn spike_detector_always_skips_nan_and_infinity() {
        let mut detector = SpikeDetector::default();
        let off = config(0.0);
        assert_eq!(detector.check(&off, 2.0, 1.0), None);
        assert_eq!(detector.check(&off, f64::NAN, 1.0), Some(Skip::NotFinite));
        assert_eq!(
            detector.check(&off, 2.0, f64::INFINITY),
            Some(Skip::NotFinite)
        );
        assert_eq!((detector.skipped, detector.in_a_row), (2, 2));
        assert_eq!(detector.check(&off, 1e9, 1.0), None);
        assert_eq!((detector.skipped, detector.in_a_row), (2, 0));
    }

    #[test]
    fn spike_detector_compares_with_the_running_mean_of_earlier_losses() {
        let mut detector = SpikeDetector::default();
        let config = config(1.5);
        // The first losses are too few to say what is usual.
        for loss in [9.0].into_iter().chain([4.0; 19]) {
            assert_eq!(detector.check(&config, loss, 1.0), None);
        }
        let Some(Skip::Spike(times)) = detector.check(&config, 9.0, 1.0) else {
            panic!("9 after many 4 is a spike");
        };
        assert!((1.5..2.25).contains(&times), "{times}");
        // It did not raise the mean.
        assert!(detector.check(&config, 9.0, 1.0).is_some());
        assert_eq!(detector.check(&config, 4.5, 1.0), None);
    }

    #[test]
    fn spike_detector_reset_forgets_the_mean_and_keeps_the_counts() {
        let mut detector = SpikeDetector::default();
        let config = config(1.5);
        for loss in [4.0; 30] {
            detector.check(&config, loss, 1.0);
        }
        assert!(detector.check(&config, 9.0, 1.0).is_some());
        detector.reset();
        assert_eq!(detector.check(&config, 9.0, 1.0), None);
        assert_eq!(detector.skipped, 1);
    }

    #[test]
    fn spike_detector_round_trips_through_json() {
        let mut detector = SpikeDetector::default();
        for loss in [2.1, 1.7, 1.9 / 3.0] {
            detector.check(&config(2.0), loss, 1.0);
        }
        let json = serde_json::to_string(&detector).unwrap();
        assert_eq!(
            serde_json::from_str::<SpikeDetector>(&json).unwrap(),
            detector
        );
    }
}
