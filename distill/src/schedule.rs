//! A weight over the steps of a run: a number, or `{ from, to, steps }`.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A number that is constant or changes linearly over the steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WeightSchedule {
    /// The same at every step.
    Constant(f32),
    /// Changes linearly, then stays.
    Linear(LinearSchedule),
}

/// A linear change, then constant.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearSchedule {
    /// The value at the first step.
    pub from: f32,
    /// The value after `steps` steps and ever after.
    pub to: f32,
    /// Steps from `from` to `to`.
    pub steps: u64,
}

impl WeightSchedule {
    /// The value after `step` updates.
    pub fn at(self, step: u64) -> f32 {
        match self {
            Self::Constant(weight) => weight,
            Self::Linear(LinearSchedule { from, to, steps }) => {
                let share = step as f64 / steps.max(1) as f64;
                from + (to - from) * share.min(1.0) as f32
            }
        }
    }

    /// # Errors
    /// [`Error::Config`] names `key` if a value is negative or not finite.
    pub(crate) fn check(self, key: &str) -> Result<()> {
        if self.range().iter().all(|w| w.is_finite() && *w >= 0.0) {
            Ok(())
        } else {
            Err(Error::Config(format!("{key}: must be 0 or more")))
        }
    }

    /// The values it lies between.
    pub(crate) fn range(self) -> [f32; 2] {
        match self {
            Self::Constant(weight) => [weight; 2],
            Self::Linear(line) => [line.from, line.to],
        }
    }
}

impl Default for WeightSchedule {
    fn default() -> Self {
        Self::Constant(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_schedule_interpolates_then_stays() {
        let weight = WeightSchedule::Linear(LinearSchedule {
            from: 1.0,
            to: 0.2,
            steps: 4,
        });
        let at: Vec<f32> = (0..7).map(|step| weight.at(step)).collect();
        for (got, expect) in at.iter().zip([1.0, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2]) {
            assert!((got - expect).abs() < 1e-6, "{at:?}");
        }
        assert_eq!(WeightSchedule::Constant(0.3).at(9), 0.3);
    }
}
