//! A tokenizer's tables, as a GGUF file stores them and as `export` gathers them.
//!
//! Token texts of ordinary tokens are in GPT-2's printable spelling of bytes (space is `Ġ`);
//! control and user-defined tokens are plain text. Ids are positions in `tokens`. Source: the
//! `tokenizer.ggml.*` keys of the GGUF specification.

use std::collections::HashSet;

use retort_tokenizer::SplitRule;

/// Where a file of retort's has the ends of an answer that no other key names.
pub(super) const EOS_IDS: &str = "retort.eos_token_ids";
/// The end of a message in Llama 3's form.
const EOM: &str = "<|eom_id|>";

/// What kind of token an id is: the values of `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum TokenType {
    /// Ordinary text, reached by merging bytes.
    Normal = 1,
    /// The unknown token.
    Unknown = 2,
    /// A control token such as `<|im_end|>`: matched in a prompt only where that is asked for.
    Control = 3,
    /// Text that is always one token, wherever it occurs.
    UserDefined = 4,
    /// A row of the embedding table that no text reaches.
    Unused = 5,
    /// A single byte spelled `<0xNN>`.
    Byte = 6,
}

impl TokenType {
    /// The kind with this number, if there is one.
    pub fn from_number(number: i32) -> Option<Self> {
        [
            Self::Normal,
            Self::Unknown,
            Self::Control,
            Self::UserDefined,
            Self::Unused,
            Self::Byte,
        ]
        .into_iter()
        .find(|kind| *kind as i32 == number)
    }
}

/// The tables of a byte-level BPE tokenizer.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    /// The text of every token, by id.
    pub tokens: Vec<String>,
    /// The kind of every token, by id.
    pub types: Vec<TokenType>,
    /// Pairs to merge, the most frequent first.
    pub merges: Vec<(String, String)>,
    /// How text is cut into words before merging.
    pub split: SplitRule,
    /// Whether text is brought into Unicode's normalization form C before it is cut.
    pub nfc: bool,
    /// The token that begins a text.
    pub bos: Option<u32>,
    /// The token that ends a text.
    pub eos: Option<u32>,
    /// The token that ends a turn of a conversation, where it is not `eos`.
    pub eot: Option<u32>,
    /// The token that ends a message whose turn goes on, such as a call of a tool.
    pub eom: Option<u32>,
    /// Further tokens that end an answer.
    pub more_ends: Vec<u32>,
    /// The token used for padding.
    pub pad: Option<u32>,
    /// Whether every text begins with `bos`.
    pub add_bos: bool,
}

impl Vocabulary {
    /// Checks that the tables agree with each other; the error names the GGUF key at fault.
    pub fn validate(&self) -> Result<(), String> {
        if self.tokens.is_empty() {
            return Err("tokenizer.ggml.tokens: it is empty".into());
        }
        if self.tokens.len() > u32::MAX as usize {
            return Err("tokenizer.ggml.tokens: more than 2^32 tokens".into());
        }
        if self.types.len() != self.tokens.len() {
            return Err(format!(
                "tokenizer.ggml.token_type: {} entries for {} tokens",
                self.types.len(),
                self.tokens.len()
            ));
        }
        for (name, id) in self.special_ids() {
            if id.is_some_and(|id| id as usize >= self.tokens.len()) {
                return Err(format!(
                    "tokenizer.ggml.{name}_token_id: it is not below the {} tokens",
                    self.tokens.len()
                ));
            }
        }
        if let Some(id) = (self.more_ends.iter()).find(|&&id| id as usize >= self.tokens.len()) {
            return Err(format!(
                "{EOS_IDS}: {id} is not below the {} tokens",
                self.tokens.len()
            ));
        }
        if self.add_bos && self.bos.is_none() {
            return Err("tokenizer.ggml.add_bos_token: there is no bos_token_id".into());
        }
        self.validate_merges()
    }

