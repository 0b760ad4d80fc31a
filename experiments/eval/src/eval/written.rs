//! What a model wrote in answer, and whether it is right, by lm-evaluation-harness's rules: the text ends before
//! the first stop, a regular expression finds the answer in it, parts that do not count are taken out of answer and
//! target, and what is left has to be the same.

use regex::Regex;

use super::task::Generation;

/// What stands for an answer that was not found.
const NOT_FOUND: &str = "[invalid]";

/// What a model wrote and what it comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The text, without the stop and what follows.
    pub text: String,
    /// What was found in it, as it was compared.
    pub answer: String,
    /// What was wanted, as it was compared: the one that was met, else the first; none for a task that only writes.
    pub target: Option<String>,
    /// Whether they are the same.
    pub exact: bool,
    /// Whether what `flexible` finds is.
    pub flexible: bool,
    /// How many words they share, 0 to 1.
    pub f1: f64,
}

/// The rules of a task, ready to use.
pub(super) struct Judge {
    until: Vec<String>,
    extract: Option<Regex>,
    flexible: Option<Regex>,
    ignore: Vec<Regex>,
    ignore_case: bool,
}

impl Judge {
    /// # Errors
    ///
    /// The field whose regular expression is none, and why.
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

    /// Where the first stop begins in `text`.
    pub(super) fn end(&self, text: &str) -> Option<usize> {
        self.until.iter().filter_map(|stop| text.find(stop)).min()
    }

    /// What `text`, as far as its first stop, is worth.
    pub(super) fn judge(&self, text: &str, targets: &[String]) -> Written {
        let text = &text[..self.end(text).unwrap_or(text.len())];
        let targets: Vec<String> = targets.iter().map(|target| self.plain(target)).collect();
        let answer = match &self.extract {
            Some(extract) => self.plain(matches(extract, text).next().unwrap_or(NOT_FOUND).trim()),
            None => self.plain(text),
        };
        let flexible = self
            .flexible
            .as_ref()
            .map(|flexible| self.plain(matches(flexible, text).last().unwrap_or(NOT_FOUND).trim()));
        let met = targets.iter().find(|target| **target == answer);
        Written {
            text: text.to_owned(),
            exact: met.is_some(),
            flexible: flexible.is_some_and(|found| targets.contains(&found)),
            f1: targets.iter().map(|t| f1(&answer, t)).fold(0.0, f64::max),
            target: met.or(targets.first()).cloned(),
            answer,
        }
    }

    /// `text` without what does not count.
    fn plain(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for ignored in &self.ignore {
            text = ignored.replace_all(&text, "").into_owned();
        }
        match self.ignore_case {
            true => text.to_lowercase(),
            false => text,
        }
    }
}

/// The harmonic mean of the share of `answer`'s words that are `target`'s and of `target`'s that are `answer`'s.
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

/// Small letters and digits between white space, without articles.
fn words(text: &str) -> Vec<String> {
    let kept = text
        .to_lowercase()
        .replace(|c: char| c.is_ascii_punctuation(), "");
    let words = kept.split_whitespace().map(str::to_owned);
    words
        .filter(|word| !["a", "an", "the"].contains(&&word[..]))
        .collect()
}

/// Of every match the first group that is not empty, or all of it where there are no groups.
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
    fn judge() -> Judge {
        let text = r#"
            prompt = "{{ q }}"
            target = "{{ a }}"
            until = ["Question:", "</s>"]
            extract = '#### (\-?[0-9\.\,]+)'
            flexible = '(-?[$0-9.,]{2,})|(-?[0-9]+)'
            ignore = [',', '\$', '(?s).*#### ', '\.$']
            ignore_case = true
        "#;
        Judge::new(&toml::from_str(text).unwrap()).ok().unwrap()
    }

    #[test]
    fn the_answer_is_found_and_compared() {
        let target = ["She has 3 * 400 = $1,200 left.\n#### 1,200".to_owned()];
        for (text, answer, exact, flexible) in [
            (" so 1200.\n#### 1,200.", "1200", true, true),
            (" It is $1,200.", NOT_FOUND, false, true),
            (" It is 1200 of 1300", NOT_FOUND, false, false),
            (" #### 7\n#### 1200", "7", false, true),
            (" #### 5\nQuestion: #### 1200", "5", false, false),
            ("", NOT_FOUND, false, false),
        ] {
            let found = judge().judge(text, &target);
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
    fn any_of_several_targets_is_met_in_whole_or_in_part() {
        let judge = Judge::new(&toml::from_str("prompt = ''\nuntil = ['|']").unwrap());
        let judge = judge.ok().unwrap();
        let targets = ["The red, red house".to_owned(), "a barn".to_owned()];
        for (text, exact, f1) in [
            ("a barn| that", true, 1.0),
            ("Barn!", false, 1.0),
            // 2 of its 4 words are among the target's 3.
            ("red: a big red car", false, 4.0 / 7.0),
            ("a", false, 0.0),
            ("", false, 0.0),
        ] {
            let found = judge.judge(text, &targets);
            assert_eq!((found.exact, found.f1), (exact, f1), "{text}");
        }
        assert_eq!(
            judge.judge("a barn", &targets).target.as_deref(),
            Some("a barn")
        );
    }

    #[test]
    fn the_text_ends_before_the_first_stop() {
        assert_eq!(judge().end("a </s> Question: b"), Some(2));
        let found = judge().judge("a Question: b </s>", &[]);
        assert_eq!(
            (&found.text[..], found.target, found.exact),
            ("a ", None, false)
        );
    }
}
