//! The tree of pages: what is found, held, promised and let go.

use super::prefix_cache::{Pages, Path};
use retort_engine::decoder::{PAGE, Page};
use retort_engine::logprobs::Logprob;

fn text(words: &[u32]) -> Vec<u32> {
    words.iter().flat_map(|&word| [word; PAGE]).collect()
}

/// Reserves and adds what `text` needs beyond what is known; its path, still held.
fn add(pages: &mut Pages, text: &[u32]) -> Option<Path> {
    let mut path = pages.find(text, usize::MAX);
    pages.hold(&path);
    let new = text.len() / PAGE - path.len();
    if !pages.reserve(new) {
        pages.release(&path);
        return None;
    }
    for tokens in &text.as_chunks::<PAGE>().0[path.len()..] {
        assert!(pages.extend(&mut path, tokens, || Some(Page::empty())));
    }
    Some(path)
}

#[test]
fn what_begins_alike_shares_pages() {
    let mut pages = Pages::new(10);
    let first = add(&mut pages, &text(&[1, 2, 3])).unwrap();
    let second = add(&mut pages, &text(&[1, 2, 4])).unwrap();
    assert_eq!(first[..2], second[..2]);
    assert_ne!(first[2], second[2]);
    assert_eq!(pages.counts(), (4, 0));
    assert_eq!(pages.find(&text(&[1, 2, 3, 9]), usize::MAX), first);
    assert_eq!(pages.find(&text(&[1, 2, 3, 9]), 1), first[..1]);
    assert_eq!(pages.find(&text(&[2, 1]), usize::MAX), Path::new());
    // the same tokens elsewhere are another page
    let third = add(&mut pages, &text(&[2])).unwrap();
    assert!(!first.contains(&third[0]));
    assert_eq!(pages.pages(&first).len(), 3);
}

#[test]
fn what_is_held_stays_and_the_oldest_leaf_goes() {
    let mut pages = Pages::new(6);
    let old = add(&mut pages, &text(&[1, 2])).unwrap();
    let young = add(&mut pages, &text(&[1, 3])).unwrap();
    let held = add(&mut pages, &text(&[5, 6])).unwrap();
    pages.release(&old);
    pages.release(&young);
    assert_eq!(pages.counts(), (5, 0));
    // one page is free, the next comes from the older text, and their common beginning goes last
    assert!(pages.reserve(2));
    assert_eq!(pages.find(&text(&[1, 2]), usize::MAX), old[..1]);
    assert_eq!(pages.find(&text(&[1, 3]), usize::MAX), young);
    assert!(!pages.reserve(3));
    assert_eq!(pages.find(&text(&[1, 3]), usize::MAX), young);
    assert!(pages.reserve(2));
    assert_eq!(pages.find(&text(&[1, 3]), usize::MAX), Path::new());
    assert_eq!(pages.find(&text(&[5, 6]), usize::MAX), held);
    assert!(!pages.reserve(1));
    pages.unreserve(1);
    assert!(pages.reserve(1) && !pages.reserve(1));
    assert_eq!(add(&mut pages, &text(&[9])), None);
}

#[test]
fn a_page_that_another_added_meanwhile_is_shared() {
    let mut pages = Pages::new(4);
    let tokens = text(&[7]);
    let path = add(&mut pages, &tokens).unwrap();
    assert!(pages.reserve(1));
    let mut second = Path::new();
    let known = pages.extend(&mut second, &tokens.as_chunks::<PAGE>().0[0], || None);
    assert!(!known);
    assert_eq!(second, path);
    // the promise was not used
    assert_eq!(pages.counts(), (1, 1));
    pages.release(&path);
    assert!(!pages.reserve(3), "still held once");
    pages.release(&second);
    assert!(pages.reserve(3));
}

#[test]
fn probabilities_are_the_softmaxs() {
    let logits = [1.0f32, 3.0, f32::NEG_INFINITY, 2.5, 3.0];
    let total: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
    let told = Logprob::of(3, &logits, 3);
    assert!((f64::from(told.logprob) - (2.5 - total.ln())).abs() < 1e-6);
    let ids: Vec<u32> = told.top.iter().map(|top| top.0).collect();
    assert_eq!(ids, [1, 4, 3]);
    assert_eq!(told.top[2].1, told.logprob);
    assert_eq!(Logprob::of(0, &logits, 0).top, []);
    assert_eq!(Logprob::of(0, &logits, 99).top.len(), 5);
}
