//! The byte-level BPE encoder: text to ids, with the ids of the `tokenizers` crate and without its
//! intermediate strings.
//!
//! ```text
//! text ─► added tokens ─► NFC if asked ─► split ─► cache of the thread ─► ids
//!         that are text   (most text is   rule     └► merges, for a word not in it
//!                          its own)
//! ```
//!
//! Ids depend on nothing but the text. One difference is intended: the regular expression engine
//! behind `tokenizers` gives up on more than a million white-space characters in a row and takes
//! the rest of the text for one word. Here the expression holds for any text.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use aho_corasick::AhoCorasick;
use unicode_normalization_alignments::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::merges::{Merges, Scratch};
use super::word_cache::{MOST_OWNERS, WordCache};
use crate::byte_alphabet::byte_alphabet;
use crate::split::SplitRule;
use crate::split::classes::{CLASSES, COMPOSING};

/// Bytes a token of text is at least reserved for.
const BYTES_PER_TOKEN: usize = 4;

/// What a byte-level BPE does to text before it merges bytes.
#[derive(Clone, Copy, Debug)]
pub struct BpeOptions {
    /// How text is cut into words.
    pub split: SplitRule,
    /// Whether text is brought into Unicode's normalization form C first.
    pub nfc: bool,
    /// Whether a word that is itself a token is taken whole, without replaying its merges.
    pub ignore_merges: bool,
}

/// A byte-level BPE encoder. Special tokens spelled out in the text are ordinary text.
///
/// Each thread that encodes keeps up to 8 MiB of words, for all encoders together.
///
/// ```
/// use retort_tokenizer::{BpeOptions, ByteLevelBpe, SplitRule};
///
/// let tokens = ["h", "e", "l", "o", "he", "ll", "hell"];
/// let vocabulary = tokens.iter().zip(0..).map(|(token, id)| (token.to_string(), id)).collect();
/// let merges = [("h", "e"), ("l", "l"), ("he", "ll")];
/// let options = BpeOptions { split: SplitRule::Gpt2, nfc: false, ignore_merges: false };
/// let bpe = ByteLevelBpe::new(options, &vocabulary, merges.into_iter())?;
/// let mut ids = Vec::new();
/// bpe.encode_into("hello", &mut ids)?;
/// assert_eq!(ids, [6, 3]);
/// # Ok::<(), String>(())
/// ```
pub struct ByteLevelBpe {
    /// Names this encoder's words in the caches; no two encoders of a process have the same.
    owner: u32,
    options: BpeOptions,
    merges: Merges,
    /// The ids of words that are tokens, with [`BpeOptions::ignore_merges`].
    whole: HashMap<Box<[u8]>, u32>,
    /// Added tokens matched in the text as given, and in the normalized text.
    pub(super) as_given: Option<Added>,
    pub(super) normalized: Option<Added>,
}

/// Added tokens that text is cut at, the leftmost and longest first.
pub(super) struct Added {
    pub(super) matcher: AhoCorasick,
    /// The id of each, or none for a special token: it hides what it overlaps and stays text.
    pub(super) ids: Vec<Option<u32>>,
}

/// What a thread keeps between calls.
struct ThreadState {
    cache: WordCache,
    scratch: Scratch,
}

thread_local! {
    static THREAD: RefCell<Option<ThreadState>> = const { RefCell::new(None) };
}

/// A number for a new encoder, or `None` when there are no more.
fn next_owner() -> Option<u32> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
        (next < MOST_OWNERS).then_some(next + 1)
    })
    .ok()
}

