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
    /// What was wanted, as it was compared; none for a task that only writes.
    pub target: Option<String>,
    /// Whether they are the same.
    pub exact: bool,
    /// Whether what `flexible` finds is.
    pub flexible: bool,
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
    pub(super) fn judge(&self, text: &str, target: Option<&str>) -> Written {
        let text = &text[..self.end(text).unwrap_or(text.len())];
        let target = target.map(|target| self.plain(target));
        let answer = match &self.extract {
            Some(extract) => self.plain(matches(extract, text).next().unwrap_or(NOT_FOUND).trim()),
            None => self.plain(text),
        };
        let flexible = self
            .flexible
            .as_ref()
            .map(|flexible| self.plain(matches(flexible, text).last().unwrap_or(NOT_FOUND).trim()));
        Written {
            text: text.to_owned(),
            exact: target.as_ref() == Some(&answer),
            flexible: target.is_some() && flexible == target,
            answer,
            target,
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
        let target = Some("She has 3 * 400 = $1,200 left.\n#### 1,200");
        for (text, answer, exact, flexible) in [
            (" so 1200.\n#### 1,200.", "1200", true, true),
            (" It is $1,200.", NOT_FOUND, false, true),
            (" It is 1200 of 1300", NOT_FOUND, false, false),
            (" #### 7\n#### 1200", "7", false, true),
            (" #### 5\nQuestion: #### 1200", "5", false, false),
            ("", NOT_FOUND, false, false),
        ] {
            let found = judge().judge(text, target);
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
    fn the_text_ends_before_the_first_stop() {
        assert_eq!(judge().end("a </s> Question: b"), Some(2));
        let found = judge().judge("a Question: b </s>", None);
        assert_eq!(
            (&found.text[..], found.target, found.exact),
            ("a ", None, false)
        );
    }
}
