//! Writes a story by expanding the grammar, asking a [`Choose`] at every choice.
//!
//! The same walk serves two ends: with a random source it generates; with a searching source
//! (`measure`) it finds the choices that give a known text.

use super::grammar::{GRAMMAR, Sentence, Table};

/// What decides at each choice.
pub(super) trait Choose {
    /// One of `weights.len()` options, each as likely as its weight.
    fn choose(&mut self, weights: &[u32]) -> usize;

    /// Whether to go on, given the text so far; the text of a stopped story means nothing.
    fn goes_on(&mut self, text: &str) -> bool;
}

/// −ln of the probability of `option` among `weights`.
pub(super) fn nats_of(weights: &[u32], option: usize) -> f64 {
    (f64::from(weights.iter().sum::<u32>()) / f64::from(weights[option])).ln()
}

/// Writes one story.
pub(super) fn expand(choose: &mut dyn Choose) -> String {
    let mut story = Draft {
        choose,
        text: String::new(),
        rows: Vec::new(),
        capital: false,
    };
    let written = story.sentences(&GRAMMAR.opening).and_then(|()| {
        let weights: Vec<u32> = GRAMMAR.plots.iter().map(|plot| plot.weight).collect();
        let plot = story.choose.choose(&weights);
        story.sentences(&GRAMMAR.plots[plot].sentences)
    });
    // `None` is a search that stopped early: it has no use for the text.
    written.map(|()| story.text).unwrap_or_default()
}

/// A row that a story has chosen and its name in the story.
struct Chosen {
    key: &'static str,
    table: &'static Table,
    row: usize,
}

struct Draft<'a> {
    choose: &'a mut dyn Choose,
    text: String,
    rows: Vec<Chosen>,
    /// Whether the next letter is a capital.
    capital: bool,
}

impl Draft<'_> {
    fn sentences(&mut self, sentences: &'static [Sentence]) -> Option<()> {
        sentences.iter().try_for_each(|wordings| {
            let weights: Vec<u32> = wordings.iter().map(|(weight, _)| *weight).collect();
            let wording = self.choose.choose(&weights);
            if !self.text.is_empty() {
                self.write(" ")?;
            }
            self.template(&wordings[wording].1)
        })
    }

    /// Expands `template`; `None` once the search stops.
    fn template(&mut self, mut template: &'static str) -> Option<()> {
        while let Some(at) = template.find(['{', '[']) {
            self.write(&template[..at])?;
            let close = if template[at..].starts_with('{') {
                '}'
            } else {
                ']'
            };
            let end = at
                + template[at..]
                    .find(close)
                    .expect("every bracket of a table is closed");
            let inside = &template[at + 1..end];
            if close == '}' {
                self.slot(inside)?;
            } else {
                let options: Vec<&'static str> = inside.split('/').collect();
                let option = self.choose.choose(&vec![1; options.len()]);
                self.write(options[option])?;
            }
            template = &template[end + 1..];
        }
        self.write(template)
    }

    /// Expands what stands between braces.
    fn slot(&mut self, slot: &'static str) -> Option<()> {
        self.capital = slot.starts_with(|c: char| c.is_ascii_uppercase());
        if let Some((key, forms)) = slot.split_once('|') {
            let (one, many) = forms
                .split_once('|')
                .expect("two forms: singular and plural");
            let chosen = self.find(key);
            let plural = column(chosen, "kind") == Some("they");
            return self.write(if plural { many } else { one });
        }
        let (head, name) = slot.split_once('.').unwrap_or((slot, ""));
        let key = match head.split_once('=') {
            Some((key, from)) => {
                self.bind(key, from);
                key
            }
            None => head,
        };
        let chosen = self.find(key);
        let value = if name.is_empty() {
            Some(chosen.table.rows[chosen.row][0].as_str())
        } else {
            column(chosen, name)
        };
        self.template(value.expect("a column of the table, or a pronoun"))
    }

    /// Chooses the row that the story will call `key`, from `table` or `table!other`.
    fn bind(&mut self, key: &'static str, from: &str) {
        let (table, not) = from.split_once('!').unwrap_or((from, ""));
        let table = GRAMMAR.table(table);
        let taken = (!not.is_empty()).then(|| self.find(not).row);
        let weights = vec![1; table.rows.len() - usize::from(taken.is_some())];
        let mut row = self.choose.choose(&weights);
        if taken.is_some_and(|taken| row >= taken) {
            row += 1;
        }
        self.rows.push(Chosen { key, table, row });
    }

    fn find(&self, key: &str) -> &Chosen {
        self.rows
            .iter()
            .find(|chosen| chosen.key.eq_ignore_ascii_case(key))
            .expect("a row chosen earlier in the plot")
    }

    fn write(&mut self, text: &str) -> Option<()> {
        let mut letters = text.chars();
        match letters.next() {
            None => return Some(()),
            Some(first) if self.capital => {
                self.text.push(first.to_ascii_uppercase());
                self.text.push_str(letters.as_str());
                self.capital = false;
            }
            Some(_) => self.text.push_str(text),
        }
        self.choose.goes_on(&self.text).then_some(())
    }
}

/// A row's value in the column `name`, or the pronoun of that name for the row's kind.
fn column(chosen: &Chosen, name: &str) -> Option<&'static str> {
    let value = chosen.table.value(chosen.row, name);
    value.or_else(|| {
        let kind = chosen.table.value(chosen.row, "kind")?;
        let pronouns = GRAMMAR.table("pronouns");
        let row = pronouns.rows.iter().position(|row| row[0] == kind)?;
        pronouns.value(row, name)
    })
}
