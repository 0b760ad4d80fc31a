//! The tree of cache: what is found, held, promised and let go.

use super::prefix_cache::{NodePath, PrefixCache};
use retort_engine::decoder::{PAGE, Page};
use retort_engine::logprobs::Logprob;

fn text(words: &[u32]) -> Vec<u32> {
    words.iter().flat_map(|&word| [word; PAGE]).collect()
}

/// Reserves and adds what `text` needs beyond what is known; its path, still held.
fn add(cache: &mut PrefixCache, text: &[u32]) -> Option<NodePath> {
    let mut path = cache.find(text, usize::MAX);
    cache.acquire(&path);
    let new = text.len() / PAGE - path.len();
    if !cache.reserve(new) {
        cache.release(&path);
        return None;
    }
    for tokens in &text.as_chunks::<PAGE>().0[path.len()..] {
        assert!(cache.extend(&mut path, tokens, || Some(Page::empty())));
    }
    Some(path)
}

#[test]
fn texts_with_a_common_prefix_share_pages() {
    let mut cache = PrefixCache::new(10);
    let first = add(&mut cache, &text(&[1, 2, 3])).unwrap();
    let second = add(&mut cache, &text(&[1, 2, 4])).unwrap();
    assert_eq!(first[..2], second[..2]);
    assert_ne!(first[2], second[2]);
    assert_eq!(cache.page_counts(), (4, 0));
    assert_eq!(cache.find(&text(&[1, 2, 3, 9]), usize::MAX), first);
    assert_eq!(cache.find(&text(&[1, 2, 3, 9]), 1), first[..1]);
    assert_eq!(cache.find(&text(&[2, 1]), usize::MAX), NodePath::new());
    // the same tokens elsewhere are another page
    let third = add(&mut cache, &text(&[2])).unwrap();
    assert!(!first.contains(&third[0]));
    assert_eq!(cache.pages(&first).len(), 3);
}

#[test]
fn acquired_pages_stay_and_the_least_recently_used_leaf_is_evicted() {
    let mut cache = PrefixCache::new(6);
    let old = add(&mut cache, &text(&[1, 2])).unwrap();
    let young = add(&mut cache, &text(&[1, 3])).unwrap();
    let held = add(&mut cache, &text(&[5, 6])).unwrap();
    cache.release(&old);
    cache.release(&young);
    assert_eq!(cache.page_counts(), (5, 0));
    // one page is free, the next comes from the older text, and their common beginning goes last
    assert!(cache.reserve(2));
    assert_eq!(cache.find(&text(&[1, 2]), usize::MAX), old[..1]);
    assert_eq!(cache.find(&text(&[1, 3]), usize::MAX), young);
    assert!(!cache.reserve(3));
    assert_eq!(cache.find(&text(&[1, 3]), usize::MAX), young);
    assert!(cache.reserve(2));
    assert_eq!(cache.find(&text(&[1, 3]), usize::MAX), NodePath::new());
    assert_eq!(cache.find(&text(&[5, 6]), usize::MAX), held);
    assert!(!cache.reserve(1));
    cache.unreserve(1);
    assert!(cache.reserve(1) && !cache.reserve(1));
    assert_eq!(add(&mut cache, &text(&[9])), None);
}

#[test]
fn a_page_that_another_request_added_meanwhile_is_shared() {
    let mut cache = PrefixCache::new(4);
    let tokens = text(&[7]);
    let path = add(&mut cache, &tokens).unwrap();
    assert!(cache.reserve(1));
    let mut second = NodePath::new();
    let known = cache.extend(&mut second, &tokens.as_chunks::<PAGE>().0[0], || None);
    assert!(!known);
    assert_eq!(second, path);
    // the promise was not used
    assert_eq!(cache.page_counts(), (1, 1));
    cache.release(&path);
    assert!(!cache.reserve(3), "still held once");
    cache.release(&second);
    assert!(cache.reserve(3));
}

#[test]
fn probabilities_are_the_softmaxs() {
    let logits = [1.0f32, 3.0, f32::NEG_INFINITY, 2.5, 3.0];
    let total: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
    let logprob = Logprob::of(3, &logits, 3);
    assert!((f64::from(logprob.logprob) - (2.5 - total.ln())).abs() < 1e-6);
    let ids: Vec<u32> = logprob.top.iter().map(|top| top.0).collect();
    assert_eq!(ids, [1, 4, 3]);
    assert_eq!(logprob.top[2].1, logprob.logprob);
    assert_eq!(Logprob::of(0, &logits, 0).top, []);
    assert_eq!(Logprob::of(0, &logits, 99).top.len(), 5);
}
