//! Branches that move, commits that stay, and those that go.

use retort_data::{Shards, SourceOptions};

use super::*;

#[test]
fn a_branch_that_moves_changes_nothing_for_who_reads() {
    let (hub, dir) = (hub(2, 1000), tempfile::tempdir().unwrap());
    let shards = resolve(&hub, dir.path());
    shards.open(0, &[]).unwrap();
    push(&hub, LATER, 50, 3, 700);
    let held = shards.open(1, &[]).unwrap();
    assert_eq!(std::fs::read(&*held).unwrap(), bytes(1, 1000));
}

#[test]
fn a_pinned_source_gives_the_same_shards_after_the_branch_moved() {
    let (hub, dir) = (hub(2, 1000), tempfile::tempdir().unwrap());
    let first = resolve(&hub, dir.path());
    let pinned = first.pinned().unwrap();
    assert_eq!(pinned, format!("hf://owner/name/en/train@{COMMIT}"));
    push(&hub, LATER, 50, 3, 700);

    let moved = resolve(&hub, dir.path());
    assert_eq!((moved.len(), moved.bytes()), (3, 2100));
    assert_ne!(moved.identity(), first.identity());

    // With and without what the first run left in the cache.
    let other = tempfile::tempdir().unwrap();
    for dir in [dir.path(), other.path()] {
        let options = SourceOptions::default();
        let again = Shards::resolve_with(&pinned, &options, &config(&hub, dir)).unwrap();
        assert_eq!(again.identity(), first.identity());
        assert_eq!(again.pinned().as_ref(), Some(&pinned));
        let held = again.open(1, &[]).unwrap();
        assert_eq!(std::fs::read(&*held).unwrap(), bytes(1, 1000));
    }
}

#[test]
fn a_commit_that_is_gone_is_named() {
    let (hub, dir) = (hub(1, 1000), tempfile::tempdir().unwrap());
    let first = resolve(&hub, dir.path());
    let pinned = first.pinned().unwrap();
    hub.delete(COMMIT);
    let gone = message(first.open(0, &[]));
    assert!(gone.contains(COMMIT) && gone.contains("deleted"), "{gone}");
    let other = tempfile::tempdir().unwrap();
    let options = SourceOptions::default();
    let resolved = Shards::resolve_with(&pinned, &options, &config(&hub, other.path()));
    let gone = message(resolved);
    assert!(gone.contains(COMMIT) && gone.contains("deleted"), "{gone}");
}

#[test]
fn unchanged_shards_of_a_new_commit_are_not_fetched_again() {
    let (hub, dir) = (hub(1, 1000), tempfile::tempdir().unwrap());
    resolve(&hub, dir.path()).open(0, &[]).unwrap();
    push(&hub, LATER, 0, 2, 1000);
    let later = resolve(&hub, dir.path());
    let held = later.open(0, &[]).unwrap();
    assert_eq!(std::fs::read(&*held).unwrap(), bytes(0, 1000));
    assert!(held.starts_with(folder(dir.path()).join("snapshots").join(LATER)));
    assert_eq!(hub.requests("/cdn").len(), 1);
}

#[test]
fn c4_as_its_own_branch_keeps_it() {
    let (hub, dir) = (Hub::start(), tempfile::tempdir().unwrap());
    let files = [
        ("README.md", bytes(0, 10)),
        ("en/c4-train.00001-of-00002.json.gz", bytes(1, 100)),
        ("en/c4-train.00000-of-00002.json.gz", bytes(2, 200)),
        ("en/c4-validation.00000-of-00001.json.gz", bytes(3, 300)),
    ];
    hub.push("main", COMMIT, &files);
    let config = config(&hub, dir.path());
    let open = |source: &str, split: &str| {
        let options = SourceOptions {
            split: split.into(),
            ..SourceOptions::default()
        };
        Shards::resolve_with(source, &options, &config)
    };
    let train = open("hf://owner/name/en@main", "train").unwrap();
    assert_eq!((train.len(), train.bytes()), (2, 300));
    assert!(
        train
            .name(0)
            .ends_with("en/c4-train.00000-of-00002.json.gz")
    );
    // The name's split stats before the option's, and the one configuration needs no name.
    let validation = open("hf://owner/name/en/validation@main", "train").unwrap();
    assert_eq!(validation.bytes(), 300);
    let validation = open("hf://owner/name@main", "validation").unwrap();
    let pinned = format!("hf://owner/name/en/validation@{COMMIT}");
    assert_eq!(validation.pinned(), Some(pinned));
    let message = message(open("hf://owner/name/en@main", "test"));
    assert!(
        message.contains("`test`; there is train, validation"),
        "{message}"
    );
}