    /// The ids of special tokens by what GGUF calls them.
    pub(super) fn special_ids(&self) -> [(&'static str, Option<u32>); 5] {
        [
            ("bos", self.bos),
            ("eos", self.eos),
            ("eot", self.eot),
            ("eom", self.eom),
            ("padding", self.pad),
        ]
    }

    /// The ids that end an answer, each once: `eos` first, then `eot`, `eom` and the others.
    pub fn end_ids(&self) -> Vec<u32> {
        let named = [self.eos, self.eot, self.eom].into_iter().flatten();
        let mut ids = Vec::new();
        for id in named.chain(self.more_ends.iter().copied()) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }

    /// Makes each of `ids` an end of an answer, under the key that other readers of GGUF know where there is one:
    /// `<|eom_id|>` as `eom`, the first of the others as `eot`. `eos` must be set.
    pub fn set_end_ids(&mut self, ids: &[u32]) {
        (self.eot, self.eom) = (None, None);
        self.more_ends.clear();
        for &id in ids {
            if self.end_ids().contains(&id) {
                continue;
            }
            let is_eom = self.tokens.get(id as usize).is_some_and(|text| text == EOM);
            let place = if is_eom { &mut self.eom } else { &mut self.eot };
            match place {
                Some(_) => self.more_ends.push(id),
                None => *place = Some(id),
            }
        }
    }

    fn validate_merges(&self) -> Result<(), String> {
        let known: HashSet<&str> = self.tokens.iter().map(String::as_str).collect();
        let mut merged = String::new();
        for (rank, (left, right)) in self.merges.iter().enumerate() {
            merged.clear();
            merged.push_str(left);
            merged.push_str(right);
            for text in [left, right, &merged] {
                if !known.contains(text.as_str()) {
                    return Err(format!(
                        "tokenizer.ggml.merges[{rank}]: {text:?} is not among the tokens"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Splits one entry of `tokenizer.ggml.merges`, the two halves separated by a space.
    pub fn parse_merge(entry: &str) -> Option<(String, String)> {
        let first = entry.chars().next()?.len_utf8();
        let space = first + entry[first..].find(' ')?;
        let (left, right) = (&entry[..space], &entry[space + 1..]);
        (!right.is_empty()).then(|| (left.to_owned(), right.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_an_answer_go_under_the_keys_that_there_are() {
        let mut vocabulary = Vocabulary {
            tokens: ["a", "<|end|>", EOM, "<x>", "<y>"].map(String::from).into(),
            types: vec![TokenType::Control; 5],
            merges: Vec::new(),
            split: SplitRule::Gpt2,
            nfc: false,
            bos: None,
            eos: Some(1),
            eot: None,
            eom: None,
            more_ends: Vec::new(),
            pad: None,
            add_bos: false,
        };
        assert_eq!(vocabulary.end_ids(), [1]);
        for _ in 0..2 {
            vocabulary.set_end_ids(&[3, 1, 2, 4, 3]);
            assert_eq!((vocabulary.eot, vocabulary.eom), (Some(3), Some(2)));
            assert_eq!(vocabulary.more_ends, [4]);
            assert_eq!(vocabulary.end_ids(), [1, 3, 2, 4]);
        }
        vocabulary.validate().unwrap();
        vocabulary.more_ends.push(5);
        assert!(vocabulary.validate().unwrap_err().contains(EOS_IDS));
    }

    #[test]
    fn a_merge_is_two_halves_and_a_space() {
        let pair = |left: &str, right: &str| Some((left.to_owned(), right.to_owned()));
        assert_eq!(Vocabulary::parse_merge("Ġ t"), pair("Ġ", "t"));
        assert_eq!(Vocabulary::parse_merge("  t"), pair(" ", "t"));
        for bad in ["", "t", "t ", " t"] {
            assert_eq!(Vocabulary::parse_merge(bad), None, "{bad:?}");
        }
    }
}
