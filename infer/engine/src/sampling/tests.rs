//! Every rule against its definition, written plainly in f64.

use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use super::candidate::Candidate;
use super::penalties::Seen;
use super::sampler::uniform;
use super::*;

const LOGITS: [f32; 5] = [0.0, 2.0, 1.0, -1.0, 2.0];

fn draws(settings: Sampling, n: usize) -> Vec<u32> {
    let mut sampler = Sampler::new(settings);
    (0..n).map(|_| sampler.sample(&LOGITS)).collect()
}

/// Logits that look like a model's: a few large, many small, none equal.
fn logits(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    (0..n)
        .map(|_| 12.0 * uniform(&mut rng).powi(6) as f32 - 2.0)
        .collect()
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let weights: Vec<f64> = logits.iter().map(|&l| f64::from(l).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

fn candidates(logits: &[f32]) -> Vec<Candidate> {
    (0..).zip(logits.iter().copied()).collect()
}

fn ids(candidates: &[Candidate]) -> Vec<u32> {
    let mut ids: Vec<u32> = candidates.iter().map(|candidate| candidate.0).collect();
    ids.sort_unstable();
    ids
}

/// Ids ordered by `key`, up to where their probabilities reach `p`.
fn reach(probabilities: &[f64], p: f64, key: impl Fn(f64) -> f64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..probabilities.len() as u32).collect();
    let of = |id: &u32| probabilities[*id as usize];
    order.sort_by(|a, b| key(of(a)).total_cmp(&key(of(b))));
    let mut reached = 0.0;
    let mut kept = Vec::new();
    for id in order {
        kept.push(id);
        reached += of(&id);
        if reached >= p {
            break;
        }
    }
    kept.sort_unstable();
    kept
}

#[test]
fn greedy_takes_the_first_of_the_largest() {
    assert_eq!(draws(Sampling::greedy(), 3), [1, 1, 1]);
    assert_eq!(argmax(&[f32::NAN, f32::NEG_INFINITY, -3.0]), 2);
    assert_eq!(argmax(&[]), 0);
}

#[test]
fn a_seed_repeats_itself_and_another_differs() {
    let settings = Sampling::default();
    assert_eq!(draws(settings.clone(), 64), draws(settings.clone(), 64));
    let other = Sampling {
        seed: 1,
        ..settings.clone()
    };
    assert_ne!(draws(settings, 64), draws(other, 64));
}

#[test]
fn frequencies_follow_the_softmax() {
    for temperature in [1.0, 2.5] {
        let settings = Sampling {
            temperature,
            ..Sampling::plain()
        };
        let ids = draws(settings, 20_000);
        let heated = LOGITS.map(|logit| logit / temperature);
        for (id, expected) in softmax(&heated).into_iter().enumerate() {
            let count = ids.iter().filter(|&&drawn| drawn as usize == id).count();
            let share = count as f64 / 20_000.0;
            assert!((share - expected).abs() < 0.015, "{id}: {share}");
        }
    }
}

#[test]
fn filters_keep_what_their_definitions_say() {
    for (n, seed) in [(5, 1), (100, 2), (3000, 3), (40_000, 4)] {
        let logits = logits(n, seed);
        let max = logits.iter().copied().fold(f32::MIN, f32::max);
        let p = softmax(&logits);
        for share in [0.05f32, 0.5, 0.9, 0.99] {
            let mut kept = candidates(&logits);
            filters::top_p(&mut kept, share, max);
            assert_eq!(
                ids(&kept),
                reach(&p, share.into(), |p| -p),
                "top-p {share} of {n}"
            );
            let entropy: f64 = p.iter().map(|p| -p * p.ln()).sum();
            let mut kept = candidates(&logits);
            filters::typical(&mut kept, share, max);
            let expected = reach(&p, share.into(), |p| (-p.ln() - entropy).abs());
            assert_eq!(ids(&kept), expected, "typical {share} of {n}");
            let mut kept = candidates(&logits);
            filters::min_p(&mut kept, share, max);
            let largest = p.iter().copied().fold(0.0, f64::max);
            let likely = |id: &u32| p[*id as usize] >= f64::from(share) * largest;
            let expected: Vec<u32> = (0..n as u32).filter(likely).collect();
            assert_eq!(ids(&kept), expected, "min-p {share} of {n}");
        }
        for k in [1, 3, 1000] {
            let mut kept = candidates(&logits);
            filters::top_k(&mut kept, k);
            let mut order: Vec<u32> = (0..n as u32).collect();
            order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
            order.truncate(k);
            assert_eq!(kept.iter().map(|c| c.0).collect::<Vec<_>>(), order);
        }
    }
}

#[test]
fn filters_act_in_draws() {
    let only = |settings: Sampling, allowed: &[u32]| {
        assert!(draws(settings, 500).iter().all(|id| allowed.contains(id)));
    };
    let base = Sampling {
        temperature: 5.0,
        seed: 7,
        ..Sampling::plain()
    };
    let top_k = 2;
    only(
        Sampling {
            top_k,
            ..base.clone()
        },
        &[1, 4],
    );
    let top_p = 0.5;
    only(
        Sampling {
            top_p,
            ..base.clone()
        },
        &[1, 4],
    );
    let min_p = 0.3;
    only(
        Sampling {
            min_p,
            ..base.clone()
        },
        &[1, 2, 4],
    );
    // the surprise of 1 and 4 is the nearest to the entropy, and 1 comes first
    let typical_p = 0.1;
    only(
        Sampling {
            typical_p,
            ..base.clone()
        },
        &[1],
    );
    let mut sampler = Sampler::new(base);
    let even = |id: u32| id.is_multiple_of(2);
    assert!((0..500).all(|_| even(sampler.sample_where(&LOGITS, Some(&even)))));
    let mut sampler = Sampler::new(Sampling::greedy());
    assert_eq!(sampler.sample_where(&LOGITS, Some(&even)), 4);
}

#[test]
fn penalties_and_bias_are_their_formulas() {
    let settings = Sampling {
        repetition_penalty: 1.3,
        presence_penalty: 0.5,
        frequency_penalty: 0.25,
        logit_bias: vec![(2, 1.5), (3, f32::NEG_INFINITY), (99, 1.0)],
        ..Sampling::plain()
    };
    let mut seen = Seen::default();
    seen.prompt(&[0, 1, 500]);
    [1, 1, 2].into_iter().for_each(|id| seen.answer(id));
    let logits = [-1.0f32, 2.0, 0.5, 4.0, 3.0];
    let mut changed = logits;
    seen.apply(&settings, &mut changed);
    let expected = [
        -1.3,
        2.0 / 1.3 - 0.5 - 2.0 * 0.25,
        (0.5 + 1.5) / 1.3 - 0.5 - 0.25,
        f32::NEG_INFINITY,
        3.0,
    ];
    assert_eq!(changed, expected);
    // a greedy answer that may not repeat itself goes through the tokens by their logits
    let mut sampler = Sampler::new(Sampling {
        presence_penalty: 100.0,
        ..Sampling::greedy()
    });
    let answer: Vec<u32> = (0..5).map(|_| sampler.sample(&LOGITS)).collect();
    assert_eq!(answer, [1, 4, 2, 0, 3]);
    let mut sampler = Sampler::new(Sampling {
        repetition_penalty: 50.0,
        ..Sampling::greedy()
    });
    sampler.prompt(&[1, 4]);
    assert_eq!(sampler.sample(&LOGITS), 2);
}

/// One step against the formulas in f64, and many steps against the target.
#[test]
fn mirostat_holds_the_surprise() {
    let logits = logits(2000, 5);
    let p = softmax(&logits);
    let mirostat = Mirostat { tau: 3.0, eta: 0.1 };
    for (at, start) in [(0.1, 6.0f32), (0.7, 4.0), (0.99, 8.0), (0.5, -3.0)] {
        let mut bound = start;
        let max = logits.iter().copied().fold(f32::MIN, f32::max);
        let mut kept = candidates(&logits);
        let choice = mirostat.choose(&mut kept, max, 1.0, at, &mut bound);
        let mut expected: Vec<usize> = (0..2000)
            .filter(|&id| -p[id].log2() <= start.into())
            .collect();
        if expected.is_empty() {
            expected.push(argmax(&logits) as usize);
        }
        assert_eq!(
            ids(&kept),
            expected.iter().map(|&id| id as u32).collect::<Vec<_>>()
        );
        let total: f64 = expected.iter().map(|&id| p[id]).sum();
        let mut reached = 0.0;
        let drawn = expected.iter().find(|&&id| {
            reached += p[id] / total;
            reached > at
        });
        assert_eq!(choice as usize, *drawn.unwrap());
        let surprise = -(p[choice as usize] / total).log2();
        let moved = f64::from(start) - 0.1 * (surprise - 3.0);
        assert!((f64::from(bound) - moved).abs() < 1e-4, "{bound} {moved}");
    }
    for tau in [2.0, 4.0] {
        let settings = Sampling {
            mirostat: Some(Mirostat { tau, eta: 0.1 }),
            ..Sampling::plain()
        };
        let mut sampler = Sampler::new(settings);
        let n = 4000;
        let mut surprise = 0.0;
        for _ in 0..n {
            let bound = sampler.bound;
            sampler.sample(&logits);
            // what the bound moved by tells the surprise
            surprise += f64::from((bound - sampler.bound) / 0.1 + tau) / f64::from(n);
        }
        assert!((surprise - f64::from(tau)).abs() < 0.1, "{tau}: {surprise}");
    }
}

#[test]
fn logits_without_a_number_do_not_panic() {
    let mut sampler = Sampler::new(Sampling::default());
    assert_eq!(sampler.sample(&[f32::NAN, f32::NAN]), 0);
    assert_eq!(sampler.sample(&[]), 0);
    assert_eq!(sampler.sample(&[f32::NAN, f32::INFINITY, 1.0]), 2);
}

#[test]
fn settings_out_of_range_are_named() {
    let bad = |change: fn(&mut Sampling), name: &str| {
        let mut settings = Sampling::default();
        change(&mut settings);
        let message = settings.validate().unwrap_err();
        assert!(message.starts_with(name), "{message}");
    };
    assert_eq!(Sampling::default().validate(), Ok(()));
    bad(|s| s.temperature = f32::NAN, "temperature");
    bad(|s| s.top_p = 0.0, "top-p");
    bad(|s| s.typical_p = 1.1, "typical-p");
    bad(|s| s.min_p = -0.1, "min-p");
    bad(|s| s.repetition_penalty = 0.0, "repetition-penalty");
    bad(|s| s.presence_penalty = f32::INFINITY, "presence-penalty");
    bad(|s| s.frequency_penalty = f32::NAN, "frequency-penalty");
    bad(|s| s.logit_bias = vec![(0, f32::NAN)], "logit-bias");
    bad(
        |s| s.mirostat = Some(Mirostat { tau: 0.0, eta: 0.1 }),
        "mirostat-tau",
    );
    bad(
        |s| s.mirostat = Some(Mirostat { tau: 1.0, eta: 2.0 }),
        "mirostat-eta",
    );
}

proptest! {
    /// Whatever the logits and settings: a token of the vocabulary, a possible one where there is one.
    #[test]
    fn a_choice_is_always_possible(
        logits in prop::collection::vec(any::<f32>(), 1..60),
        temperature in 0.0f32..3.0, top_k in 0usize..9, p in prop::array::uniform3(0.01f32..1.0),
        tau in prop::option::of(0.1f32..9.0), seed: u64,
    ) {
        let [top_p, typical_p, min_p] = p;
        let mirostat = tau.map(|tau| Mirostat { tau, eta: 0.5 });
        let settings = Sampling { temperature, top_k, top_p, typical_p, min_p, mirostat, seed, ..Sampling::default() };
        let mut sampler = Sampler::new(settings);
        for _ in 0..3 {
            let id = sampler.sample(&logits) as usize;
            prop_assert!(id < logits.len());
            if logits.iter().any(|l| l.is_finite()) && temperature > 0.0 {
                prop_assert!(logits[id].is_finite());
            }
        }
    }
}
