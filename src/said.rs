//! What went wrong, in one line.

/// An error and its causes, from the outermost on; one that ends with the words of its cause has said it already.
pub fn once(error: &anyhow::Error) -> String {
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

    use super::once;

    #[test]
    fn the_system_is_quoted_once() {
        let missing = std::fs::read("no such file").unwrap_err();
        let quoted = anyhow::anyhow!("{missing}").context(format!("a.toml: {missing}"));
        assert_eq!(once(&quoted), format!("a.toml: {missing}"));
        let plain = Err::<(), _>(anyhow::anyhow!("inner")).context("outer");
        assert_eq!(once(&plain.unwrap_err()), "outer: inner");
    }
}
