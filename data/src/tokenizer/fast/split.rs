//! Text to words: the published split expressions as scanners over UTF-8 bytes.
//!
//! Each rule returns the end of the word that starts at a place, exactly where the regular
//! expression's first match there would end. A word's length is found eight bytes at a time as
//! long as the text is ASCII letters. Every rule is linear in the text: a run of white space is
//! looked at three times at most.

use super::classes::{CLASSES, Classes, LETTER, LONGER, NEWLINE, NUMBER, NUMERIC, SPACE};

/// GPT-2's expression (`encoder.py`; `ByteLevel` with `use_regex`).
pub(super) const GPT2: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Qwen 2's, 2.5's and 3's: every digit by itself.
pub(in crate::tokenizer) const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Llama 3's: up to three digits together.
pub(super) const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A rule that cuts text into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// [`GPT2`].
    Gpt2,
    /// Every numeric character by itself, then [`GPT2`] on what lies between (SmolLM 2).
    DigitsGpt2,
    /// [`QWEN2`].
    Qwen2,
    /// [`LLAMA3`].
    Llama3,
}

impl Rule {
    /// Calls `word` with the start and the end of each word of `text`, in order; they cover it.
    #[inline]
    pub(super) fn words(self, text: &str, mut word: impl FnMut(&[u8], usize, usize)) {
        let scan = Scan {
            classes: &CLASSES,
            text: text.as_bytes(),
        };
        match self {
            Self::Gpt2 => scan.each(|at| scan.gpt2(at), word),
            Self::Qwen2 => scan.each(|at| scan.qwen(at, 1), word),
            Self::Llama3 => scan.each(|at| scan.qwen(at, 3), word),
            Self::DigitsGpt2 => {
                let mut done = 0;
                while done < text.len() {
                    let (bits, length) = scan.classes.at(scan.text, done);
                    let end = if bits & NUMERIC != 0 {
                        done + length
                    } else {
                        scan.skip(done + length, |bits| bits & NUMERIC == 0)
                    };
                    // The expression sees each piece as a text of its own.
                    let piece = Scan {
                        text: &scan.text[done..end],
                        ..scan
                    };
                    piece.each(|at| piece.gpt2(at), &mut word);
                    done = end;
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Scan<'t> {
    classes: &'t Classes,
    text: &'t [u8],
}

impl Scan<'_> {
    #[inline(always)]
    fn each(&self, end: impl Fn(usize) -> usize, mut word: impl FnMut(&[u8], usize, usize)) {
        let mut at = 0;
        while at < self.text.len() {
            let next = end(at);
            word(self.text, at, next);
            at = next;
        }
    }

    /// The bits and the length of the character at `at`; no bits and no length at the end.
    #[inline(always)]
    fn class(&self, at: usize) -> (u8, usize) {
        if at < self.text.len() {
            self.classes.at(self.text, at)
        } else {
            (0, 0)
        }
    }

    /// The end of the run of characters from `at` on whose bits `belong`.
    #[inline(always)]
    fn skip(&self, mut at: usize, belong: impl Fn(u8) -> bool) -> usize {
        while at < self.text.len() {
            let (bits, length) = self.classes.at(self.text, at);
            if !belong(bits) {
                break;
            }
            at += length;
        }
        at
    }

    /// `\p{L}*`.
    #[inline(always)]
    fn letters(&self, mut at: usize) -> usize {
        loop {
            while let Some(eight) = self.text.get(at..at + 8) {
                let run = ascii_letters(eight);
                at += run;
                if run < 8 {
                    break;
                }
            }
            // At a byte that is no ASCII letter, or within the last eight.
            let Some(&byte) = self.text.get(at) else {
                return at;
            };
            let bits = self.classes.ascii[usize::from(byte)];
            if bits & (LETTER | LONGER) == 0 {
                return at;
            }
            let (bits, length) = self.classes.at(self.text, at);
            if bits & LETTER == 0 {
                return at;
            }
            at += length;
        }
    }

    /// `[^\s\p{L}\p{N}]*`.
    #[inline(always)]
    fn others(&self, at: usize) -> usize {
        self.skip(at, |bits| bits & (SPACE | LETTER | NUMBER) == 0)
    }

    /// `\s+(?!\S)|\s+` at a white space, or, with `to_newline`, `\s*[\r\n]+` before them.
    #[inline]
    fn space(&self, at: usize, to_newline: bool) -> usize {
        let (mut end, mut last, mut newline) = (at, at, 0);
        while end < self.text.len() {
            let (bits, length) = self.classes.at(self.text, end);
            if bits & SPACE == 0 {
                break;
            }
            last = end;
            end += length;
            if bits & NEWLINE != 0 {
                newline = end;
            }
        }
        if to_newline && newline > 0 {
            newline
        } else if end == self.text.len() || last == at {
            end
        } else {
            last
        }
    }

    #[inline(always)]
    fn gpt2(&self, at: usize) -> usize {
        let first = self.text[at];
        let (bits, length) = self.classes.at(self.text, at);
        // An optional space, then a run of one kind.
        let (kind, start) = if first == b' ' {
            let (bits, length) = self.class(at + 1);
            if length == 0 {
                return at + 1;
            }
            (bits, at + 1 + length)
        } else {
            if first == b'\''
                && let Some(end) = self.contraction(at, false)
            {
                return end;
            }
            (bits, at + length)
        };
        if kind & LETTER != 0 {
            self.letters(start)
        } else if kind & NUMBER != 0 {
            self.skip(start, |bits| bits & NUMBER != 0)
        } else if kind & SPACE == 0 {
            self.others(start)
        } else {
            self.space(at, false)
        }
    }

    #[inline(always)]
    fn qwen(&self, at: usize, digits: usize) -> usize {
        let first = self.text[at];
        let (bits, length) = self.classes.at(self.text, at);
        let next = at + length;
        if bits & LETTER != 0 {
            return self.letters(next);
        }
        if bits & NUMBER != 0 {
            let mut end = next;
            for _ in 1..digits {
                let (bits, length) = self.class(end);
                if bits & NUMBER == 0 {
                    break;
                }
                end += length;
            }
            return end;
        }
        if first == b'\''
            && let Some(end) = self.contraction(at, true)
        {
            return end;
        }
        let (following, following_length) = self.class(next);
        if bits & NEWLINE == 0 && following & LETTER != 0 {
            return self.letters(next + following_length);
        }
        let others = if bits & SPACE == 0 {
            next
        } else if first == b' '
            && following_length > 0
            && following & (SPACE | LETTER | NUMBER) == 0
        {
            next + following_length
        } else {
            return self.space(at, true);
        };
        let mut end = self.others(others);
        while let Some(b'\r' | b'\n') = self.text.get(end) {
            end += 1;
        }
        end
    }

    /// The end of `'s|'t|'re|'ve|'m|'ll|'d` at an apostrophe. Without regard to case, U+017F (ſ)
    /// is an s.
    #[inline]
    fn contraction(&self, at: usize, any_case: bool) -> Option<usize> {
        let fold = |byte: u8| {
            if any_case {
                byte.to_ascii_lowercase()
            } else {
                byte
            }
        };
        let letter = |at: usize| self.text.get(at).copied().map(fold);
        let length = match (letter(at + 1)?, letter(at + 2)) {
            (b's' | b't' | b'm' | b'd', _) => 2,
            (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => 3,
            (0xc5, Some(0xbf)) if any_case => 3,
            _ => return None,
        };
        Some(at + length)
    }
}

/// How many of eight bytes are ASCII letters, from the first on.
#[inline(always)]
fn ascii_letters(eight: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let Ok(bytes) = <[u8; 8]>::try_from(eight) else {
        return 0;
    };
    let word = u64::from_le_bytes(bytes);
    let lower = (word | (0x20 * ONES)) & !HIGH;
    // The high bit of each byte: from `a` on, beyond `z`. No sum carries into the next byte.
    let from_a = lower + (0x80 - u64::from(b'a')) * ONES;
    let beyond_z = lower + (0x7f - u64::from(b'z')) * ONES;
    let letters = from_a & !beyond_z & !word & HIGH;
    ((letters ^ HIGH).trailing_zeros() / 8) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_counted_as_one_by_one() {
        for byte in 0..=255u8 {
            for place in 0..8 {
                let mut eight = *b"abcXYZmn";
                eight[place] = byte;
                let expected = eight
                    .iter()
                    .take_while(|byte| byte.is_ascii_alphabetic())
                    .count();
                assert_eq!(ascii_letters(&eight), expected, "{eight:?}");
            }
        }
    }
}
