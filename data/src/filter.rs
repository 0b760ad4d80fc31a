//! Which documents a stream takes: one side of the validation split, without those that the recipe's
//! filter leaves out.

use std::sync::Arc;

use crate::config::Filter;
use crate::duplicates::Duplicates;
use crate::epoch_order::Location;
use crate::split::is_validation;
use crate::stats::Stats;

/// A side of the validation split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Training,
    Validation,
}

/// What decides about a document.
#[derive(Clone)]
pub(crate) struct Selection {
    pub side: Side,
    pub validation_fraction: f64,
    pub filter: Filter,
    /// What repeats an earlier document, if the filter asks.
    pub duplicates: Option<Arc<Duplicates>>,
}

impl Selection {
    /// Whether to take the document, counting it if not. One of the training side that a validation
    /// stream passes over is not counted.
    pub(crate) fn takes(&self, location: Location, text: &str, stats: &mut Stats) -> bool {
        let validation = is_validation(text, self.validation_fraction);
        match (self.side, validation) {
            (Side::Training, true) => {
                stats.validation += 1;
                return false;
            }
            (Side::Validation, false) => return false,
            _ => {}
        }
        let filter = &self.filter;
        let left_out = if filter.min_bytes.is_some_and(|least| text.len() < least) {
            &mut stats.too_short
        } else if filter.max_bytes.is_some_and(|most| text.len() > most) {
            &mut stats.too_long
        } else if filter
            .min_ascii_letters
            .is_some_and(|least| ascii_letters(text) < least)
        {
            &mut stats.not_ascii
        } else if self
            .duplicates
            .as_ref()
            .is_some_and(|duplicates| duplicates.contains(location))
        {
            &mut stats.duplicates
        } else {
            return true;
        };
        *left_out += 1;
        false
    }
}

/// Share of ASCII letters among the characters other than white space; 0 if there are none.
fn ascii_letters(text: &str) -> f64 {
    let (mut letters, mut all) = (0u64, 0u64);
    for c in text.chars().filter(|c| !c.is_whitespace()) {
        all += 1;
        letters += u64::from(c.is_ascii_alphabetic());
    }
    letters as f64 / all.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_counted_among_what_is_seen() {
        assert_eq!(ascii_letters("ab 12\n"), 0.5);
        assert_eq!(ascii_letters("déjà"), 0.5);
        assert_eq!(ascii_letters("  \n"), 0.0);
    }

    #[test]
    fn what_is_left_out_is_counted_once_by_its_first_reason() {
        let selection = Selection {
            side: Side::Training,
            validation_fraction: 0.0,
            filter: Filter {
                min_bytes: Some(3),
                max_bytes: Some(8),
                min_ascii_letters: Some(0.5),
                drop_duplicates: false,
            },
            duplicates: None,
        };
        let mut stats = Stats::default();
        let at = Location {
            shard: 0,
            segment: 0,
            row: 0,
        };
        let taken = ["1", "words", "12345678", "more than eight", "ab1"]
            .map(|text| selection.takes(at, text, &mut stats));
        assert_eq!(taken, [false, true, false, false, true]);
        let expected = Stats {
            too_short: 1,
            too_long: 1,
            not_ascii: 1,
            ..Stats::default()
        };
        assert_eq!(stats, expected);
    }
}
