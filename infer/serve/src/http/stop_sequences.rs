//! An answer's tokens as text, up to the first stop sequence.
//!
//! Text goes out as soon as it is certain: a character waits for its last byte, and what may be the beginning of a stop
//! sequence waits for the rest.

use retort_engine::tokenizer::{Tokenizer, Utf8Stream};

/// Makes text of tokens.
#[derive(Debug)]
pub(super) struct Text {
    stream: Utf8Stream,
    stops: Vec<String>,
    held: String,
    stopped: bool,
}

impl Text {
    pub fn new(stops: &[String]) -> Self {
        Self {
            stream: Utf8Stream::new(),
            stops: stops.to_vec(),
            held: String::new(),
            stopped: false,
        }
    }

    /// The text that `id` makes certain. Control tokens have none.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        if self.stopped || tokenizer.is_control(id) {
            return String::new();
        }
        self.held += &self.stream.push(tokenizer.bytes(id));
        self.certain()
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
        self.held += &std::mem::take(&mut self.stream).finish();
        let text = self.certain();
        text + &std::mem::take(&mut self.held)
    }

    /// Takes out of what is held what can be no part of a stop sequence.
    fn certain(&mut self) -> String {
        let found = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()))
            .min();
        if let Some(at) = found {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let begins_a_stop = |at: &usize| {
            let rest = &self.held[*at..];
            self.stops.iter().any(|stop| stop.starts_with(rest))
        };
        let starts = self.held.char_indices().map(|(at, _)| at);
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let near = self.held.len().saturating_sub(longest);
        let keep = starts
            .filter(|at| *at >= near)
            .find(begins_a_stop)
            .unwrap_or(self.held.len());
        let rest = self.held.split_off(keep);
        std::mem::replace(&mut self.held, rest)
    }
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
            bos: None,
            eos: Some(26),
            eot: None,
            pad: None,
            add_bos: false,
        })
        .unwrap()
    }

    /// The pieces that come out, and whether a stop was reached.
    fn pieces(text: &str, stops: &[&str]) -> (Vec<String>, bool) {
        let tokenizer = letters();
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut out = Text::new(&stops);
        let mut pieces: Vec<String> = text
            .bytes()
            .map(|b| out.push(&tokenizer, u32::from(b - b'a')))
            .collect();
        assert_eq!(out.push(&tokenizer, 26), "");
        pieces.push(out.finish());
        (pieces, out.stopped())
    }

    #[test]
    fn what_may_be_a_stop_waits() {
        let (out, stopped) = pieces("abcabd", &["abd"]);
        assert_eq!(out, ["", "", "abc", "", "", "", ""]);
        assert!(stopped);
        let (out, stopped) = pieces("xabab", &["abd", "abx"]);
        assert_eq!(out, ["x", "", "", "ab", "", "ab"]);
        assert!(!stopped);
        assert_eq!(pieces("abc", &[]).0, ["a", "b", "c", ""]);
    }

    #[test]
    fn the_first_stop_counts() {
        for (text, stops) in [("abcdef", ["cd", "bc"]), ("zab", ["b", "ab"])] {
            let (out, stopped) = pieces(text, &stops);
            assert!(stopped);
            assert_eq!(out.concat(), if text == "zab" { "z" } else { "a" });
        }
    }
}
