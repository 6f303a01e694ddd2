//! Why a call was not carried out, as text.
//!
//! Here: the form `failure code N (text)` that visors use, and any other text. Not here: reasons of ours.

use alloc::string::String;
use core::fmt;

use super::ERROR_TEXT_MAX;
use crate::route::bounded::cut;

/// What a visor or a setup node says when it says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One of the numbers below, or [`Failure::UNKNOWN`] when the text has none.
    pub code: u8,
    /// For people; at most [`ERROR_TEXT_MAX`] bytes.
    pub message: String,
}

impl Failure {
    /// Nobody knows why.
    pub const UNKNOWN: u8 = 0;
    /// Rules could not be added.
    pub const ADD_RULES: u8 = 1;
    /// Routes could not be created.
    pub const CREATE_ROUTES: u8 = 2;
    /// What was created could not be confirmed.
    pub const ROUTES_CREATED: u8 = 3;
    /// Ids could not be reserved.
    pub const RESERVE_IDS: u8 = 4;

    /// Returns what a text says.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = cut(text, ERROR_TEXT_MAX);
        let coded = text
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_suffix(')'))
            .and_then(|rest| rest.split_once(" ("))
            .and_then(|(code, message)| Some((code.parse().ok()?, message)));
        let (code, message) = coded.unwrap_or((Self::UNKNOWN, text));
        Self {
            code,
            message: String::from(message),
        }
    }
}

impl fmt::Display for Failure {
    /// Writes the text that travels.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{} ({})", self.code, self.message)
    }
}

const PREFIX: &str = "failure code ";

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn a_failure_is_read_as_it_is_written() {
        let failure = Failure {
            code: Failure::RESERVE_IDS,
            message: String::from("no ids (at all)"),
        };
        let text = failure.to_string();
        assert_eq!(text, "failure code 4 (no ids (at all))");
        assert_eq!(Failure::parse(&text), failure);
    }

    #[test]
    fn any_other_text_is_a_message() {
        for text in [
            "",
            "failure code ",
            "failure code 4",
            "failure code 256 (x)",
            "failure code -1 (x)",
            "failure code 4 (x",
            "x failure code 4 (x)",
        ] {
            let failure = Failure::parse(text);
            assert_eq!((failure.code, &*failure.message), (Failure::UNKNOWN, text));
        }
        let long = "\u{e9}".repeat(ERROR_TEXT_MAX);
        assert_eq!(Failure::parse(&long).message.len(), ERROR_TEXT_MAX);
    }
}
