//! Texts to token ids as lm-evaluation-harness's `HFLM` encodes them, so that log-likelihoods compare.
//!
//! Context and continuation are encoded together; the context's own number of ids is the context,
//! so that a token across the border counts as the continuation's. Trailing spaces of a context
//! move to the continuation. Ids that exceed the model's context are cut off the left. A text by
//! itself is cut into consecutive windows, the first after a begin-of-text token
//! (`get_rolling_token_windows` with a context of 1).
//!
//! One difference: a control token spelled out in a text is ordinary text here.

use crate::error::{Error, Result};

/// The ids of a text, nothing added.
type Encode<'a> = dyn Fn(&str) -> Result<Vec<u32>> + 'a;

/// Encodes texts for a model.
pub struct Encoder<'a> {
    encode: Box<Encode<'a>>,
    before: Vec<u32>,
    after: Vec<u32>,
    prefix: u32,
}

/// A question to a model: the likelihood of `continuation` after `context`. Neither is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The given ids.
    pub context: Vec<u32>,
    /// The ids whose likelihood is asked.
    pub continuation: Vec<u32>,
}

impl Request {
    /// The model's input: all ids but the last, which predicts nothing that is asked.
    pub fn input(&self) -> impl Iterator<Item = u32> + '_ {
        let all = self.context.iter().chain(&self.continuation);
        all.copied()
            .take(self.context.len() + self.continuation.len() - 1)
    }
}

impl<'a> Encoder<'a> {
    /// `encode` gives the ids of a text without anything added; `before` and `after` are what the
    /// model's tokenizer puts around a text by itself; `prefix` stands before a text that has no
    /// context.
    pub fn new(
        encode: impl Fn(&str) -> Result<Vec<u32>> + 'a,
        before: Vec<u32>,
        after: Vec<u32>,
        prefix: u32,
    ) -> Self {
        Self {
            encode: Box::new(encode),
            before,
            after,
            prefix,
        }
    }

    /// The ids of a text by itself.
    fn whole(&self, text: &str) -> Result<Vec<u32>> {
        let ids = (self.encode)(text)?;
        Ok([&self.before[..], &ids, &self.after].concat())
    }

    /// The request for `continuation` after `context`, in at most `max_length` ids that go in.
    ///
    /// # Errors
    ///
    /// [`Error::Model`] if the continuation has no token of its own or more than fit.
    pub fn pair(&self, context: &str, continuation: &str, max_length: usize) -> Result<Request> {
        let kept = context.trim_end_matches(is_space);
        let moved = &context[kept.len()..];
        let request = if kept.is_empty() && self.before.is_empty() && self.after.is_empty() {
            let ids = (self.encode)(&format!("{moved}{continuation}"))?;
            let own_prefix = ids.first() == Some(&self.prefix);
            Request {
                context: vec![self.prefix],
                continuation: ids[usize::from(own_prefix)..].to_vec(),
            }
        } else {
            let whole = self.whole(&format!("{kept}{moved}{continuation}"))?;
            let context = self.whole(kept)?;
            let continuation = whole.get(context.len()..).unwrap_or(&[]).to_vec();
            Request {
                context,
                continuation,
            }
        };
        fit(request, max_length).map_err(|why| {
            let start: String = continuation.chars().take(40).collect();
            Error::Model(format!("the continuation {start:?} {why}"))
        })
    }

    /// The ids of a prompt to write after: of more than `most` the last, or with `cut_middle` the
    /// first and the last halves.
    ///
    /// # Errors
    ///
    /// The tokenizer's.
    pub fn prompt(&self, text: &str, most: usize, cut_middle: bool) -> Result<Vec<u32>> {
        let mut ids = [&self.before[..], &(self.encode)(text)?].concat();
        if ids.is_empty() {
            ids.push(self.prefix);
        }
        let from = if cut_middle { most / 2 } else { 0 };
        let too_many = ids.len().saturating_sub(most);
        ids.drain(from..from + too_many);
        Ok(ids)
    }

    /// The requests that together ask about all of `text`, each of at most `max_length` ids that
    /// go in.
    ///
    /// # Errors
    ///
    /// The tokenizer's.
    pub fn rolling(&self, text: &str, max_length: usize) -> Result<Vec<Request>> {
        let ids = self.whole(text)?;
        let mut requests = Vec::new();
        let mut done = 0;
        while done < ids.len() {
            let end = (done + max_length).min(ids.len());
            // The later windows are as long as the first, and so see some of what went before.
            let first = (end - 1).saturating_sub(max_length);
            let context = match done {
                0 => vec![self.prefix],
                _ => ids[first.min(done - 1)..done].to_vec(),
            };
            requests.push(Request {
                context,
                continuation: ids[done..end].to_vec(),
            });
            done = end;
        }
        Ok(requests)
    }
}

