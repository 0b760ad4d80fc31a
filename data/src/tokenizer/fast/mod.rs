//! Text to ids without the intermediate strings of `tokenizers`, with the same ids.
//!
//! For byte-level BPE with one of the published split rules, which is every tokenizer this
//! software is used with; [`Fast::new`] says of any other why not, and `tokenizers` encodes.
//!
//! ```text
//! text ─► added tokens ─► NFC if asked ─► split ─► cache of the thread ─► ids
//!         that are text   (most text is   rule     └► merges, for a word not in it
//!                          its own)
//! ```
//!
//! Ids depend on nothing but the text. Where the two could part, by intent: the regular expression
//! engine behind `tokenizers` gives up on more than a million white-space characters in a row and
//! takes the rest of the text for one word; here the expression holds for any text.

mod cache;
mod classes;
mod file;
mod merges;
mod recognise;
mod split;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use aho_corasick::AhoCorasick;
use unicode_normalization_alignments::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use cache::{Cache, MOST_OWNERS};
use classes::{CLASSES, COMPOSING};
use merges::{Merges, Scratch};
pub(super) use recognise::{alphabet, recognise};
pub(super) use split::QWEN2;
use split::Rule;

/// Bytes a token of text is at least reserved for.
const BYTES_PER_TOKEN: usize = 4;

/// An encoder for one tokenizer.
pub(super) struct Fast {
    /// Names this encoder's words in the caches; no two encoders of a process have the same.
    owner: u32,
    rule: Rule,
    nfc: bool,
    merges: Merges,
    /// The ids of words that are tokens, where these come before merging (`ignore_merges`).
    whole: Option<HashMap<Box<[u8]>, u32>>,
    /// Added tokens matched in the text as given, and in the normalized text.
    as_given: Option<Added>,
    normalized: Option<Added>,
}

/// Added tokens that text is cut at, the leftmost and longest first.
struct Added {
    matcher: AhoCorasick,
    /// The id of each, or none for a special token: it hides what it overlaps and stays text.
    ids: Vec<Option<u32>>,
}

/// What a thread keeps between calls.
struct Thread {
    cache: Cache,
    scratch: Scratch,
}

thread_local! {
    static THREAD: RefCell<Option<Thread>> = const { RefCell::new(None) };
}

/// A number for a new encoder, or `None` when there are no more.
fn next_owner() -> Option<u32> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
        (next < MOST_OWNERS).then_some(next + 1)
    })
    .ok()
}

impl Fast {
    /// Appends the ids of `text`. Fails, with nothing appended, only for text of 4 GiB and more.
    pub(super) fn encode_into(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), String> {
        if u32::try_from(text.len()).is_err() {
            return Err("a text of 4 GiB or more is too long; split it".into());
        }
        ids.reserve(text.len() / BYTES_PER_TOKEN);
        THREAD.with_borrow_mut(|thread| {
            let thread = thread.get_or_insert_with(|| Thread {
                cache: Cache::new(),
                scratch: Scratch::default(),
            });
            pieces(self.as_given.as_ref(), text, |piece| match piece {
                Piece::Token(id) => ids.push(id),
                Piece::Text(text) => self.normalize(thread, text, ids),
            });
            thread.scratch.shrink();
        });
        Ok(())
    }

    fn normalize(&self, thread: &mut Thread, text: &str, ids: &mut Vec<u32>) {
        let composed: String;
        let text = if self.nfc && may_change(text) {
            composed = text.nfc().map(|(c, _)| c).collect();
            &composed
        } else {
            text
        };
        pieces(self.normalized.as_ref(), text, |piece| match piece {
            Piece::Token(id) => ids.push(id),
            Piece::Text(text) => self.words(thread, text, ids),
        });
    }

    fn words(&self, thread: &mut Thread, text: &str, ids: &mut Vec<u32>) {
        self.rule.words(text, |text, start, end| {
            if let Err(place) = thread.cache.find(self.owner, text, start, end, ids) {
                let word = &text[start..end];
                let known = self.whole.as_ref().and_then(|whole| whole.get(word));
                let made = match known {
                    Some(id) => std::slice::from_ref(id),
                    None => self.merges.encode(word, &mut thread.scratch),
                };
                ids.extend_from_slice(made);
                thread.cache.remember(self.owner, word, made, place);
            }
        });
    }
}

enum Piece<'t> {
    Token(u32),
    Text(&'t str),
}

/// `text` cut at the added tokens in it.
fn pieces<'t>(added: Option<&Added>, text: &'t str, mut each: impl FnMut(Piece<'t>)) {
    let mut done = 0;
    if let Some(added) = added {
        for found in added.matcher.find_iter(text) {
            if let Some(id) = added.ids[found.pattern().as_usize()] {
                each(Piece::Text(&text[done..found.start()]));
                each(Piece::Token(id));
                done = found.end();
            }
        }
    }
    each(Piece::Text(&text[done..]));
}

/// Whether NFC may change `text`.
fn may_change(text: &str) -> bool {
    /// The first byte of U+0300, the first character that composes.
    const FIRST: u8 = 0xcc;
    const CHUNK: usize = 64;
    let bytes = text.as_bytes();
    let composing = bytes.chunks(CHUNK).enumerate().any(|(number, chunk)| {
        chunk.iter().fold(0, |most, &byte| most.max(byte)) >= FIRST
            && chunk.iter().enumerate().any(|(i, &byte)| {
                byte >= FIRST && CLASSES.at(bytes, number * CHUNK + i).0 & COMPOSING != 0
            })
    });
    composing && is_nfc_quick(text.chars()) != IsNormalized::Yes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_below_the_first_combining_character_composes() {
        for c in ('\0'..='\u{10ffff}').filter(|c| *c < '\u{300}') {
            let mut bytes = [0; 4];
            let text = c.encode_utf8(&mut bytes);
            assert_eq!(CLASSES.at(text.as_bytes(), 0).0 & COMPOSING, 0, "{c:?}");
            assert!(text.as_bytes()[0] < 0xcc, "{c:?}");
        }
        assert!(may_change("e\u{301}") && !may_change("\u{e9}\u{4e2d}"));
    }
}
