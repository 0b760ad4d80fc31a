//! What the split rules ask of a character, as one table over all of Unicode.
//!
//! Letters, numbers and white space come from `regex-syntax`, the crate whose tables the regular
//! expressions of `tokenizers` are compiled from; numeric characters from the standard library, as
//! in its `Digits`; normalization from `unicode-normalization-alignments`, as in its `NFC`. So the
//! Unicode versions are those of the reference, each in its own place.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};
use unicode_normalization_alignments::char::canonical_combining_class;
use unicode_normalization_alignments::{IsNormalized, is_nfc_quick};

/// `\p{L}`.
pub(crate) const LETTER: u8 = 1;
/// `\p{N}`.
pub(crate) const NUMBER: u8 = 2;
/// `\s`.
pub(crate) const SPACE: u8 = 4;
/// `[\r\n]`; also [`SPACE`].
pub(crate) const NEWLINE: u8 = 8;
/// `char::is_numeric`.
pub(crate) const NUMERIC: u8 = 16;
/// `[\p{P}\$\+<=>\^~\|]`.
pub(crate) const PUNCTUATION: u8 = 64;
/// Text without such a character is its own NFC.
pub(crate) const COMPOSING: u8 = 32;
/// In [`Classes::ascii`]: the byte begins a longer character.
pub(crate) const LONGER: u8 = 128;

const PAGE: usize = 256;

/// The class bits of every character.
pub(crate) struct Classes {
    /// By byte: an ASCII character's bits, or [`LONGER`].
    pub(crate) ascii: [u8; 256],
    /// The page of each 256 code points; equal pages are stored once.
    index: Vec<u16>,
    pages: Vec<[u8; PAGE]>,
}

/// The table, made on first use (tens of milliseconds, 70 kB).
pub(crate) static CLASSES: LazyLock<Classes> = LazyLock::new(Classes::new);

impl Classes {
    fn new() -> Self {
        let mut flat = vec![0u8; char::MAX as usize + 1];
        let expressions = [
            (r"\p{L}", LETTER),
            (r"\p{N}", NUMBER),
            (r"\s", SPACE),
            (r"[\p{P}\$\+<=>\^~\|]", PUNCTUATION),
        ];
        for (expression, bit) in expressions {
            for (first, last) in ranges(expression) {
                flat[first as usize..=last as usize]
                    .iter_mut()
                    .for_each(|bits| *bits |= bit);
            }
        }
        flat['\r' as usize] |= NEWLINE;
        flat['\n' as usize] |= NEWLINE;
        for (code, bits) in flat.iter_mut().enumerate() {
            let Some(c) = char::from_u32(code as u32) else {
                continue;
            };
            if c.is_numeric() {
                *bits |= NUMERIC;
            }
            let inert = c.is_ascii()
                || canonical_combining_class(c) == 0
                    && is_nfc_quick(std::iter::once(c)) == IsNormalized::Yes;
            if !inert {
                *bits |= COMPOSING;
            }
        }
        let mut pages: Vec<[u8; PAGE]> = Vec::new();
        let index = flat
            .as_chunks::<PAGE>()
            .0
            .iter()
            .map(|page| {
                let at = pages.iter().position(|known| known == page);
                at.unwrap_or_else(|| {
                    pages.push(*page);
                    pages.len() - 1
                }) as u16
            })
            .collect();
        let ascii = std::array::from_fn(|byte| if byte < 128 { flat[byte] } else { LONGER });
        Self {
            ascii,
            index,
            pages,
        }
    }

    /// The bits of the character at `at`, and the length of its UTF-8 encoding.
    ///
    /// `text` is UTF-8 and `at` the start of a character.
    #[inline(always)]
    pub(crate) fn at(&self, text: &[u8], at: usize) -> (u8, usize) {
        let bits = self.ascii[usize::from(text[at])];
        if bits != LONGER {
            return (bits, 1);
        }
        self.longer(text, at)
    }

    #[inline]
    fn longer(&self, text: &[u8], at: usize) -> (u8, usize) {
        let low = |i: usize| usize::from(text[at + i] & 0x3f);
        let lead = usize::from(text[at]);
        let (code, length) = match lead {
            0..0xe0 => ((lead & 0x1f) << 6 | low(1), 2),
            0xe0..0xf0 => ((lead & 0x0f) << 12 | low(1) << 6 | low(2), 3),
            _ => ((lead & 0x07) << 18 | low(1) << 12 | low(2) << 6 | low(3), 4),
        };
        let page = usize::from(self.index[code / PAGE]);
        (self.pages[page][code % PAGE], length)
    }
}

/// The ranges of a class expression, as `regex-syntax` knows it.
fn ranges(expression: &str) -> Vec<(char, char)> {
    let hir = regex_syntax::parse(expression).expect("a constant expression");
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => class
            .ranges()
            .iter()
            .map(|range| (range.start(), range.end()))
            .collect(),
        _ => unreachable!("the constant expressions are Unicode classes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SmolLM's digits are `char::is_numeric` in a `tokenizer.json`, `\p{N}` in llama.cpp. The standard library may know
    /// a newer Unicode than the expressions, so it may have numbers that they do not have yet, never fewer.
    #[test]
    fn numbers_of_the_expressions_are_numeric_in_the_standard_library() {
        for c in '\0'..=char::MAX {
            let (bits, _) = CLASSES.at(c.encode_utf8(&mut [0; 4]).as_bytes(), 0);
            assert!(bits & NUMBER == 0 || bits & NUMERIC != 0, "{c:?}");
        }
    }
}
