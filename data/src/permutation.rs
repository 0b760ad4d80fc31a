//! Permutations drawn from a seed and a key, the same in every version of this program.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Draws `n` items in the order of (`seed`, `key`): Fisher–Yates from ChaCha8.
///
/// Written out rather than taken from `rand`, whose shuffles may change between versions: a run
/// resumed after an update must see the same rows.
pub(crate) fn permutation(n: usize, seed: u64, key: [u64; 3]) -> Vec<u32> {
    let mut bytes = [0; 32];
    for (eight, word) in bytes
        .chunks_exact_mut(8)
        .zip([seed, key[0], key[1], key[2]])
    {
        eight.copy_from_slice(&word.to_le_bytes());
    }
    let mut rng = ChaCha8Rng::from_seed(bytes);
    let n = u32::try_from(n).expect("fewer than 2³² items");
    let mut order: Vec<u32> = (0..n).collect();
    for i in (1..order.len()).rev() {
        // Uniform on 0..=i up to 2⁻⁶⁴·i.
        let j = (u128::from(rng.next_u64()) * (i as u128 + 1)) >> 64;
        order.swap(i, j as usize);
    }
    order
}
