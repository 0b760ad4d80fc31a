//! `--set table.key=value`: what the command line changes in a recipe before it is checked.
//! `--set table.key=` takes the key away, so that its default counts.

use crate::error::{Error, Result};

/// Puts the value of `argument` into `table`, or removes the key if the value is empty; tables on
/// the way to a value are made.
///
/// # Errors
/// No `=`, an empty part of the key, or a key through something that is not a table.
pub(super) fn apply_override(table: &mut toml::Table, argument: &str) -> Result<()> {
    let bad = |reason: &str| Error::Set {
        argument: argument.to_owned(),
        reason: reason.to_owned(),
    };
    let (key, value) = argument
        .split_once('=')
        .ok_or_else(|| bad("write it as table.key=value, such as train.lr=3e-4"))?;
    if value.is_empty() {
        return remove(table, key, bad);
    }
    let value = format!("v = {value}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut at = table;
    let mut parts = key.split('.').peekable();
    while let Some(part) = parts.next() {
        if part.is_empty() {
            return Err(bad("the key has an empty part"));
        }
        if parts.peek().is_none() {
            at.insert(part.to_owned(), value);
            return Ok(());
        }
        at = at
            .entry(part)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| bad("the key goes through something that is not a table"))?;
    }
    Err(bad("the key is empty"))
}

/// Removes `key`, whose last part need not be there.
fn remove(table: &mut toml::Table, key: &str, bad: impl Fn(&str) -> Error) -> Result<()> {
    let mut at = table;
    let (tables, last) = key.rsplit_once('.').unwrap_or(("", key));
    for part in tables.split('.').filter(|part| !part.is_empty()) {
        at = match at.get_mut(part) {
            None => return Ok(()),
            Some(toml::Value::Table(inner)) => inner,
            Some(_) => return Err(bad("the key goes through something that is not a table")),
        };
    }
    if last.is_empty() {
        return Err(bad("the key has an empty part"));
    }
    at.remove(last);
    Ok(())
}