/// Cuts a context that is too long off the left; an error where the continuation alone is too long.
fn fit(mut request: Request, max_length: usize) -> Result<Request, String> {
    let n = request.continuation.len();
    if n == 0 {
        return Err("has no token of its own after its context; change the prompt".into());
    }
    if n > max_length {
        return Err(format!(
            "has {n} tokens, more than the context of {max_length}"
        ));
    }
    let most = max_length + 1 - n;
    let cut = request.context.len().saturating_sub(most);
    request.context.drain(..cut);
    Ok(request)
}

/// White space as Python's `str.isspace` has it.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A character an id, but "th" and " x" are one each.
    fn encode(text: &str) -> Result<Vec<u32>> {
        let text = text.replace("th", "\u{1}").replace(" x", "\u{2}");
        Ok(text.chars().map(u32::from).collect())
    }

    fn ids(text: &str) -> Vec<u32> {
        encode(text).unwrap()
    }

    fn plain() -> Encoder<'static> {
        Encoder::new(encode, vec![], vec![], 7)
    }

    fn pair(encoder: &Encoder<'_>, context: &str, continuation: &str) -> [Vec<u32>; 2] {
        let request = encoder.pair(context, continuation, 100).unwrap();
        [request.context, request.continuation]
    }

    #[test]
    fn trailing_spaces_of_the_context_move_to_the_continuation() {
        assert_eq!(pair(&plain(), "ab ", "xy"), [ids("ab"), ids(" xy")]);
        assert_eq!(
            pair(&plain(), "ab\u{1c} \n", " xy"),
            [ids("ab"), ids("\u{1c} \n xy")]
        );
    }

    #[test]
    fn a_token_across_the_border_counts_as_the_continuations() {
        // "at" + "h": together a and "th". The context keeps its own two ids.
        assert_eq!(pair(&plain(), "at", "ho"), [ids("at"), ids("o")]);
        let none = plain().pair("at", "h", 100).unwrap_err().to_string();
        assert!(none.contains("\"h\" has no token of its own"), "{none}");
    }

    #[test]
    fn without_a_context_the_prefix_stands_for_it() {
        assert_eq!(pair(&plain(), "", "ab"), [vec![7], ids("ab")]);
        assert_eq!(pair(&plain(), "  ", "ab"), [vec![7], ids("  ab")]);
        // The continuation begins with the prefix itself.
        assert_eq!(pair(&plain(), "", "\u{7}ab"), [vec![7], ids("ab")]);
        assert!(plain().pair("", "", 100).is_err());
    }

    #[test]
    fn a_prompt_keeps_its_end_or_loses_its_middle() {
        let encoder = Encoder::new(encode, vec![5], vec![6], 7);
        assert_eq!(
            encoder.prompt("ab", 9, false).unwrap(),
            [vec![5], ids("ab")].concat()
        );
        assert_eq!(encoder.prompt("abc", 2, false).unwrap(), ids("bc"));
        assert_eq!(plain().prompt("abcdefg", 5, true).unwrap(), ids("abefg"));
        assert_eq!(plain().prompt("ab", 5, true).unwrap(), ids("ab"));
        assert_eq!(plain().prompt("", 2, false).unwrap(), [7]);
    }

    #[test]
    fn ids_that_the_tokenizer_adds_stay() {
        let encoder = Encoder::new(encode, vec![5], vec![], 5);
        assert_eq!(
            pair(&encoder, "ab", " x"),
            [[vec![5], ids("ab")].concat(), ids(" x")]
        );
    }

    #[test]
    fn too_long_a_context_is_cut_off_the_left() {
        let request = plain().pair("abcdef", "gh", 4).unwrap();
        assert_eq!(request.context, ids("def"));
        assert_eq!(request.input().collect::<Vec<_>>(), ids("defg"));
        let long = plain().pair("a", "bcdef", 4).unwrap_err().to_string();
        assert!(
            long.contains("5 tokens, more than the context of 4"),
            "{long}"
        );
    }

    #[test]
    fn rolling_windows_are_consecutive_and_fill_the_context() {
        let requests = plain().rolling("abcdefghij", 4).unwrap();
        let shown: Vec<_> = requests
            .iter()
            .map(|r| (r.context.clone(), r.continuation.clone()))
            .collect();
        let expected = [
            (vec![7], ids("abcd")),
            (ids("d"), ids("efgh")),
            (ids("fgh"), ids("ij")),
        ];
        assert_eq!(shown, expected);
        assert!(requests.iter().all(|r| r.input().count() == 4));
        assert_eq!(plain().rolling("", 4).unwrap(), []);
        assert_eq!(plain().rolling("ab", 4).unwrap()[0].continuation, ids("ab"));
    }
}
