//! Maps the student's layers to the teacher's.
//!
//! In: `layers = "even"` or a list of `[student, teacher]`, both counted from 0. Out: pairs in
//! the student's order.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A layer of the student and its counterpart in the teacher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "[usize; 2]", into = "[usize; 2]")]
pub struct LayerPair {
    /// The student's layer, from 0.
    pub student: usize,
    /// The teacher's layer, from 0.
    pub teacher: usize,
}

impl From<[usize; 2]> for LayerPair {
    fn from([student, teacher]: [usize; 2]) -> Self {
        Self { student, teacher }
    }
}

impl From<LayerPair> for [usize; 2] {
    fn from(pair: LayerPair) -> Self {
        [pair.student, pair.teacher]
    }
}

/// The value of a `layers` key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "toml::Value", into = "toml::Value")]
pub enum LayerMapping {
    /// Every layer of the student: of S layers, layer i maps to the teacher's
    /// ⌈(i + 1) T / S⌉ − 1 of T layers, so that the last maps to the last.
    #[default]
    Even,
    /// These pairs.
    Pairs(Vec<LayerPair>),
}

impl TryFrom<toml::Value> for LayerMapping {
    type Error = String;

    fn try_from(value: toml::Value) -> std::result::Result<Self, String> {
        if value.as_str() == Some("even") {
            return Ok(Self::Even);
        }
        value.try_into().map(Self::Pairs).map_err(|_| {
            "layers: must be \"even\" or a list of pairs [student, teacher] from 0, such as \
             [[0, 2], [1, 5]]"
                .into()
        })
    }
}

impl From<LayerMapping> for toml::Value {
    fn from(layers: LayerMapping) -> Self {
        match layers {
            LayerMapping::Even => "even".into(),
            LayerMapping::Pairs(pairs) => {
                let pair = |p: LayerPair| vec![p.student as i64, p.teacher as i64].into();
                Self::Array(pairs.into_iter().map(pair).collect())
            }
        }
    }
}

impl LayerMapping {
    /// The pairs of a student with `student` layers and a teacher with `teacher` layers, in order
    /// of the student's. Errors name the `table`.
    ///
    /// # Errors
    /// A layer that does not exist, a pair given twice, or no pair.
    pub fn pairs(&self, student: usize, teacher: usize, table: &str) -> Result<Vec<LayerPair>> {
        let pairs = match self {
            Self::Even => (0..student)
                .map(|i| LayerPair {
                    student: i,
                    teacher: ((i + 1) * teacher).div_ceil(student).max(1) - 1,
                })
                .collect(),
            Self::Pairs(pairs) => {
                let mut pairs = pairs.clone();
                pairs.sort();
                pairs
            }
        };
        let bad = |what: String| Err(Error::Config(format!("{table}.layers: {what}")));
        if pairs.is_empty() {
            return bad("names no layer: write \"even\" or [[student, teacher], …]".into());
        }
        for (i, pair) in pairs.iter().enumerate() {
            for (whose, layer, count) in [
                ("student", pair.student, student),
                ("teacher", pair.teacher, teacher),
            ] {
                if layer >= count {
                    return bad(format!(
                        "the {whose} has {count} layers, from 0, and none with number {layer}"
                    ));
                }
            }
            if i > 0 && pairs[i - 1] == *pair {
                let [s, t] = [pair.student, pair.teacher];
                return bad(format!("[{s}, {t}] is there twice"));
            }
        }
        Ok(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(
        text: &str,
        student: usize,
        teacher: usize,
    ) -> std::result::Result<Vec<[usize; 2]>, String> {
        let table: toml::Table = format!("layers = {text}").parse().unwrap();
        let layers: LayerMapping = table["layers"]
            .clone()
            .try_into()
            .map_err(|e: toml::de::Error| e.to_string())?;
        let written = toml::Value::from(layers.clone());
        assert_eq!(written.try_into::<LayerMapping>().unwrap(), layers);
        let pairs = layers
            .pairs(student, teacher, "hidden")
            .map_err(|e| e.to_string())?;
        Ok(pairs.into_iter().map(Into::into).collect())
    }

    #[test]
    fn even_mapping_is_monotone_and_maps_last_to_last() {
        assert_eq!(pairs("\"even\"", 2, 6).unwrap(), [[0, 2], [1, 5]]);
        assert_eq!(pairs("\"even\"", 3, 4).unwrap(), [[0, 1], [1, 2], [2, 3]]);
        assert_eq!(
            pairs("\"even\"", 4, 2).unwrap(),
            [[0, 0], [1, 0], [2, 1], [3, 1]]
        );
        for student in 1..9 {
            for teacher in 1..20 {
                let pairs = pairs("\"even\"", student, teacher).unwrap();
                assert_eq!(pairs[student - 1], [student - 1, teacher - 1]);
                assert!(pairs.windows(2).all(|w| w[0][1] <= w[1][1]));
                let apart = pairs.windows(2).all(|w| w[0][1] < w[1][1]);
                assert!(apart || teacher < student);
            }
        }
    }

    #[test]
    fn listed_pairs_are_sorted_and_bad_ones_are_errors() {
        assert_eq!(pairs("[[1, 5], [0, 2]]", 2, 6).unwrap(), [[0, 2], [1, 5]]);
        for (text, expect) in [
            (
                "[[2, 5]]",
                "the student has 2 layers, from 0, and none with number 2",
            ),
            ("[[1, 6]]", "the teacher has 6 layers"),
            ("[[1, 5], [1, 5]]", "twice"),
            ("[]", "names no layer"),
            ("\"odd\"", "must be \"even\" or a list of pairs"),
            ("[[1, 2, 3]]", "must be \"even\" or a list of pairs"),
            ("[[-1, 2]]", "must be \"even\" or a list of pairs"),
        ] {
            let message = pairs(text, 2, 6).unwrap_err();
            assert!(message.contains(expect), "{text}: {message}");
        }
    }
}
