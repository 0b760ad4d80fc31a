//! Pre-tokenization: the regular expressions that cut text into words before BPE merges them.
//!
//! A GGUF file names its rule in `tokenizer.ggml.pre`; a Hugging Face `tokenizer.json` spells it
//! out in `pre_tokenizer`. [`Pre`] is the one place where both meet: it builds the rule from the
//! name, and finds the name for a spelled-out rule. The expressions are those that the models'
//! authors published (GPT-2's `encoder.py`, Llama 3's and Qwen 2's `tokenizer.json`); `default` is
//! what llama.cpp applies to files whose rule is the literal word `default`.

use serde_json::{Value, json};
use tokenizers::NormalizerWrapper;
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::{
    PreTokenizerWrapper, byte_level::ByteLevel, sequence::Sequence, split::Split,
    split::SplitPattern,
};
use tokenizers::tokenizer::SplitDelimiterBehavior;

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A pre-tokenization rule that this engine knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pre {
    /// GPT-2's expression alone.
    Gpt2,
    /// Every digit by itself, then GPT-2's expression.
    SmolLm,
    /// Llama 3's expression: numbers in groups of up to three digits.
    LlamaBpe,
    /// Qwen 2's expression: every digit by itself.
    Qwen2,
    /// Punctuation, GPT-2's expression, numbers, groups of three digits, in that order.
    Default,
}

impl Pre {
    const ALL: [Self; 5] = [
        Self::Gpt2,
        Self::SmolLm,
        Self::LlamaBpe,
        Self::Qwen2,
        Self::Default,
    ];

    /// The rule that `tokenizer.ggml.pre` names, or `None` if this engine has no such rule.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|pre| pre.name() == name)
    }

    /// The value of `tokenizer.ggml.pre` for this rule.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt-2",
            Self::SmolLm => "smollm",
            Self::LlamaBpe => "llama-bpe",
            Self::Qwen2 => "qwen2",
            Self::Default => "default",
        }
    }

    /// Every name that [`Pre::from_name`] accepts, for error messages.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Whether a word that is itself a token is taken whole, without replaying its merges.
    pub fn ignore_merges(self) -> bool {
        self == Self::LlamaBpe
    }

    /// Whether text starts with the BOS token when the file does not say.
    pub fn add_bos_by_default(self) -> bool {
        self == Self::LlamaBpe
    }

    fn expressions(self) -> &'static [&'static str] {
        match self {
            Self::Gpt2 => &[GPT2],
            Self::SmolLm => &[r"\p{N}", GPT2],
            Self::LlamaBpe => &[LLAMA3],
            Self::Qwen2 => &[QWEN2],
            Self::Default => &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
        }
    }

    /// The rule as a pre-tokenizer, the mapping of bytes to printable characters included.
    pub fn build(self) -> tokenizers::Result<PreTokenizerWrapper> {
        let mut steps = Vec::new();
        for expression in self.expressions() {
            let split = Split::new(
                SplitPattern::Regex((*expression).to_owned()),
                SplitDelimiterBehavior::Isolated,
                false,
            )?;
            steps.push(PreTokenizerWrapper::Split(split));
        }
        let byte_level = ByteLevel::new(false, false, false);
        steps.push(PreTokenizerWrapper::ByteLevel(byte_level));
        Ok(PreTokenizerWrapper::Sequence(Sequence::new(steps)))
    }

    /// What happens to a text before it is cut: Qwen's tokenizers bring it into Unicode's form C.
    /// A GGUF file has no word for that; it goes with the rule. (llama.cpp leaves it out, so that
    /// its ids differ for texts with decomposed characters.)
    pub fn normalizer(self) -> Option<NormalizerWrapper> {
        (self == Self::Qwen2).then_some(NormalizerWrapper::NFC(NFC))
    }

    /// [`Pre::normalizer`] as a `tokenizer.json`'s `normalizer`.
    pub fn normalizer_json(self) -> Value {
        match self.normalizer() {
            Some(_) => json!({"type": "NFC"}),
            None => Value::Null,
        }
    }

    /// The rule as a `tokenizer.json`'s `pre_tokenizer`, spelled as the models' authors do.
    pub fn to_hf(self) -> Value {
        let byte_level = |use_regex: bool| {
            json!({
                "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                "use_regex": use_regex
            })
        };
        let split = |regex: &&str| {
            json!({
                "type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated",
                "invert": false
            })
        };
        let mut steps: Vec<Value> = match self {
            Self::Gpt2 => return byte_level(true),
            Self::SmolLm => vec![json!({"type": "Digits", "individual_digits": true})],
            _ => self.expressions().iter().map(split).collect(),
        };
        steps.push(byte_level(self == Self::SmolLm));
        json!({"type": "Sequence", "pretokenizers": steps})
    }

    /// The rule that a `tokenizer.json`'s `pre_tokenizer` spells out, or a sentence saying what
    /// in it is not known.
    pub fn from_hf(pre_tokenizer: &Value) -> Result<Self, String> {
        let mut steps = Vec::new();
        flatten(pre_tokenizer, &mut steps);
        let mut found = Vec::new();
        let mut byte_level = false;
        for step in &steps {
            let kind = step["type"].as_str().unwrap_or("null");
            if byte_level {
                return Err(format!("a {kind} step after ByteLevel is not supported"));
            }
            match kind {
                "ByteLevel" => {
                    if step["add_prefix_space"].as_bool().unwrap_or(true) {
                        return Err("ByteLevel with add_prefix_space is not supported".into());
                    }
                    if step["use_regex"].as_bool().unwrap_or(true) {
                        found.push(GPT2.to_owned());
                    }
                    byte_level = true;
                }
                "Digits" if step["individual_digits"].as_bool() == Some(true) => {
                    found.push(r"\p{N}".to_owned());
                }
                "Split" => found.push(split_expression(step)?),
                other => return Err(format!("a {other} step is not supported")),
            }
        }
        if !byte_level {
            return Err("it does not end in ByteLevel".into());
        }
        Self::ALL
            .into_iter()
            .find(|pre| pre.expressions() == found)
            .ok_or_else(|| format!("its expressions {found:?} are none of: {}", Self::names()))
    }
}

