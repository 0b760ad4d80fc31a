//! Packing: which documents an epoch's rows hold, and where documents begin in them.

use std::path::Path;

use retort_data::{Batch, Rank, documents, is_validation};

use crate::fixture::Fixture;
use crate::support::{open, shards};

/// Every document of the training side is in each epoch once, whole but for the end of the epoch,
/// and the next epoch has another order.
#[test]
fn an_epoch_of_concatenation_is_every_training_document_once() {
    let fixture = Fixture::new();
    let config = fixture.config("concat", 8, false, 16);
    let data = open(&config, &fixture.tokenizer).unwrap();
    let mut expected: Vec<Vec<u32>> = documents(&shards(Path::new(&config.source)).unwrap())
        .map(Result::unwrap)
        .filter(|text| !is_validation(text, config.validation_fraction))
        .map(|text| fixture.tokenizer.encode(&text).unwrap())
        .collect();
    expected.sort();
    let eot = fixture.tokenizer.eot();
    let mut batches = data.batches(1, Rank::default(), None).unwrap();
    let mut row = batches.next_batch().unwrap();
    let mut epochs: Vec<Vec<u32>> = Vec::new();
    for epoch in 1..=3 {
        let mut ids = vec![row.inputs[0] as u32];
        // The first row of the next epoch is the first after which the cursor lies in it.
        while batches.cursor().epochs()[0] < epoch {
            assert_eq!(ids.last(), Some(&(row.inputs[0] as u32)));
            ids.extend(row.targets.iter().map(|&id| id as u32));
            row = batches.next_batch().unwrap();
        }
        epochs.push(ids);
    }
    for ids in &epochs {
        let mut found: Vec<&[u32]> = ids.split(|&id| id == eot).collect();
        // What did not fill the last row is missing: one document's end, and short ones after it.
        let cut = found.pop().unwrap();
        let mut left = expected.clone();
        for document in found {
            let at = left.binary_search_by(|d| d.as_slice().cmp(document));
            left.remove(at.expect("a training document, once"));
        }
        assert!(left.iter().any(|document| document.starts_with(cut)));
        let missing: usize = left.iter().map(|d| d.len() + 1).sum();
        assert!(missing - cut.len() <= 16, "{missing}");
    }
    assert_ne!(epochs[0], epochs[1]);
    assert_ne!(epochs[1], epochs[2]);
    let stats = batches.stats();
    assert_eq!(stats.documents, 3 * expected.len() as u64);
    let used: u64 = epochs.iter().map(|ids| ids.len() as u64).sum();
    assert_eq!(stats.tokens - stats.cropped, used);
}

#[test]
fn best_fit_rows_hold_whole_documents_and_start_with_one() {
    let fixture = Fixture::new();
    let config = fixture.config("best_fit", 1000, false, 120);
    let data = open(&config, &fixture.tokenizer).unwrap();
    let eot = fixture.tokenizer.eot();
    // Documents with their end, cropped to a row.
    let mut expected: Vec<Vec<u32>> = documents(&shards(Path::new(&config.source)).unwrap())
        .map(Result::unwrap)
        .filter(|text| !is_validation(text, config.validation_fraction))
        .map(|text| fixture.tokenizer.encode(&text).unwrap())
        .map(|ids| ids.into_iter().chain([eot]).take(121).collect())
        .collect();
    let mut batches = data.batches(1, Rank::default(), None).unwrap();
    let (mut padded, mut cropped) = (0, 0);
    while !expected.is_empty() {
        let batch = batches.next_batch().unwrap();
        let mut ids = vec![batch.inputs[0] as u32];
        ids.extend(batch.targets.iter().filter(|&&t| t >= 0).map(|&t| t as u32));
        assert_eq!(ids.len(), batch.tokens() + 1);
        padded += 121 - ids.len();
        // Padding is at the end, and repeats the last id.
        assert!(
            batch.targets[batch.tokens()..]
                .iter()
                .all(|&t| t == Batch::IGNORE)
        );
        for i in batch.tokens() + 1..120 {
            assert_eq!(batch.inputs[i] as u32, *ids.last().unwrap());
        }
        let starts: Vec<usize> = (0..ids.len())
            .filter(|&i| i == 0 || ids[i - 1] == eot)
            .collect();
        for (i, &start) in starts.iter().enumerate() {
            let end = starts.get(i + 1).copied().unwrap_or(ids.len());
            let at = expected.iter().position(|d| d[..] == ids[start..end]);
            let document = expected.remove(at.expect("a document, whole, once"));
            cropped += usize::from(document.last() != Some(&eot));
            for j in start..end.min(120) {
                assert_eq!(
                    (batch.documents[j], batch.positions[j]),
                    (i as i32, (j - start) as i32)
                );
            }
        }
    }
    assert!(cropped > 0 && padded > 0);
    let stats = batches.stats();
    assert_eq!(stats.padded, padded as u64);
    assert!(stats.cropped > 0);
    assert!(
        padded * 10 < 121 * batches.cursor().rows() as usize,
        "{padded}"
    );
}

#[test]
fn boundaries_and_positions_begin_anew_with_each_document() {
    let fixture = Fixture::new();
    let data = open(&fixture.config("concat", 8, false, 50), &fixture.tokenizer).unwrap();
    let mut batches = data.batches(3, Rank::default(), None).unwrap();
    let mut several = 0;
    for _ in 0..20 {
        let batch = batches.next_batch().unwrap();
        for row in 0..3 {
            let (mut document, mut position) = (0, 0);
            for i in row * 50..(row + 1) * 50 {
                assert_eq!(
                    (batch.documents[i], batch.positions[i]),
                    (document, position)
                );
                position += 1;
                if batch.inputs[i] as u32 == fixture.tokenizer.eot() {
                    (document, position) = (document + 1, 0);
                }
            }
            several += usize::from(document > 1);
        }
    }
    assert!(several > 0);
}
