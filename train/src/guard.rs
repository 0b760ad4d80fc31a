//! Which batches are trained on: one whose loss or gradient is not a number would spoil the
//! weights for good, one whose loss leaps far above those before it may.
//!
//! Such a batch is passed over, weights and optimizer untouched; the step counts, and the data
//! goes on. The decision depends on the steps so far alone, so that a resumed run repeats it.

use serde::{Deserialize, Serialize};

use crate::recipe::TrainConfig;

/// Losses before the mean is trusted.
const WARM: u64 = 20;
/// What the mean keeps of itself at each step.
const KEEP: f64 = 0.95;

/// What has been seen, kept in a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    /// Batches passed over in the run.
    pub skipped: u64,
    /// The last of them, without one between that was trained on.
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

impl Guard {
    /// Takes note of a step's loss and the norm of its gradients; answers why it is to be
    /// passed over, if it is.
    pub fn judge(&mut self, config: &TrainConfig, loss: f64, grad_norm: f64) -> Option<Skip> {
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

impl Guard {
    /// What comes next is another loss: the mean begins anew, the counts stay.
    pub fn forget(&mut self) {
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
    fn what_is_not_a_number_is_always_passed_over() {
        let mut guard = Guard::default();
        let off = config(0.0);
        assert_eq!(guard.judge(&off, 2.0, 1.0), None);
        assert_eq!(guard.judge(&off, f64::NAN, 1.0), Some(Skip::NotFinite));
        assert_eq!(guard.judge(&off, 2.0, f64::INFINITY), Some(Skip::NotFinite));
        assert_eq!((guard.skipped, guard.in_a_row), (2, 2));
        assert_eq!(guard.judge(&off, 1e9, 1.0), None);
        assert_eq!((guard.skipped, guard.in_a_row), (2, 0));
    }

    #[test]
    fn a_spike_is_measured_against_the_losses_before_it() {
        let mut guard = Guard::default();
        let config = config(1.5);
        // The first losses are too few to say what is usual.
        for loss in [9.0].into_iter().chain([4.0; 19]) {
            assert_eq!(guard.judge(&config, loss, 1.0), None);
        }
        let Some(Skip::Spike(times)) = guard.judge(&config, 9.0, 1.0) else {
            panic!("9 after many 4 is a spike");
        };
        assert!((1.5..2.25).contains(&times), "{times}");
        // It did not raise the mean.
        assert!(guard.judge(&config, 9.0, 1.0).is_some());
        assert_eq!(guard.judge(&config, 4.5, 1.0), None);
    }

    #[test]
    fn another_loss_is_not_measured_against_the_one_before() {
        let mut guard = Guard::default();
        let config = config(1.5);
        for loss in [4.0; 30] {
            guard.judge(&config, loss, 1.0);
        }
        assert!(guard.judge(&config, 9.0, 1.0).is_some());
        guard.forget();
        assert_eq!(guard.judge(&config, 9.0, 1.0), None);
        assert_eq!(guard.skipped, 1);
    }

    #[test]
    fn it_goes_through_json_unchanged() {
        let mut guard = Guard::default();
        for loss in [2.1, 1.7, 1.9 / 3.0] {
            guard.judge(&config(2.0), loss, 1.0);
        }
        let json = serde_json::to_string(&guard).unwrap();
        assert_eq!(serde_json::from_str::<Guard>(&json).unwrap(), guard);
    }
}
