//! Generation scoring: whether a model's completion is right, by the rules of lm-evaluation-harness.
//!
//! The completion ends before its first stop text. A regular expression finds the answer in it.
//! Ignored parts are removed from answer and target, which then have to be equal.

use regex::Regex;

use super::task::Generation;

/// The answer where none was found.
const NOT_FOUND: &str = "[invalid]";

/// A model's completion and its scores.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The text up to its first stop.
    pub text: String,
    /// The answer found in it, as it was compared.
    pub answer: String,
    /// The target, as it was compared: the equal one, else the first; none where the task is not scored.
    pub target: Option<String>,
    /// Whether answer and target are equal.
    pub exact: bool,
    /// Whether the answer that `flexible` finds equals a target.
    pub flexible: bool,
    /// F1 of the words of answer and target, 0 to 1.
    pub f1: f64,
}

/// The scoring rules of a task, compiled.
pub(super) struct GenerationScorer {
    until: Vec<String>,
    extract: Option<Regex>,
    flexible: Option<Regex>,
    ignore: Vec<Regex>,
    ignore_case: bool,
}

impl GenerationScorer {
    /// Compiles the rules of `form`.
    ///
    /// # Errors
    ///
    /// The field with a wrong regular expression, and the reason.
    pub(super) fn new(form: &Generation) -> Result<Self, (&'static str, String)> {
        let compile = |field: &'static str, text: &str| {
            Regex::new(text).map_err(|e| (field, e.to_string().replace('\n', " ")))
        };
        let maybe = |field, text: &Option<String>| {
            let compiled = text.as_ref().map(|text| compile(field, text));
            compiled.transpose()
        };
        let ignore = form
            .ignore
            .iter()
            .map(|text| compile("generation.ignore", text));
        Ok(Self {
            until: form.until.clone(),
            extract: maybe("generation.extract", &form.extract)?,
            flexible: maybe("generation.flexible", &form.flexible)?,
            ignore: ignore.collect::<Result<_, _>>()?,
            ignore_case: form.ignore_case,
        })
    }

    /// The byte at which the first stop begins in `text`.
    pub(super) fn end(&self, text: &str) -> Option<usize> {
        self.until.iter().filter_map(|stop| text.find(stop)).min()
    }

    /// Scores `text` up to its first stop.
    pub(super) fn score(&self, text: &str, targets: &[String]) -> Completion {
        let text = &text[..self.end(text).unwrap_or(text.len())];
        let targets: Vec<String> = targets
            .iter()
            .map(|target| self.normalize(target))
            .collect();
        let answer = match &self.extract {
            Some(extract) => {
                self.normalize(matches(extract, text).next().unwrap_or(NOT_FOUND).trim())
            }
            None => self.normalize(text),
        };
        let flexible = self.flexible.as_ref().map(|flexible| {
            self.normalize(matches(flexible, text).last().unwrap_or(NOT_FOUND).trim())
        });
        let met = targets.iter().find(|target| **target == answer);
        Completion {
            text: text.to_owned(),
            exact: met.is_some(),
            flexible: flexible.is_some_and(|found| targets.contains(&found)),
            f1: targets.iter().map(|t| f1(&answer, t)).fold(0.0, f64::max),
            target: met.or(targets.first()).cloned(),
            answer,
        }
    }

    /// `text` without its ignored parts.
    fn normalize(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for ignored in &self.ignore {
            text = ignored.replace_all(&text, "").into_owned();
        }
        if self.ignore_case {
            text.to_lowercase()
        } else {
            text
        }
    }
}

/// F1 of words: the harmonic mean of precision (`answer`'s words in `target`) and recall (the reverse).
fn f1(answer: &str, target: &str) -> f64 {
    let (answer, mut wanted) = (words(answer), words(target));
    let n = wanted.len();
    for word in &answer {
        if let Some(place) = wanted.iter().position(|other| other == word) {
            wanted.swap_remove(place);
        }
    }
    match n - wanted.len() {
        0 => 0.0,
        common => 2.0 * common as f64 / (answer.len() + n) as f64,
    }
}

/// Words in lower case, without punctuation and articles.
fn words(text: &str) -> Vec<String> {
    let kept = text
        .to_lowercase()
        .replace(|c: char| c.is_ascii_punctuation(), "");
    let words = kept.split_whitespace().map(str::to_owned);
    words
        .filter(|word| !["a", "an", "the"].contains(&&word[..]))
        .collect()
}

/// Of every match the first group that is not empty, or the whole match where there are no groups.
fn matches<'t>(pattern: &'t Regex, text: &'t str) -> impl Iterator<Item = &'t str> {
    pattern.captures_iter(text).filter_map(|found| {
        let groups = found
            .iter()
            .skip(1)
            .flatten()
            .find(|group| !group.is_empty());
        groups.or(found.get(0)).map(|group| group.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rules that the harness has for GSM8K.
    fn scorer() -> GenerationScorer {
        let text = r#"
            prompt = "{{ q }}"
            target = "{{ a }}"
            until = ["Question:", "</s>"]
            extract = '#### (\-?[0-9\.\,]+)'
            flexible = '(-?[$0-9.,]{2,})|(-?[0-9]+)'
            ignore = [',', '\$', '(?s).*#### ', '\.$']
            ignore_case = true
        "#;
        GenerationScorer::new(&toml::from_str(text).unwrap())
            .ok()
            .unwrap()
    }

    #[test]
    fn answer_is_extracted_and_compared_with_the_target() {
        let target = ["She has 3 * 400 = $1,200 left.\n#### 1,200".to_owned()];
        for (text, answer, exact, flexible) in [
            (" so 1200.\n#### 1,200.", "1200", true, true),
            (" It is $1,200.", NOT_FOUND, false, true),
            (" It is 1200 of 1300", NOT_FOUND, false, false),
            (" #### 7\n#### 1200", "7", false, true),
            (" #### 5\nQuestion: #### 1200", "5", false, false),
            ("", NOT_FOUND, false, false),
        ] {
            let found = scorer().score(text, &target);
            let expected = (answer, Some("1200"), exact, flexible);
            let target = found.target.as_deref();
            assert_eq!(
                (&found.answer[..], target, found.exact, found.flexible),
                expected,
                "{text:?}"
            );
        }
    }

    #[test]
    fn exact_match_and_f1_take_the_best_of_several_targets() {
        let scorer = GenerationScorer::new(&toml::from_str("prompt = ''\nuntil = ['|']").unwrap());
        let scorer = scorer.ok().unwrap();
        let targets = ["The red, red house".to_owned(), "a barn".to_owned()];
        for (text, exact, f1) in [
            ("a barn| that", true, 1.0),
            ("Barn!", false, 1.0),
            // 2 of its 4 words are among the target's 3.
            ("red: a big red car", false, 4.0 / 7.0),
            ("a", false, 0.0),
            ("", false, 0.0),
        ] {
            let found = scorer.score(text, &targets);
            assert_eq!((found.exact, found.f1), (exact, f1), "{text}");
        }
        assert_eq!(
            scorer.score("a barn", &targets).target.as_deref(),
            Some("a barn")
        );
    }

    #[test]
    fn completion_ends_before_the_first_stop() {
        assert_eq!(scorer().end("a </s> Question: b"), Some(2));
        let found = scorer().score("a Question: b </s>", &[]);
        assert_eq!(
            (&found.text[..], found.target, found.exact),
            ("a ", None, false)
        );
    }
}
