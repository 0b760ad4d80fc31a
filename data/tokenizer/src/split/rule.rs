//! The published split rules, as expressions and as the `pre_tokenizer` of a `tokenizer.json`.

use serde_json::{Value, json};

/// GPT-2's expression (`encoder.py`; `ByteLevel` with `use_regex`).
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Qwen 2's, 2.5's and 3's: every digit by itself.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Llama 3's: up to three digits together.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A rule that cuts text into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitRule {
    /// GPT-2's expression.
    Gpt2,
    /// Every digit by itself, then GPT-2's expression on what lies between (SmolLM 2).
    DigitsGpt2,
    /// Llama 3's expression: numbers in groups of up to three digits.
    Llama3,
    /// The expression of Qwen 2, 2.5 and 3: every digit by itself.
    Qwen2,
    /// Punctuation, GPT-2's expression, numbers, groups of three ASCII digits, one after the
    /// other: what llama.cpp applies to a GGUF file whose rule is `default`.
    PunctuationGpt2,
}

impl SplitRule {
    /// Every rule.
    pub const ALL: [Self; 5] = [
        Self::Gpt2,
        Self::DigitsGpt2,
        Self::Llama3,
        Self::Qwen2,
        Self::PunctuationGpt2,
    ];

    /// The expressions, each applied to the pieces that the one before leaves.
    pub fn expressions(self) -> &'static [&'static str] {
        match self {
            Self::Gpt2 => &[GPT2],
            Self::DigitsGpt2 => &[r"\p{N}", GPT2],
            Self::Llama3 => &[LLAMA3],
            Self::Qwen2 => &[QWEN2],
            Self::PunctuationGpt2 => &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
        }
    }

    /// The rule as a `tokenizer.json`'s `pre_tokenizer`, spelled as the models' authors do.
    pub fn to_json(self) -> Value {
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
            Self::DigitsGpt2 => vec![json!({"type": "Digits", "individual_digits": true})],
            _ => self.expressions().iter().map(split).collect(),
        };
        steps.push(byte_level(self == Self::DigitsGpt2));
        json!({"type": "Sequence", "pretokenizers": steps})
    }

    /// The rule that a `tokenizer.json`'s `pre_tokenizer` spells out.
    ///
    /// # Errors
    ///
    /// A sentence that says what in it is not known.
    pub fn from_json(pre_tokenizer: &Value) -> Result<Self, String> {
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
                        found.push(GPT2);
                    }
                    byte_level = true;
                }
                "Digits" if step["individual_digits"].as_bool() == Some(true) => {
                    found.push(r"\p{N}");
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
            .find(|rule| rule.expressions() == found)
            .ok_or_else(|| format!("its expressions {found:?} are none of the published ones"))
    }
}

/// The steps of a `pre_tokenizer`, those of sequences one by one.
fn flatten<'a>(step: &'a Value, into: &mut Vec<&'a Value>) {
    match step["pretokenizers"].as_array() {
        Some(inner) if step["type"] == "Sequence" => {
            inner.iter().for_each(|step| flatten(step, into));
        }
        _ => into.push(step),
    }
}

fn split_expression(step: &Value) -> Result<&str, String> {
    if step["behavior"] != "Isolated" || step["invert"] == true {
        return Err("a Split that is not Isolated is not supported".into());
    }
    step["pattern"]["Regex"]
        .as_str()
        .ok_or_else(|| "a Split without a Regex is not supported".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_recognised_as_it_is_spelled_out() {
        for rule in SplitRule::ALL {
            assert_eq!(SplitRule::from_json(&rule.to_json()), Ok(rule));
        }
    }

    #[test]
    fn published_tokenizer_json_rules_are_recognised() {
        let byte_level = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
        let split = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        let sequence = |steps: Vec<Value>| json!({"type": "Sequence", "pretokenizers": steps});
        assert_eq!(SplitRule::from_json(&byte_level(true)), Ok(SplitRule::Gpt2));
        let digits = json!({"type": "Digits", "individual_digits": true});
        assert_eq!(
            SplitRule::from_json(&sequence(vec![digits, byte_level(true)])),
            Ok(SplitRule::DigitsGpt2)
        );
        for (regex, rule) in [(LLAMA3, SplitRule::Llama3), (QWEN2, SplitRule::Qwen2)] {
            let steps = vec![split(regex), byte_level(false)];
            assert_eq!(SplitRule::from_json(&sequence(steps)), Ok(rule));
        }
    }

    #[test]
    fn an_unknown_tokenizer_json_rule_is_an_error() {
        assert!(SplitRule::from_json(&Value::Null).is_err());
        assert!(SplitRule::from_json(&json!({"type": "Metaspace"})).is_err());
        let prefix = json!({"type": "ByteLevel", "add_prefix_space": true});
        assert!(SplitRule::from_json(&prefix).is_err());
    }
}
