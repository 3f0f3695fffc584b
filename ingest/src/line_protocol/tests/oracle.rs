//! Our parser against the crate `influxdb-line-protocol` (InfluxDB 3's), and all we know to be different.

use super::generate::{any_damage, any_rows, any_style, damage, write};
use super::*;
use influxdb_line_protocol::{FieldValue, ParsedLine, parse_lines};
use proptest::prelude::*;

/// How the two differ on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// We accept what the crate refuses.
    OnlyOurs,
    /// We refuse what the crate accepts.
    OnlyTheirs,
}

/// A rule on which we differ on purpose. `tests/protocol/line_protocol_differences.md` tells the reader.
struct Difference {
    verdict: Verdict,
    /// A line that shows it.
    example: &'static str,
    why: &'static str,
    /// Whether it may explain a line: by its text, or by our reason to refuse it.
    explains: fn(line: &str, reason: &str) -> bool,
}

const DIFFERENCES: &[Difference] = &[
    Difference {
        verdict: Verdict::OnlyOurs,
        example: "m f=1 1\r",
        why: "files from Windows end lines with CR LF",
        explains: |line, _| line.ends_with('\r'),
    },
    Difference {
        verdict: Verdict::OnlyOurs,
        example: "m f=1. 1",
        why: "InfluxDB 1 and 2 accept a float without digits after its point",
        explains: |line, _| has_bare_point(line),
    },
    Difference {
        verdict: Verdict::OnlyOurs,
        example: "m f=.5 1",
        why: "InfluxDB 1 and 2 accept a float without digits before its point",
        explains: |line, _| has_bare_point(line),
    },
    Difference {
        verdict: Verdict::OnlyOurs,
        example: "m f=1 ",
        why: "InfluxDB 1 and 2 accept spaces at the end of a line without a time",
        explains: |line, _| line.trim_end_matches('\r').ends_with([' ', '\t', '\0']),
    },
    Difference {
        verdict: Verdict::OnlyOurs,
        example: "m,t=a\tb f=1 1",
        why: "InfluxDB 1 and 2 accept tabs in names, and as blanks between the parts of a line",
        explains: |line, _| line.contains('\t'),
    },
    Difference {
        verdict: Verdict::OnlyOurs,
        example: "m f=1 \0 1",
        why: "InfluxDB 1 and 2 take NUL for a blank between the parts of a line",
        explains: |line, _| line.contains('\0'),
    },
    Difference {
        verdict: Verdict::OnlyOurs,
        example: " m=n s\"=\"two\nlines\" 1",
        why: "after a blank at its start InfluxDB looks for the strings of a line in its measurement and tags, too",
        explains: |line, _| line.starts_with([' ', '\t', '\0']) && line.contains('"'),
    },
    Difference {
        verdict: Verdict::OnlyTheirs,
        example: " m, \"b=\"c\nn f=1 1\nx \"",
        why: "as above: where a refused line ends is told by the strings in it",
        explains: |line, _| line.contains('\n'),
    },
    Difference {
        verdict: Verdict::OnlyTheirs,
        example: "m,t=a=b f=1 1",
        why: "the documentation of all versions wants `=` escaped; InfluxDB 1 and 2 refuse it",
        explains: |_, reason| reason == "invalid tag format",
    },
    Difference {
        verdict: Verdict::OnlyTheirs,
        example: "m,t==b f=1 1",
        why: "as above",
        explains: |line, reason| reason == "missing tag value" && line.contains("=="),
    },
    Difference {
        verdict: Verdict::OnlyTheirs,
        example: "m,t,u=v f=1 1",
        why: "the documentation wants `,` escaped in names; InfluxDB 1 and 2 refuse it",
        explains: |_, reason| reason == "missing tag value",
    },
    Difference {
        verdict: Verdict::OnlyTheirs,
        example: "m,,t=v f=1 1",
        why: "as above",
        explains: |line, reason| reason == "missing tag key" && line.contains(",,"),
    },
    Difference {
        verdict: Verdict::OnlyTheirs,
        example: "m f=1,,g=2 1",
        why: "as above",
        explains: |_, reason| reason == "invalid field format",
    },
    Difference {
        verdict: Verdict::OnlyTheirs,
        example: "m,t=v,t=w f=1 1",
        why: "the crate leaves the check to its caller; InfluxDB 1, 2 and 3 refuse it",
        explains: |_, reason| reason == "duplicate tags",
    },
    Difference {
        verdict: Verdict::OnlyTheirs,
        example: "m f=1e400 1",
        why: "fields are finite; the crate reads infinity",
        explains: |_, reason| reason == "invalid float",
    },
    Difference {
        verdict: Verdict::OnlyTheirs,
        example: "m f=1 9223372036854775807",
        why: "times have InfluxDB's range; the crate leaves the check to its caller",
        explains: |_, reason| reason == number::TIME_OUTSIDE,
    },
    Difference {
        verdict: Verdict::OnlyTheirs,
        example: "m time=1 1",
        why: "`time` is a column of every table; the crate leaves the check to its caller",
        explains: |_, reason| reason.starts_with("invalid tag key") || reason.starts_with("invalid field name"),
    },
    Difference {
        verdict: Verdict::OnlyTheirs,
        example: "m,x=1 x=1 1",
        why: "tags and fields share the names of columns; the crate leaves the check to its caller",
        explains: |_, reason| reason.starts_with("field type conflict"),
    },
    Difference {
        verdict: Verdict::OnlyTheirs,
        example: "m f\0=1 1",
        why: "PostgreSQL's wire protocol ends names with NUL",
        explains: |_, reason| reason.ends_with("NUL character"),
    },
    Difference {
        verdict: Verdict::OnlyTheirs,
        example: "m\\\nn f=1 1",
        why: "a backslash would join two lines outside of a string, so that one bad line spoils the next",
        explains: |line, _| line.contains("\\\n"),
    },
];

