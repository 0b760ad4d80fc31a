//! Text to words: the published split expressions as scanners over UTF-8 bytes.
//!
//! Each rule returns the end of the word that starts at a place, exactly where the regular
//! expression's first match there would end. A word's length is found eight bytes at a time as
//! long as the text is ASCII letters. Every rule is linear in the text: a run of white space is
//! looked at three times at most.

use super::classes::{
    CLASSES, Classes, LETTER, LONGER, NEWLINE, NUMBER, NUMERIC, PUNCTUATION, SPACE,
};
use super::rule::SplitRule;

impl SplitRule {
    /// Calls `word` with the start and the end of each word of `text`, in order; they cover it.
    #[inline]
    pub(crate) fn words(self, text: &str, mut word: impl FnMut(&[u8], usize, usize)) {
        let scan = Scan {
            classes: &CLASSES,
            text: text.as_bytes(),
        };
        match self {
            Self::Gpt2 => scan.each(|at| scan.gpt2(at), word),
            Self::Qwen2 => scan.each(|at| scan.qwen(at, 1), word),
            Self::Llama3 => scan.each(|at| scan.qwen(at, 3), word),
            Self::DigitsGpt2 => scan.pieces(
                |bits| bits & NUMERIC != 0,
                |piece, is_digit| {
                    if is_digit {
                        piece.each(|at| at + piece.class(at).1, &mut word);
                    } else {
                        piece.each(|at| piece.gpt2(at), &mut word);
                    }
                },
            ),
            Self::PunctuationGpt2 => scan.pieces(
                |bits| bits & PUNCTUATION != 0,
                |piece, is_punctuation| {
                    if is_punctuation {
                        return word(piece.text, 0, piece.text.len());
                    }
                    let cut = |text: &[u8], start: usize, end: usize| {
                        let text = &text[start..end];
                        numbers(Scan { text, ..piece }, &mut word);
                    };
                    piece.each(|at| piece.gpt2(at), cut);
                },
            ),
        }
    }
}

/// A word of GPT-2's expression cut at runs of numbers, and these at groups of three ASCII digits.
fn numbers(scan: Scan, word: &mut impl FnMut(&[u8], usize, usize)) {
    scan.pieces(
        |bits| bits & NUMBER != 0,
        |piece, is_number| {
            let text = piece.text;
            let mut done = 0;
            while is_number
                && let Some(at) =
                    (text[done..].windows(3)).position(|three| three.iter().all(u8::is_ascii_digit))
            {
                if at > 0 {
                    word(text, done, done + at);
                }
                word(text, done + at, done + at + 3);
                done += at + 3;
            }
            if done < text.len() {
                word(text, done, text.len());
            }
        },
    );
}

#[derive(Clone, Copy)]
struct Scan<'t> {
    classes: &'t Classes,
    text: &'t [u8],
}

impl<'t> Scan<'t> {
    /// Calls `piece` with each longest run of characters whose bits all `belong`, or all do not,
    /// and whether they do. An expression sees each piece as a text of its own.
    #[inline(always)]
    fn pieces(&self, belong: impl Fn(u8) -> bool, mut piece: impl FnMut(Scan<'t>, bool)) {
        let mut done = 0;
        while done < self.text.len() {
            let inside = belong(self.class(done).0);
            let end = self.skip(done, |bits| belong(bits) == inside);
            let text = &self.text[done..end];
            piece(Scan { text, ..*self }, inside);
            done = end;
        }
    }

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

    fn words(rule: SplitRule, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        rule.words(text, |text, start, end| {
            words.push(String::from_utf8(text[start..end].to_vec()).unwrap());
        });
        words
    }

    #[test]
    fn each_rule_cuts_numbers_its_own_way() {
        let text = "in 2025!";
        let each = ["in", " ", "2", "0", "2", "5", "!"];
        assert_eq!(words(SplitRule::Gpt2, text), ["in", " 2025", "!"]);
        assert_eq!(words(SplitRule::DigitsGpt2, text), each);
        let three = ["in", " ", "202", "5", "!"];
        assert_eq!(words(SplitRule::Llama3, text), three);
        assert_eq!(words(SplitRule::Qwen2, text), each);
        assert_eq!(words(SplitRule::PunctuationGpt2, text), three);
    }

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
