//! Tasks of continuations and of whole texts.

use retort_eval::tasks::Target;
use serde_json::json;

use super::{load, one};

#[test]
fn lambada_asks_the_last_word() {
    let row = json!({"text": "He said  it to Bob"});
    let (asks, _) = one("lambada_openai", "lambada_test.jsonl", row);
    assert_eq!(asks, [("He said  it to".to_owned(), " Bob".to_owned())]);
}

#[test]
fn wikitext_is_cut_into_pages_and_detokenized() {
    let raw = " \n = Page One = \n \n It was , he said ; \" quite \" good ( very ) . 3 @.@ 5 ° C .\n \
        = = Part = = \n \n the boys ' N cats 's [ x ] { y } 20 @-@ 30\n = Two = \n a : b\n";
    let loaded = load("wikitext", &[("wiki.test.raw", raw.to_owned())], 0);
    let texts: Vec<_> = loaded
        .items
        .iter()
        .map(|item| item.prompts[0].continuation.as_str())
        .collect();
    // As the harness's own function gives it.
    let first = "= Page One =\n\nIt was, he said; \"quite\" good (very). 3.5°C .\n== Part ==\n\n\
        the boys'N cats's [x] {y} 20-30";
    assert_eq!(texts, [&format!(" {first}"), " = Two =\na: b\n"]);
    // Counted before: what stands between white space, and bytes.
    let page = raw
        .split(" = Two")
        .next()
        .unwrap()
        .trim_start_matches(" \n");
    let page = page.trim_end_matches('\n');
    assert_eq!(page.len(), 138);
    let target = Target::Rolling {
        words: 45,
        bytes: 138,
    };
    assert_eq!(loaded.items[0].target, target);
}
