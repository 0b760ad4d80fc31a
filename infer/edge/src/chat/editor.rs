//! Where the user's lines come from: an editor on a terminal, plain lines elsewhere.

use std::io::{BufRead, IsTerminal};

use anyhow::Result;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Config, Helper};

/// Around a text of several lines.
const FENCE: &str = "\"\"\"";

/// What came.
pub enum Line {
    /// One text, of one line or several.
    Text(String),
    /// Ctrl-C.
    Interrupted,
    /// There is no more.
    End,
}

/// A source of lines.
pub struct Editor {
    terminal: Option<rustyline::Editor<Lines, MemHistory>>,
}

impl Editor {
    /// An editor if standard input is a terminal.
    pub fn new() -> Result<Self> {
        if !std::io::stdin().is_terminal() {
            return Ok(Self { terminal: None });
        }
        let config = Config::builder().auto_add_history(true).build();
        let mut terminal = rustyline::Editor::with_history(config, MemHistory::new())?;
        terminal.set_helper(Some(Lines));
        Ok(Self {
            terminal: Some(terminal),
        })
    }

    /// The next text.
    pub fn line(&mut self) -> Result<Line> {
        let text = match &mut self.terminal {
            Some(terminal) => match terminal.readline("> ") {
                Ok(text) => text,
                Err(ReadlineError::Interrupted) => return Ok(Line::Interrupted),
                Err(ReadlineError::Eof) => return Ok(Line::End),
                Err(error) => return Err(error.into()),
            },
            None => {
                let (mut text, mut stdin) = (String::new(), std::io::stdin().lock());
                loop {
                    if stdin.read_line(&mut text)? == 0 {
                        break;
                    }
                    if !goes_on(text.trim_end_matches(['\n', '\r'])) {
                        break;
                    }
                }
                if text.is_empty() {
                    return Ok(Line::End);
                }
                text
            }
        };
        Ok(Line::Text(joined(text.trim_end_matches(['\n', '\r']))))
    }

    /// Tells the user something that is no part of the conversation.
    pub fn say(&self, text: &str) {
        match std::io::stderr().is_terminal() {
            true => eprintln!("\x1b[2m{text}\x1b[0m"),
            false => eprintln!("{text}"),
        }
    }
}

/// Whether more lines belong to the text so far.
fn goes_on(text: &str) -> bool {
    match text.trim_start().strip_prefix(FENCE) {
        Some(rest) => !rest.contains(FENCE),
        None => text.ends_with('\\'),
    }
}

/// The text that the lines stand for.
fn joined(text: &str) -> String {
    match text.trim_start().strip_prefix(FENCE) {
        Some(rest) => {
            let end = rest.find(FENCE).unwrap_or(rest.len());
            rest[..end].trim_matches('\n').to_owned()
        }
        None => text.replace("\\\r\n", "\n").replace("\\\n", "\n"),
    }
}

/// Tells the terminal's editor when a text is complete.
struct Lines;

impl Validator for Lines {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        Ok(match goes_on(context.input()) {
            true => ValidationResult::Incomplete,
            false => ValidationResult::Valid(None),
        })
    }
}

impl Completer for Lines {
    type Candidate = String;
}
impl Hinter for Lines {
    type Hint = String;
}
impl Highlighter for Lines {}
impl Helper for Lines {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_several_lines() {
        assert!(goes_on("one\\") && goes_on("\"\"\"one\ntwo") && goes_on("\"\"\""));
        assert!(!goes_on("one") && !goes_on("\"\"\"one\ntwo\"\"\"") && !goes_on("say \"\"\""));
        assert_eq!(joined("one\\\ntwo"), "one\ntwo");
        assert_eq!(joined("\"\"\"\none\\\n two\n\"\"\""), "one\\\n two");
        assert_eq!(joined("plain"), "plain");
    }
}
