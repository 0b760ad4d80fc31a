//! An answer's tokens as text, up to the first stop sequence.
//!
//! Text goes out as soon as it is certain: a character waits for its last byte, and what may be the
//! beginning of a stop sequence waits for the rest.

use retort_engine::tokenizer::{Tokenizer, Utf8Stream};

/// Makes text of tokens.
#[derive(Debug)]
pub(super) struct StopFilter {
    stream: Utf8Stream,
    stops: Vec<String>,
    /// Text that may be the beginning of a stop sequence.
    pending: String,
    stopped: bool,
}

impl StopFilter {
    pub fn new(stops: &[String]) -> Self {
        Self {
            stream: Utf8Stream::new(),
            stops: stops.to_vec(),
            pending: String::new(),
            stopped: false,
        }
    }

    /// The text that `id` makes certain. Control tokens have none.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        if self.stopped || tokenizer.is_control(id) {
            return String::new();
        }
        self.pending += &self.stream.push(tokenizer.bytes(id));
        self.take_certain()
    }

    /// Whether a stop sequence has been reached.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// The rest.
    pub fn finish(&mut self) -> String {
        if self.stopped {
            return String::new();
        }
        self.pending += &std::mem::take(&mut self.stream).finish();
        let text = self.take_certain();
        text + &std::mem::take(&mut self.pending)
    }

    /// Takes the text that can be no part of a stop sequence.
    fn take_certain(&mut self) -> String {
        let stops = self.stops.iter();
        if let Some(at) = stops.filter_map(|stop| self.pending.find(stop)).min() {
            self.stopped = true;
            self.pending.truncate(at);
            return std::mem::take(&mut self.pending);
        }
        let starts = self.stops.iter();
        let starts = starts.map(|stop| partial_match(&self.pending, stop));
        let certain = starts.min().unwrap_or(self.pending.len());
        let rest = self.pending.split_off(certain);
        std::mem::replace(&mut self.pending, rest)
    }
}

/// Where the longest suffix of `text` that is a prefix of `pattern` begins; `text.len()` if there
/// is none.
pub(super) fn partial_match(text: &str, pattern: &str) -> usize {
    let near = text.len().saturating_sub(pattern.len());
    let starts = text.char_indices().map(|(at, _)| at);
    let mut starts = starts.skip_while(|at| *at < near);
    let start = starts.find(|at| pattern.starts_with(&text[*at..]));
    start.unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use retort_engine::tokenizer::{TokenType, Vocabulary};
    use retort_tokenizer::SplitRule;

    fn letters() -> Tokenizer {
        let tokens: Vec<String> = ('a'..='z')
            .map(String::from)
            .chain(["<end>".into()])
            .collect();
        let mut types = vec![TokenType::Normal; 26];
        types.push(TokenType::Control);
        Tokenizer::new(Vocabulary {
            tokens,
            types,
            merges: Vec::new(),
            split: SplitRule::Gpt2,
            nfc: false,
            bos: None,
            eos: Some(26),
            eot: None,
            eom: None,
            more_ends: Vec::new(),
            pad: None,
            add_bos: false,
        })
        .unwrap()
    }

    /// The pieces that come out, and whether a stop was reached.
    fn pieces(text: &str, stops: &[&str]) -> (Vec<String>, bool) {
        let tokenizer = letters();
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut out = StopFilter::new(&stops);
        let mut pieces: Vec<String> = text
            .bytes()
            .map(|b| out.push(&tokenizer, u32::from(b - b'a')))
            .collect();
        assert_eq!(out.push(&tokenizer, 26), "");
        pieces.push(out.finish());
        (pieces, out.stopped())
    }

    #[test]
    fn a_possible_stop_sequence_waits() {
        let (out, stopped) = pieces("abcabd", &["abd"]);
        assert_eq!(out, ["", "", "abc", "", "", "", ""]);
        assert!(stopped);
        let (out, stopped) = pieces("xabab", &["abd", "abx"]);
        assert_eq!(out, ["x", "", "", "ab", "", "ab"]);
        assert!(!stopped);
        assert_eq!(pieces("abc", &[]).0, ["a", "b", "c", ""]);
    }

    #[test]
    fn the_first_stop_sequence_ends_the_text() {
        for (text, stops) in [("abcdef", ["cd", "bc"]), ("zab", ["b", "ab"])] {
            let (out, stopped) = pieces(text, &stops);
            assert!(stopped);
            assert_eq!(out.concat(), if text == "zab" { "z" } else { "a" });
        }
    }
}
