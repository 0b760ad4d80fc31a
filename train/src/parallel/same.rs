//! Ranks that do one thing: the same recipe, program, data and weights, and equal shares of a step's rows.

use std::fs::File;
use std::io::Read;

use crate::error::{Error, Result};
use crate::recipe::TrainConfig;
use crate::world::World;

/// The share of a step that falls to each of `ranks`: rows in a forward pass, and passes. Passes are shared first,
/// so that those that remain are as large as the recipe says; then the rows of each.
///
/// # Errors
/// [`Error::World`]: a step's rows do not make as many equal shares.
pub fn share(config: &TrainConfig, ranks: usize) -> Result<(usize, usize)> {
    let (rows, passes) = (config.batch_size, config.accumulate);
    let by_pass = common_divisor(passes, ranks);
    let by_row = ranks / by_pass;
    if rows.is_multiple_of(by_row) {
        return Ok((rows / by_row, passes / by_pass));
    }
    Err(Error::World(format!(
        "{ranks} ranks cannot share a step of train.accumulate = {passes} passes of train.batch_size = {rows} rows: \
         make one of them a multiple of the number of ranks"
    )))
}

fn common_divisor(a: usize, b: usize) -> usize {
    match b {
        0 => a.max(1),
        _ => common_divisor(b, a % b),
    }
}

/// What a rank says that it does.
#[derive(Default)]
pub struct Claims(Vec<(&'static str, u64)>);

impl Claims {
    /// With a hash of this program's file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn new() -> Result<Self> {
        let path = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
        let mut file = File::open(&path).map_err(Error::io(&path))?;
        let (mut part, mut sum, mut length) = (vec![0; 1 << 20], 0, 0u64);
        loop {
            let n = file.read(&mut part).map_err(Error::io(&path))?;
            if n == 0 {
                break;
            }
            sum = crc32c::crc32c_append(sum, &part[..n]);
            length += n as u64;
        }
        Ok(Self(vec![("program", u64::from(sum) ^ length << 32)]))
    }

    /// And `text`, of which `what` says what it is.
    pub fn text(mut self, what: &'static str, text: &str) -> Self {
        let hash = u64::from(crc32c::crc32c(text.as_bytes())) ^ (text.len() as u64) << 32;
        self.0.push((what, hash));
        self
    }

    /// And `number`.
    pub fn number(mut self, what: &'static str, number: u64) -> Self {
        self.0.push((what, number));
        self
    }

    /// Whether all ranks of `world` say the same.
    ///
    /// # Errors
    /// [`Error::World`] names the ranks that differ from rank 0, and in what.
    pub fn agree(&self, world: &World) -> Result<()> {
        let mine = self
            .0
            .iter()
            .flat_map(|(_, hash)| hash.to_le_bytes())
            .collect();
        let all = world.gather(mine);
        let differing = |claim: &Vec<u8>| {
            let names = self.0.iter().enumerate();
            let differ =
                names.filter(|(i, _)| claim.get(8 * i..8 * i + 8) != all[0].get(8 * i..8 * i + 8));
            differ
                .map(|(_, (what, _))| *what)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let each = all
            .iter()
            .enumerate()
            .map(|(rank, claim)| (rank, differing(claim)));
        let wrong: Vec<String> = each
            .filter(|(_, what)| !what.is_empty())
            .map(|(rank, what)| format!("rank {rank} differs from rank 0 in: {what}"))
            .collect();
        if wrong.is_empty() {
            return Ok(());
        }
        Err(Error::World(format!(
            "{}: start every rank with the same recipe, program and data",
            wrong.join("; ")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::threads::ranks;

    #[test]
    fn a_steps_rows_are_shared_without_rest_or_not_at_all() {
        let of = |batch_size, accumulate, ranks| {
            let config = TrainConfig {
                batch_size,
                accumulate,
                ..TrainConfig::for_tests()
            };
            share(&config, ranks)
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

    #[test]
    fn who_differs_is_named_with_what() {
        let answers = ranks(3, |world| {
            let claims = |recipe| Claims::default().text("recipe", recipe).number("step", 4);
            claims("a").agree(&world).unwrap();
            let recipe = if world.rank() == 2 { "b" } else { "a" };
            claims(recipe).agree(&world).unwrap_err().to_string()
        });
        for answer in answers {
            assert!(
                answer.contains("rank 2 differs from rank 0 in: recipe:"),
                "{answer}"
            );
        }
    }
}
