//! The names of split rules in a GGUF file's `tokenizer.ggml.pre`, and what a name says besides.
//!
//! A GGUF file has no keys for normalization and for whether words that are tokens are taken whole.
//! Both go with the name of the rule; files of retort's say where normalization does not.

use retort_tokenizer::{BpeOptions, SplitRule};

const NAMES: [(SplitRule, &str); 5] = [
    (SplitRule::Gpt2, "gpt-2"),
    (SplitRule::DigitsGpt2, "smollm"),
    (SplitRule::Llama3, "llama-bpe"),
    (SplitRule::Qwen2, "qwen2"),
    (SplitRule::PunctuationGpt2, "default"),
];

/// Other names of the same rules in llama.cpp's `llama-vocab.cpp`, with nothing else that depends on them.
const ALIASES: [(SplitRule, &[&str]); 4] = [
    (
        SplitRule::Gpt2,
        &[
            "phi-2",
            "jina-es",
            "jina-de",
            "jina-v2-es",
            "jina-v2-de",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "exaone4",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
        ],
    ),
    (
        SplitRule::DigitsGpt2,
        &[
            "refact",
            "starcoder",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
        ],
    ),
    (
        SplitRule::Llama3,
        &[
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
    ),
    (
        SplitRule::Qwen2,
        &[DEEPSEEK_QWEN, "kormo", "f2llmv2", "megrez", "stablelm2"],
    ),
];
/// The name in files of DeepSeek-R1-Distill-Qwen, whose tokenizers are Qwen's.
const DEEPSEEK_QWEN: &str = "deepseek-r1-qwen";

/// The rule that `tokenizer.ggml.pre` names, or `None` if this engine has no such rule.
pub fn from_name(name: &str) -> Option<SplitRule> {
    let own = NAMES.iter().find(|(_, known)| *known == name);
    let alias = || ALIASES.iter().find(|(_, names)| names.contains(&name));
    own.map(|known| known.0)
        .or_else(|| alias().map(|known| known.0))
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

/// Whether text is brought into Unicode's form C where the file names this rule and does not say. Qwen's tokenizers
/// do; llama.cpp leaves that out, so its ids differ for texts with decomposed characters.
pub fn nfc_by_default(name: &str) -> bool {
    name == DEEPSEEK_QWEN || name == self::name(SplitRule::Qwen2)
}

/// Whether words that are tokens are taken whole under `rule`.
pub fn ignores_merges(rule: SplitRule) -> bool {
    rule == SplitRule::Llama3
}

/// What the encoder does for `rule`, with or without normalization.
pub fn options(rule: SplitRule, nfc: bool) -> BpeOptions {
    BpeOptions {
        split: rule,
        nfc,
        ignore_merges: ignores_merges(rule),
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

    #[test]
    fn other_names_of_a_rule_are_known() {
        for (name, rule) in [
            ("deepseek-r1-qwen", SplitRule::Qwen2),
            ("llama3", SplitRule::Llama3),
            ("phi-2", SplitRule::Gpt2),
        ] {
            assert_eq!(from_name(name), Some(rule), "{name}");
        }
        let mut all = ALIASES.iter().flat_map(|(_, names)| *names);
        let twice = |name: &str| NAMES.iter().any(|(_, own)| *own == name);
        assert!(!all.any(|name| twice(name)));
        assert!(nfc_by_default("qwen2") && nfc_by_default("deepseek-r1-qwen"));
        assert!(!nfc_by_default("kormo") && !nfc_by_default("gpt-2"));
    }
}
