//! The names of split rules in a GGUF file's `tokenizer.ggml.pre`, and what a name says besides.
//!
//! A GGUF file has no keys for normalization and for whether words that are tokens are taken whole.
//! Both go with the name of the rule.

use retort_tokenizer::{BpeOptions, SplitRule};

const NAMES: [(SplitRule, &str); 5] = [
    (SplitRule::Gpt2, "gpt-2"),
    (SplitRule::DigitsGpt2, "smollm"),
    (SplitRule::Llama3, "llama-bpe"),
    (SplitRule::Qwen2, "qwen2"),
    (SplitRule::PunctuationGpt2, "default"),
];

/// The rule that `tokenizer.ggml.pre` names, or `None` if this engine has no such rule.
pub fn from_name(name: &str) -> Option<SplitRule> {
    let known = NAMES.iter().find(|(_, known)| *known == name)?;
    Some(known.0)
}

/// The value of `tokenizer.ggml.pre` for `rule`.
pub fn name(rule: SplitRule) -> &'static str {
    NAMES
        .iter()
        .find(|(known, _)| *known == rule)
        .map_or("", |(_, name)| name)
}

/// Every name that [`from_name`] accepts, for error messages.
pub fn names() -> String {
    NAMES.map(|(_, name)| name).join(", ")
}

/// What the encoder does for `rule`. Qwen's tokenizers bring text into Unicode's form C; llama.cpp
/// leaves that out, so its ids differ for texts with decomposed characters.
pub fn options(rule: SplitRule) -> BpeOptions {
    BpeOptions {
        split: rule,
        nfc: rule == SplitRule::Qwen2,
        ignore_merges: rule == SplitRule::Llama3,
    }
}

/// Whether text starts with the BOS token when the file does not say.
pub fn add_bos_by_default(rule: SplitRule) -> bool {
    rule == SplitRule::Llama3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_split_rules_round_trip() {
        for rule in SplitRule::ALL {
            assert_eq!(from_name(name(rule)), Some(rule));
        }
        assert_eq!(from_name("tekken"), None);
    }
}
