//! SQL's `LIKE`, as a delete judges it for each series: nothing is allocated, and what a value ends early costs little.

use std::str::Chars;

/// Whether a value matches a pattern, by characters: `%` any, `_` one, `\` takes the next as it is. Time is the product of
/// both lengths at worst.
pub(super) fn like(value: &[u8], pattern: &str) -> bool {
    let Ok(value) = std::str::from_utf8(value) else { return false };
    let (mut value, mut pattern) = (value.chars(), pattern.chars());
    // What stands behind the last `%`, and what of the value it did not take.
    let mut retry: Option<(Chars<'_>, Chars<'_>)> = None;
    loop {
        let before = (value.clone(), pattern.clone());
        let matches = match pattern.next() {
            Some('%') => {
                retry = Some((pattern.clone(), before.0.clone()));
                value = before.0;
                continue;
            }
            Some('_') => value.next().is_some(),
            Some('\\') => value.next().is_some_and(|found| found == pattern.next().unwrap_or('\\')),
            Some(wanted) => value.next() == Some(wanted),
            None if value.next().is_none() => return true,
            None => false,
        };
        if matches {
            continue;
        }
        // One more character for the last `%`; where the value has none left, nothing can match any more.
        let Some((behind, mut left)) = retry.take() else { return false };
        if left.next().is_none() {
            return false;
        }
        (value, pattern) = (left.clone(), behind.clone());
        retry = Some((behind, left));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_matches_as_in_sql() {
        #[track_caller]
        fn check(value: &str, pattern: &str, want: bool) {
            assert_eq!(like(value.as_bytes(), pattern), want, "{value:?} like {pattern:?}");
        }
        check("", "", true);
        check("", "%", true);
        check("a", "", false);
        check("abc", "a%", true);
        check("abc", "%c", true);
        check("abc", "%b%", true);
        check("abc", "a_c", true);
        check("aüc", "a_c", true);
        check("abcabd", "%ab_", true);
        check("a%c", "a\\%c", true);
        check("abc", "a\\%c", false);
        check("ab", "ab_", false);
        check("aaaaaaaaaaaaaaaaaaaaaaaab", "%a%a%a%a%a%a%c", false);
    }

    /// By the definition: a `%` takes any number of characters.
    fn matches(value: &[char], pattern: &[char]) -> bool {
        match pattern {
            [] => value.is_empty(),
            ['%', rest @ ..] => (0..=value.len()).any(|taken| matches(&value[taken..], rest)),
            ['_', rest @ ..] => !value.is_empty() && matches(&value[1..], rest),
            ['\\', wanted, rest @ ..] => value.first() == Some(wanted) && matches(&value[1..], rest),
            ['\\'] => value == ['\\'],
            [wanted, rest @ ..] => value.first() == Some(wanted) && matches(&value[1..], rest),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn a_pattern_matches_by_its_definition(value in "[abü%\\\\]{0,6}", pattern in "[abü%_\\\\]{0,6}") {
            let characters = |text: &str| text.chars().collect::<Vec<_>>();
            let want = matches(&characters(&value), &characters(&pattern));
            prop_assert_eq!(like(value.as_bytes(), &pattern), want, "{:?} like {:?}", value, pattern);
        }
    }
}
