//! The share of a step's rows that falls to each rank.

use crate::error::Result;
use crate::recipe::TrainConfig;

/// What one rank computes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepShare {
    /// Rows in a forward pass.
    pub rows: usize,
    /// Forward passes.
    pub passes: usize,
}

impl StepShare {
    /// The share of each of `ranks`. Passes are shared first, so that those that remain are as large as the recipe
    /// says; then the rows of each.
    ///
    /// # Errors
    /// [`retort_comm::Error::Ranks`]: a step's rows do not make as many equal shares.
    pub fn new(config: &TrainConfig, ranks: usize) -> Result<Self> {
        let (rows, passes) = (config.batch_size, config.accumulate);
        let by_pass = common_divisor(passes, ranks);
        let by_row = ranks / by_pass;
        if rows.is_multiple_of(by_row) {
            return Ok(Self {
                rows: rows / by_row,
                passes: passes / by_pass,
            });
        }
        Err(retort_comm::Error::Ranks(format!(
            "{ranks} ranks cannot share a step of train.accumulate = {passes} passes of train.batch_size = {rows} \
             rows: make one of them a multiple of the number of ranks"
        ))
        .into())
    }
}

fn common_divisor(a: usize, b: usize) -> usize {
    match b {
        0 => a.max(1),
        _ => common_divisor(b, a % b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_share_is_equal_on_all_ranks_or_an_error() {
        let of = |batch_size, accumulate, ranks| {
            let config = TrainConfig {
                batch_size,
                accumulate,
                ..TrainConfig::for_tests()
            };
            StepShare::new(&config, ranks).map(|share| (share.rows, share.passes))
        };
        assert_eq!(of(8, 1, 1).unwrap(), (8, 1));
        assert_eq!(of(8, 1, 4).unwrap(), (2, 1));
        assert_eq!(of(8, 4, 4).unwrap(), (8, 1));
        assert_eq!(of(6, 2, 4).unwrap(), (3, 1));
        assert_eq!(of(8, 3, 2).unwrap(), (4, 3));
        let message = of(6, 1, 4).unwrap_err().to_string();
        assert!(
            message.contains("batch_size = 6") && message.contains("4 ranks"),
            "{message}"
        );
    }
}