fn flatten<'a>(step: &'a Value, into: &mut Vec<&'a Value>) {
    match step["pretokenizers"].as_array() {
        Some(inner) if step["type"] == "Sequence" => {
            inner.iter().for_each(|step| flatten(step, into));
        }
        _ => into.push(step),
    }
}

fn split_expression(step: &Value) -> Result<String, String> {
    if step["behavior"] != "Isolated" || step["invert"] == true {
        return Err("a Split that is not Isolated is not supported".into());
    }
    match step["pattern"]["Regex"].as_str() {
        Some(regex) => Ok(regex.to_owned()),
        None => Err("a Split without a Regex is not supported".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    fn words(pre: Pre, text: &str) -> Vec<String> {
        let mut string = PreTokenizedString::from(text);
        pre.build().unwrap().pre_tokenize(&mut string).unwrap();
        string
            .get_splits(OffsetReferential::Original, OffsetType::Byte)
            .into_iter()
            .map(|(word, ..)| word.replace('Ġ', " "))
            .collect()
    }

    #[test]
    fn each_rule_cuts_numbers_its_own_way() {
        let text = "in 2025!";
        assert_eq!(words(Pre::Gpt2, text), ["in", " 2025", "!"]);
        assert_eq!(
            words(Pre::SmolLm, text),
            ["in", " ", "2", "0", "2", "5", "!"]
        );
        assert_eq!(words(Pre::LlamaBpe, text), ["in", " ", "202", "5", "!"]);
        assert_eq!(
            words(Pre::Qwen2, text),
            ["in", " ", "2", "0", "2", "5", "!"]
        );
        assert_eq!(words(Pre::Default, text), ["in", " ", "202", "5", "!"]);
    }

    #[test]
    fn names_round_trip() {
        for pre in Pre::ALL {
            assert_eq!(Pre::from_name(pre.name()), Some(pre));
        }
        assert_eq!(Pre::from_name("tekken"), None);
    }

    #[test]
    fn every_rule_is_recognised_as_it_is_spelled_out() {
        for pre in Pre::ALL {
            assert_eq!(Pre::from_hf(&pre.to_hf()), Ok(pre));
        }
    }

    #[test]
    fn published_tokenizer_json_rules_are_recognised() {
        let byte_level = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
        let split = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        let sequence = |steps: Vec<Value>| json!({"type": "Sequence", "pretokenizers": steps});
        assert_eq!(Pre::from_hf(&byte_level(true)), Ok(Pre::Gpt2));
        let digits = json!({"type": "Digits", "individual_digits": true});
        assert_eq!(
            Pre::from_hf(&sequence(vec![digits, byte_level(true)])),
            Ok(Pre::SmolLm)
        );
        for (regex, pre) in [(LLAMA3, Pre::LlamaBpe), (QWEN2, Pre::Qwen2)] {
            let steps = vec![split(regex), byte_level(false)];
            assert_eq!(Pre::from_hf(&sequence(steps)), Ok(pre));
        }
    }

    #[test]
    fn an_unknown_tokenizer_json_rule_is_an_error() {
        assert!(Pre::from_hf(&Value::Null).is_err());
        assert!(Pre::from_hf(&json!({"type": "Metaspace"})).is_err());
        let prefix = json!({"type": "ByteLevel", "add_prefix_space": true});
        assert!(Pre::from_hf(&prefix).is_err());
    }
}
