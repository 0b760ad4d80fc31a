//! What begins with a slash.

use std::path::PathBuf;

use retort_engine::chat::Conversation;
use retort_engine::sampling::{Mirostat, Sampling};

const HELP: &str = "\
/help                  this list
/reset                 forget the conversation, keep the system message
/system [TEXT]         what the model is told before the conversation; nothing takes it away
/save FILE             write the conversation as JSON
/load FILE             go on from a conversation
/set                   show how tokens are chosen
/set NAME VALUE        temperature, top-k, top-p, min-p, typical-p, repetition-penalty,
                       presence-penalty, frequency-penalty, mirostat (target in bits, 0 is off), seed
/quit                  leave (also Ctrl-D)";

/// A line that is a command.
#[derive(Debug, PartialEq)]
pub struct Command<'l> {
    name: &'l str,
    rest: &'l str,
}

/// What to do after a command.
pub enum Next {
    /// Say this and go on.
    Go(String),
    /// Leave.
    Quit,
}

impl<'l> Command<'l> {
    /// The command that `line` is, if it is one.
    pub fn parse(line: &'l str) -> Option<Self> {
        let line = line.trim().strip_prefix('/')?;
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        name.chars()
            .all(|c| c.is_ascii_lowercase())
            .then_some(Self {
                name,
                rest: rest.trim(),
            })
    }
}

/// Does what a command says; the error is one line.
pub fn act(
    command: Command,
    conversation: &mut Conversation,
    sampling: &mut Sampling,
) -> Result<Next, String> {
    let file = || match command.rest {
        "" => Err(format!("/{} needs a file", command.name)),
        name => Ok(PathBuf::from(name)),
    };
    let turns = |conversation: &Conversation| format!("{} turns", conversation.messages().len());
    let line = match command.name {
        "help" => HELP.into(),
        "reset" => {
            conversation.reset();
            "the conversation begins anew".into()
        }
        "system" => {
            conversation.set_system(command.rest);
            match command.rest {
                "" => "no system message".into(),
                _ => "the system message is set".into(),
            }
        }
        "save" => {
            let file = file()?;
            conversation
                .save(&file)
                .map_err(|error| error.to_string())?;
            format!("{} in {}", turns(conversation), file.display())
        }
        "load" => {
            let file = file()?;
            conversation
                .load(&file)
                .map_err(|error| error.to_string())?;
            format!("{} from {}", turns(conversation), file.display())
        }
        "set" => {
            if let Some((name, value)) = command.rest.split_once(char::is_whitespace) {
                set(sampling, name, value.trim())?;
            } else if !command.rest.is_empty() {
                return Err("/set needs a name and a value".into());
            }
            show(sampling)
        }
        "quit" | "exit" => return Ok(Next::Quit),
        name => return Err(format!("/{name} is no command; /help lists them")),
    };
    Ok(Next::Go(line))
}

fn set(sampling: &mut Sampling, name: &str, value: &str) -> Result<(), String> {
    fn parse<T: std::str::FromStr>(value: &str) -> Result<T, String> {
        value
            .parse()
            .map_err(|_| format!("{value:?} is no such number"))
    }
    let mut new = sampling.clone();
    match name.replace('_', "-").as_str() {
        "temperature" => new.temperature = parse(value)?,
        "top-k" => new.top_k = parse(value)?,
        "top-p" => new.top_p = parse(value)?,
        "min-p" => new.min_p = parse(value)?,
        "typical-p" => new.typical_p = parse(value)?,
        "repetition-penalty" => new.repetition_penalty = parse(value)?,
        "presence-penalty" => new.presence_penalty = parse(value)?,
        "frequency-penalty" => new.frequency_penalty = parse(value)?,
        "mirostat" => {
            let tau: f32 = parse(value)?;
            new.mirostat = (tau != 0.0).then_some(Mirostat { tau, eta: 0.1 });
        }
        "seed" => new.seed = parse(value)?,
        _ => return Err(format!("{name} is no setting; /help lists them")),
    }
    new.validate()?;
    *sampling = new;
    Ok(())
}

fn show(s: &Sampling) -> String {
    format!(
        "temperature {}, top-k {}, top-p {}, min-p {}, typical-p {}, repetition-penalty {}, \
         presence-penalty {}, frequency-penalty {}, mirostat {}, seed {}",
        s.temperature,
        s.top_k,
        s.top_p,
        s.min_p,
        s.typical_p,
        s.repetition_penalty,
        s.presence_penalty,
        s.frequency_penalty,
        s.mirostat.map_or(0.0, |mirostat| mirostat.tau),
        s.seed
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_parsed_and_checked() {
        let mut sampling = Sampling::default();
        set(&mut sampling, "temperature", "0.5").unwrap();
        set(&mut sampling, "top_k", "7").unwrap();
        set(&mut sampling, "mirostat", "3").unwrap();
        assert!(show(&sampling).contains("temperature 0.5, top-k 7"));
        assert!(show(&sampling).contains("mirostat 3"));
        for (name, value) in [
            ("top-p", "0"),
            ("top-p", "x"),
            ("warmth", "1"),
            ("seed", "-1"),
        ] {
            let before = sampling.clone();
            assert!(set(&mut sampling, name, value).is_err());
            assert_eq!(sampling, before);
        }
    }

    #[test]
    fn a_command_begins_with_a_slash_and_a_word() {
        let name = |line| Command::parse(line).map(|command| (command.name, command.rest));
        assert_eq!(name("/set top-k 3"), Some(("set", "top-k 3")));
        assert_eq!(name(" /help "), Some(("help", "")));
        assert_eq!(name("what is /help"), None);
        assert_eq!(name("/etc/passwd is a file"), None);
        assert_eq!(name("/"), Some(("", "")));
    }
}
