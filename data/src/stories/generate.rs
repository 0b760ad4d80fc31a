//! Stories written with known probability, and the least that a model can lose on them.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::expand::{Choose, expand, nats_of};

/// A story and the information in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Story {
    /// The story, in one line.
    pub text: String,
    /// −ln of its probability.
    pub nats: f64,
}

/// Writes `n` stories. Story i depends on `seed` and i alone.
pub fn generate(seed: u64, n: usize) -> Vec<Story> {
    (0..n as u64)
        .map(|i| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&seed.to_le_bytes());
            key[8..16].copy_from_slice(&i.to_le_bytes());
            let mut random = Random {
                rng: ChaCha8Rng::from_seed(key),
                nats: 0.0,
            };
            let text = expand(&mut random);
            Story {
                text,
                nats: random.nats,
            }
        })
        .collect()
}

/// Chooses at random and adds up the information.
struct Random {
    rng: ChaCha8Rng,
    nats: f64,
}

impl Choose for Random {
    fn choose(&mut self, weights: &[u32]) -> usize {
        let total = u64::from(weights.iter().sum::<u32>());
        // Uniform on 0..total up to 2⁻⁶⁴·total.
        let mut at = ((u128::from(self.rng.next_u64()) * u128::from(total)) >> 64) as u32;
        let mut option = 0;
        while at >= weights[option] {
            at -= weights[option];
            option += 1;
        }
        self.nats += nats_of(weights, option);
        option
    }

    fn goes_on(&mut self, _: &str) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::stories::measure::{nats, search};

    #[test]
    fn stories_are_of_the_promised_size() {
        let stories = generate(1, 2000);
        for story in &stories {
            let words = story.text.split_whitespace().count();
            assert!((80..=140).contains(&words), "{words} words: {}", story.text);
            assert!(
                !story.text.contains(['{', '}', '[', ']', '|']),
                "{}",
                story.text
            );
        }
        let mean = stories.iter().map(|s| s.nats).sum::<f64>() / 2000.0;
        assert!((25.0..60.0).contains(&mean), "{mean} nats a story");
        assert_eq!(
            stories[..10],
            generate(1, 10)[..],
            "a story depends on seed and index alone"
        );
        assert_ne!(stories[0], generate(2, 1)[0]);
    }

    /// Recipes, results and golden losses are of these very stories.
    #[test]
    fn stories_never_change() {
        use sha2::Digest;
        let texts: Vec<String> = generate(1, 500).into_iter().map(|s| s.text).collect();
        let hash = sha2::Sha256::digest(texts.join("\n"));
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let known = "2d4e9b0041151bd219e71848c14d66c29f4821a1da841b5efdb40e1ded965f45";
        assert_eq!(hash, known);
    }

    #[test]
    fn each_story_has_one_sequence_of_choices() {
        for story in generate(3, 400) {
            let (sequences, probability) = search(&story.text);
            assert_eq!(sequences, 1, "{}", story.text);
            assert!((-probability.ln() - story.nats).abs() < 1e-9);
        }
        assert_eq!(nats("Once upon a time there was no such story."), None);
        let story = &generate(3, 1)[0].text;
        assert_eq!(nats(&story[..story.len() - 1]), None);
        assert_eq!(nats(&format!("{story} ")), None);
    }

    /// The expected information of the next word given the one before, over the text itself: what
    /// a bigram model could reach at best on it.
    #[test]
    fn counting_words_stays_far_above_the_floor() {
        let stories = generate(5, 4000);
        let mut pairs: HashMap<(&str, &str), f64> = HashMap::new();
        let mut firsts: HashMap<&str, f64> = HashMap::new();
        for story in &stories {
            let words: Vec<&str> = story.text.split(' ').collect();
            for pair in words.windows(2) {
                *pairs.entry((pair[0], pair[1])).or_default() += 1.0;
                *firsts.entry(pair[0]).or_default() += 1.0;
            }
        }
        let bigram: f64 = pairs
            .iter()
            .map(|((a, _), n)| -n * (n / firsts[a]).ln())
            .sum();
        let floor: f64 = stories.iter().map(|s| s.nats).sum();
        assert!(
            bigram > 2.0 * floor,
            "bigram {bigram:.0} nats, floor {floor:.0}"
        );
    }
}