/// Whether a number in the line has a point without digits on both sides.
fn has_bare_point(line: &str) -> bool {
    line.match_indices('.').any(|(at, _)| {
        let digit = |char: Option<char>| char.is_some_and(|char| char.is_ascii_digit());
        !digit(line[..at].chars().next_back()) || !digit(line[at + 1..].chars().next())
    })
}

/// What the crate makes of a body; `None` for a refused line.
fn theirs(body: &str) -> Vec<Option<Row>> {
    parse_lines(body).map(|line| line.ok().map(|line| their_row(&line))).collect()
}

fn their_row(line: &ParsedLine<'_>) -> Row {
    let text = |text: &str| text.to_owned();
    let tags = line.series.tag_set.iter().flatten().map(|(name, value)| (text(name), text(value)));
    // The last of equal fields wins, as in ours.
    let fields = line.field_set.iter().map(|(name, value)| {
        let value = match value {
            FieldValue::I64(value) => Value::I64(*value),
            FieldValue::U64(value) => Value::U64(*value),
            FieldValue::F64(value) => float(*value),
            FieldValue::Boolean(value) => Value::Bool(*value),
            FieldValue::String(value) => Value::String(text(value)),
        };
        (text(name), value)
    });
    Row {
        table: text(&line.series.measurement),
        tags: tags.collect(),
        fields: fields.collect(),
        time: line.timestamp.unwrap_or(NOW),
    }
}

/// Compares one line; `Some` tells how they differ, and why we refused it.
#[track_caller]
fn difference(line: &str) -> Option<(Verdict, String)> {
    let ours = parse(line.as_bytes(), &options(), &EmptySchema).unwrap();
    let theirs = theirs(line);
    let reason = ours.errors.first().map(|error| error.reason.clone());
    match (reason, rows(&ours.draft).first(), &theirs[..]) {
        (None, None, []) => None,
        (None, Some(ours), [Some(theirs)]) => {
            // A duplicate field may be an integer that became a float; the crate does not skip a NUL.
            let duplicates = line.matches('=').count() > ours.tags.len() + ours.fields.len();
            let same = ours == theirs || duplicates || line.contains('\0');
            assert!(same, "{line:?}: {ours:?} is not {theirs:?}");
            None
        }
        (Some(_), None, theirs) if theirs.iter().all(Option::is_none) => None,
        (Some(reason), None, _) => Some((Verdict::OnlyTheirs, reason)),
        (None, _, theirs) if theirs.iter().all(Option::is_none) => Some((Verdict::OnlyOurs, String::new())),
        other => panic!("{line:?}: {other:?}"),
    }
}

#[track_caller]
fn explained(body: &str) {
    let mut at = 0;
    while at < body.len() {
        let end = end_of_line(body, at);
        let line = &body[at..end];
        if let Some((verdict, reason)) = difference(line) {
            let known = DIFFERENCES.iter().any(|known| known.verdict == verdict && (known.explains)(line, &reason));
            assert!(known, "{verdict:?} accepts {line:?}: {reason}");
        }
        at = end + 1;
    }
}

#[test]
fn each_known_difference_is_still_one() {
    for known in DIFFERENCES {
        // Only the first of two joined lines is shown to us.
        let line = &known.example[..end_of_line(known.example, 0)];
        if line == known.example {
            let (verdict, reason) =
                difference(line).unwrap_or_else(|| panic!("{line:?} no longer differs: {}", known.why));
            assert_eq!(verdict, known.verdict, "{line:?}");
            assert!((known.explains)(line, &reason), "{line:?}: {reason}");
        } else {
            assert!(theirs(known.example).iter().any(Option::is_some), "{:?} no longer differs", known.example);
            assert!(parsed(line).lines_refused == 1);
        }
    }
}

proptest! {
    #[test]
    fn valid_lines_mean_the_same_to_both(rows in any_rows(), style in any_style()) {
        explained(&write(&rows, &style));
    }

    #[test]
    fn damaged_lines_differ_only_where_we_know(rows in any_rows(), style in any_style(), changes in any_damage()) {
        explained(&damage(&write(&rows, &style), &changes));
    }

    #[test]
    fn special_characters_differ_only_where_we_know(line in "m(,[at,= \\\\\"]{1,6})? [fg,= \\\\\"]{0,3}=[0-9.eE+\\-iutfT\", ]{0,8}( -?[0-9x ]{0,3})?") {
        explained(&line);
    }
}

/// Who changes the list here changes the page, too. Lines with invisible characters are looked for by their start.
#[test]
fn the_page_of_differences_shows_the_lines_of_the_tests() {
    let page = include_str!("../../../../tests/protocol/line_protocol_differences.md");
    for known in DIFFERENCES {
        let shown = known.example.replace('\n', "⏎").replace('\t', "⇥").replace('\0', "␀");
        let words = shown.trim_end_matches(" 1").trim_end_matches([' ', '\r']);
        let shown = page.contains(words) || words.contains(['␀', '⏎']) && page.contains(&words[..2]);
        assert!(shown, "{words} is missing");
    }
}
