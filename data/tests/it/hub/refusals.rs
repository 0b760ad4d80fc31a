//! Answers that refuse, lie or overflow, and where the token goes.

use retort_data::{Shards, SourceOptions};

use super::server::Fault;
use super::*;

fn listing_error(hub: &Hub, source: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(hub, dir.path());
    config.listing_limit_bytes = 100_000;
    message(Shards::resolve_with(
        source,
        &SourceOptions::default(),
        &config,
    ))
}

#[test]
fn the_token_goes_to_the_hub_alone() {
    let (hub, dir) = (hub(1, 1000), tempfile::tempdir().unwrap());
    resolve(&hub, dir.path()).open(0, &[]).unwrap();
    let bearer = format!("Bearer {TOKEN}");
    for path in ["/api", "/datasets"] {
        let sent = &hub.requests(path)[0];
        assert_eq!(sent.header("authorization"), Some(&*bearer));
        assert!(sent.header("user-agent").unwrap().contains("retort/"));
        assert_eq!(sent.header("accept-encoding"), Some("identity"));
    }
    let elsewhere = &downloads(&hub, 0)[0];
    assert!(elsewhere.header("host").unwrap().starts_with("localhost"));
    assert_eq!(elsewhere.header("authorization"), None);
}

#[test]
fn a_refusal_says_what_to_do() {
    let hub = hub(1, 1000);
    let gated = "X-Error-Code: GatedRepo\r\n";
    for (status, headers, says) in [
        (401, "", "misspelt, gated or private"),
        (401, "X-Error-Code: RepoNotFound\r\n", "no such dataset"),
        (403, gated, "accept its terms at http://127.0.0.1"),
        (404, "X-Error-Code: RepoNotFound\r\n", "check the spelling"),
        (
            404,
            "X-Error-Code: RevisionNotFound\r\n",
            "give a revision, as hf://owner/name@main",
        ),
        (418, "", "418"),
    ] {
        hub.repair();
        hub.break_always("/api", Fault::Status(status, headers.into()));
        let refused = listing_error(&hub, SOURCE);
        assert!(refused.contains(says), "{refused}");
        assert!(
            refused.starts_with("hf://owner/name@refs/convert/parquet: "),
            "{refused}"
        );
    }
    // None of these was worth a second request.
    assert_eq!(hub.requests("/api").len(), 6);
    let misspelt = listing_error(&Hub::start(), "hf://owner/name/en@man");
    assert!(
        misspelt.contains("the name or the revision is misspelt"),
        "{misspelt}"
    );

    hub.repair();
    let dir = tempfile::tempdir().unwrap();
    let shards = resolve(&hub, dir.path());
    hub.break_always("/datasets", Fault::Status(403, gated.into()));
    let refused = message(shards.open(0, &[]));
    assert!(
        refused.contains("HF_TOKEN") && refused.contains("0000.parquet"),
        "{refused}"
    );
}

#[test]
fn a_listing_that_is_none() {
    let hub = hub(1, 1000);
    for (listing, says) in [
        (
            "<html>captive portal</html>",
            "not a list of a dataset's files",
        ),
        ("[]", "not a list"),
        ("{}", "not a list"),
        ("{\"sha\": 5}", "not a list"),
        ("{\"sha\": \"../../../../tmp\"}", "not of the commit"),
        ("{\"sha\": \"\"}", "not of the commit"),
    ] {
        hub.lie(listing);
        let wrong = listing_error(&hub, SOURCE);
        assert!(wrong.contains(says), "{listing}: {wrong}");
    }
    // A commit was asked for and another is answered.
    hub.lie(&format!("{{\"sha\": \"{LATER}\", \"siblings\": []}}"));
    let other = listing_error(&hub, &format!("{SOURCE}@{COMMIT}"));
    assert!(other.contains("not of the commit"), "{other}");
    hub.lie(&format!("{{\"sha\": \"{COMMIT}\"}}"));
    assert!(listing_error(&hub, SOURCE).contains("no shard"));
    // Cut in the middle, every time.
    hub.lie("{\"sha\": \"");
    assert!(listing_error(&hub, SOURCE).contains("cut, 4 times"));
}

#[test]
fn a_listing_that_would_leave_the_cache() {
    let hub = hub(1, 1000);
    let with = |sibling: &str| {
        hub.lie(&format!(
            "{{\"sha\": \"{COMMIT}\", \"siblings\": [{sibling}]}}"
        ));
        listing_error(&hub, SOURCE)
    };
    let digest = "0".repeat(64);
    let outside = with(&format!(
        "{{\"rfilename\": \"en/train/../../../../x/0000.parquet\", \"size\": 1, \
         \"lfs\": {{\"sha256\": \"{digest}\", \"size\": 1}}}}"
    ));
    assert!(outside.contains("no shard"), "{outside}");
    for lfs in [
        "{\"sha256\": \"../../../x\", \"size\": 1}",
        "{\"sha256\": \"\", \"size\": 1}",
        "null",
    ] {
        let wrong = with(&format!(
            "{{\"rfilename\": \"en/train/0000.parquet\", \"lfs\": {lfs}}}"
        ));
        assert!(wrong.contains("no SHA-256"), "{wrong}");
    }
}

#[test]
fn a_listing_without_end() {
    let hub = hub(1, 1000);
    hub.break_once("/api", Fault::Endless);
    let long = listing_error(&hub, SOURCE);
    assert!(long.contains("longer than 100000 bytes"), "{long}");
    let announced = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{";
    hub.break_once("/api", Fault::Raw(announced.to_vec()));
    let long = listing_error(&hub, SOURCE);
    assert!(long.contains("longer than 100000 bytes"), "{long}");
    assert_eq!(hub.requests("/api").len(), 2);
}

#[test]
fn heads_that_are_none_break_nothing_and_show_no_token() {
    let head = |text: &str| format!("HTTP/1.1 {text}\r\nContent-Length: 0\r\n\r\n").into_bytes();
    let echo = format!("302 Found\r\nLocation: http://[{TOKEN}/");
    for raw in [
        head("302 Found"),
        head("302 Found\r\nLocation: \u{7f}\u{1}"),
        head("302 Found\r\nLocation: ::::"),
        head("302 Found\r\nLocation: file:///etc/passwd"),
        head("302 Found\r\nLocation: /datasets/owner/name/resolve/again"),
        head("206 Partial\r\nContent-Range: bytes 99999999999999999999-0/-1"),
        head("200 OK\r\nContent-Length: -5"),
        head("200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff"),
        head("200 OK\r\nETag: ../../x"),
        head("999 What"),
        head("100 Continue"),
        head("429 Slow\r\nRetry-After: -1\r\nX: 1"),
        head(&echo),
        vec![b'x'; 1 << 20],
    ] {
        let (hub, dir) = (hub(1, 1000), tempfile::tempdir().unwrap());
        let mut hasty = config(&hub, dir.path());
        hasty.retries = 1;
        hasty.idle_timeout = Duration::from_millis(300);
        let options = SourceOptions::default();
        let shards = Shards::resolve_with(SOURCE, &options, &hasty).unwrap();
        hub.break_always("/datasets", Fault::Raw(raw));
        message(shards.open(0, &[]));
        let left = names(&folder(dir.path()).join("blobs"));
        assert!(left.iter().all(|n| n.ends_with(".incomplete")), "{left:?}");
        hub.repair();
        shards.open(0, &[]).unwrap();
    }
}
