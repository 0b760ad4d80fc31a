//! The merges of a `tokenizer.json` as JSON.

use serde_json::Value;

/// The two tokens of a merge: `["a", "b"]`, or `"a b"` in files from before tokenizers 0.20.
pub fn merge_pair(merge: &Value) -> Option<(&str, &str)> {
    match merge {
        Value::String(text) => text
            .split_once(' ')
            .filter(|(_, right)| !right.contains(' ')),
        Value::Array(two) if two.len() == 2 => Some((two[0].as_str()?, two[1].as_str()?)),
        _ => None,
    }
}
