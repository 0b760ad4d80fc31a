//! An error with its causes as one line.

/// An error and its causes, from the outermost on, each once: a message that already ends with its cause's is
/// not followed by it.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if line.ends_with(&cause) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&cause);
    }
    line
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::one_line;

    #[test]
    fn a_cause_that_a_message_quotes_is_not_repeated() {
        let missing = std::fs::read("no such file").unwrap_err();
        let quoted = anyhow::anyhow!("{missing}").context(format!("a.toml: {missing}"));
        assert_eq!(one_line(&quoted), format!("a.toml: {missing}"));
        let plain = Err::<(), _>(anyhow::anyhow!("inner")).context("outer");
        assert_eq!(one_line(&plain.unwrap_err()), "outer: inner");
    }
}
