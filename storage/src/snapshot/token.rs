//! Names of snapshots, as text that travels.
//!
//! A token names one prefix of the facts as one process placed it: which process, the last sequence, the manifest edit that
//! placed its segments. It keeps nothing. Whether it can still be read is said by `lease::recall`.
//!
//! As text: `1-PROCESS-SEQUENCE-EDIT-CHECK`, numbers in hexadecimal. The check finds what was mistyped or made up; what a
//! token may read is decided by the rights of who reads it.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// Of the text. Another form gets another number, and what this process does not know is said to be that.
const VERSION: &str = "1";

/// Names one snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotToken {
    /// Random, of the open that gave it away: numbers mean something only within.
    pub(crate) process: u64,
    pub(crate) sequence: u64,
    pub(crate) edit: u64,
}

impl SnapshotToken {
    /// The last batch inside.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    fn body(&self) -> String {
        format!("{VERSION}-{:016x}-{:x}-{:x}", self.process, self.sequence, self.edit)
    }
}

impl fmt::Display for SnapshotToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body();
        write!(f, "{body}-{:08x}", crc32fast::hash(body.as_bytes()))
    }
}

impl FromStr for SnapshotToken {
    type Err = Error;

    /// Only what [`fmt::Display`] writes.
    fn from_str(text: &str) -> Result<Self> {
        let refused = |reason: &str| Error::invalid("snapshot token", reason);
        let mut parts = text.split('-');
        let version = parts.next().unwrap_or_default();
        if version != VERSION && !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refused("it is of a version that this server does not know"));
        }
        let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
        let token = match (number(), number(), number()) {
            (Some(process), Some(sequence), Some(edit)) => Self { process, sequence, edit },
            _ => return Err(refused("no server gave it away")),
        };
        if token.to_string() == text { Ok(token) } else { Err(refused("no server gave it away")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_is_read_as_it_was_written(process: u64, sequence: u64, edit: u64) {
            let token = SnapshotToken { process, sequence, edit };
            prop_assert_eq!(token.to_string().parse::<SnapshotToken>().unwrap(), token);
        }

        #[test]
        fn no_text_is_a_token_by_chance(text in "1-[0-9a-f]{16}-[0-9a-f]{1,4}-[0-9a-f]{1,4}-[0-9a-f]{8}") {
            prop_assert!(text.parse::<SnapshotToken>().is_err());
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".*") {
            let _ = text.parse::<SnapshotToken>();
        }
    }

    #[test]
    fn a_token_with_one_digit_changed_is_refused() {
        let text = SnapshotToken { process: 7, sequence: 0xabc, edit: 3 }.to_string();
        assert_eq!(text, "1-0000000000000007-abc-3-1a39bf77");
        for at in 2..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'4' { b'5' } else { b'4' };
            let changed = String::from_utf8(changed).unwrap();
            let error = changed.parse::<SnapshotToken>().unwrap_err().to_string();
            assert_eq!(error, "invalid snapshot token: no server gave it away", "{changed}");
        }
        let later = "2-x".parse::<SnapshotToken>().unwrap_err().to_string();
        assert!(later.contains("version"), "{later}");
        for other in ["", "1", "abc", &text.to_uppercase(), &format!("{text} "), &format!("{text}-0")] {
            assert!(other.parse::<SnapshotToken>().is_err(), "{other}");
        }
    }
}