impl ByteLevelBpe {
    /// An encoder for the tokens of `vocabulary`, spelled in the characters of [`byte_alphabet`],
    /// and the pairs to merge, the first first; of two of the same pair the later one counts.
    ///
    /// A byte that the vocabulary lacks is left out of every text.
    ///
    /// # Errors
    ///
    /// The merge that makes no token, or that an id does not fit 31 bits.
    pub fn new<'m>(
        options: BpeOptions,
        vocabulary: &HashMap<String, u32>,
        merges: impl Iterator<Item = (&'m str, &'m str)>,
    ) -> Result<Self, String> {
        let id = |token: &str| match vocabulary.get(token) {
            Some(&id) if i32::try_from(id).is_ok() => Ok(id),
            Some(id) => Err(format!("the id {id} does not fit 31 bits")),
            None => Err(format!("its vocabulary lacks {token:?}")),
        };
        let alphabet = byte_alphabet();
        let bytes = alphabet.map(|character| id(character.encode_utf8(&mut [0; 4])).ok());
        let mut joined = String::new();
        let merges = merges
            .map(|(left, right)| {
                joined.clear();
                joined.push_str(left);
                joined.push_str(right);
                Ok((id(left)?, id(right)?, id(&joined)?))
            })
            .collect::<Result<Vec<_>, String>>()?;
        let mut whole = HashMap::new();
        if options.ignore_merges {
            let byte_of: HashMap<char, u8> = alphabet.into_iter().zip(0..=255).collect();
            whole.extend(vocabulary.iter().filter_map(|(token, &id)| {
                let bytes = token.chars().map(|c| byte_of.get(&c).copied());
                Some((bytes.collect::<Option<Vec<u8>>>()?.into(), id))
            }));
        }
        // The table of characters is made now, so that the first text does not wait for it.
        LazyLock::force(&CLASSES);
        Ok(Self {
            owner: next_owner().ok_or("too many tokenizers were opened")?,
            options,
            merges: Merges::new(bytes, &merges),
            whole,
            as_given: None,
            normalized: None,
        })
    }

    /// Appends the ids of `text` to `ids`; nothing is allocated once `ids` is large enough.
    ///
    /// # Errors
    ///
    /// For text of 4 GiB and more, with nothing appended.
    pub fn encode_into(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), String> {
        if u32::try_from(text.len()).is_err() {
            return Err("a text of 4 GiB or more is too long; split it".into());
        }
        ids.reserve(text.len() / BYTES_PER_TOKEN);
        THREAD.with_borrow_mut(|thread| {
            let thread = thread.get_or_insert_with(|| ThreadState {
                cache: WordCache::new(),
                scratch: Scratch::default(),
            });
            segments(self.as_given.as_ref(), text, |segment| match segment {
                Segment::Token(id) => ids.push(id),
                Segment::Text(text) => self.normalize(thread, text, ids),
            });
            thread.scratch.shrink();
        });
        Ok(())
    }

    fn normalize(&self, thread: &mut ThreadState, text: &str, ids: &mut Vec<u32>) {
        let composed: String;
        let text = if self.options.nfc && may_change(text) {
            composed = text.nfc().map(|(c, _)| c).collect();
            &composed
        } else {
            text
        };
        segments(self.normalized.as_ref(), text, |segment| match segment {
            Segment::Token(id) => ids.push(id),
            Segment::Text(text) => self.words(thread, text, ids),
        });
    }

    fn words(&self, thread: &mut ThreadState, text: &str, ids: &mut Vec<u32>) {
        self.options.split.words(text, |text, start, end| {
            if let Err(place) = thread.cache.find(self.owner, text, start, end, ids) {
                let word = &text[start..end];
                let made = match self.whole.get(word) {
                    Some(id) => std::slice::from_ref(id),
                    None => self.merges.encode(word, &mut thread.scratch),
                };
                ids.extend_from_slice(made);
                thread.cache.remember(self.owner, word, made, place);
            }
        });
    }
}

enum Segment<'t> {
    Token(u32),
    Text(&'t str),
}

/// `text` cut at the added tokens in it.
fn segments<'t>(added: Option<&Added>, text: &'t str, mut each: impl FnMut(Segment<'t>)) {
    let mut done = 0;
    if let Some(added) = added {
        for found in added.matcher.find_iter(text) {
            if let Some(id) = added.ids[found.pattern().as_usize()] {
                each(Segment::Text(&text[done..found.start()]));
                each(Segment::Token(id));
                done = found.end();
            }
        }
    }
    each(Segment::Text(&text[done..]));
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
