//! What is too much, and what a body that is no text does.

use super::*;
use marigram_storage::schema::{NAME_BYTES_MAX, STRING_BYTES_MAX, TAG_BYTES_MAX};

/// Whether each line of `body` is accepted, for one line per call.
#[track_caller]
fn check(line: &str, options: &ParseOptions, want: Option<&str>) {
    let body = format!("a f=1i 1\n{line}\nz f=1i 1\n");
    let parsed = parse(body.as_bytes(), options, &EmptySchema).unwrap();
    let reason = parsed.errors.first().map(|error| (&*error.reason, error.refusal));
    assert_eq!(reason, want.map(|want| (want, Refusal::Limit)));
    assert_eq!(parsed.rows, if want.is_some() { 2 } else { 3 });
    rows(&parsed.draft);
}

#[test]
fn long_things_are_refused_by_name() {
    let options = options();
    let tag = |bytes| format!("m,t={} f=1", "x".repeat(bytes));
    check(&tag(TAG_BYTES_MAX), &options, None);
    check(&tag(TAG_BYTES_MAX + 1), &options, Some("tag value of 4097 bytes is longer than 4096"));
    let string = |bytes| format!("m f=\"{}\"", "x".repeat(bytes));
    check(&string(STRING_BYTES_MAX), &options, None);
    check(&string(STRING_BYTES_MAX + 1), &options, Some("string of 65537 bytes is longer than 65536"));
    let name = |bytes| "x".repeat(bytes);
    let (fits, long) = (name(NAME_BYTES_MAX), name(NAME_BYTES_MAX + 1));
    check(&format!("{fits},{fits}=1 f=1"), &options, None);
    check(&format!("m {fits}=1"), &options, None);
    check(&format!("{long} f=1"), &options, Some("measurement name of 1025 bytes is longer than 1024"));
    check(&format!("m,{long}=1 f=1"), &options, Some("column name of 1025 bytes is longer than 1024"));
    check(&format!("m {long}=1"), &options, Some("column name of 1025 bytes is longer than 1024"));
}

#[test]
fn long_lines_are_refused_and_the_next_one_is_found() {
    let options = ParseOptions { line_bytes_max: 10, ..options() };
    check("m f=1i 123", &options, None);
    check("m f=1i 123\r", &options, None);
    check("m f=1i 1234", &options, Some("line of 11 bytes is longer than 10"));
    check("m f=\"\n\n\n\n\n\" 1", &options, Some("line of 13 bytes is longer than 10"));
}

#[test]
fn columns_and_tables_are_counted() {
    fn parsed(body: &str) -> Parsed {
        let options =
            ParseOptions { line_columns_max: 4, table_columns_max: 5, tables_max: 3, body_columns_max: 9, ..options() };
        parse(body.as_bytes(), &options, &EmptySchema).unwrap()
    }
    #[track_caller]
    fn check(body: &str, rows: u64, want: Option<&str>) {
        let parsed = parsed(body);
        let reason = parsed.errors.first().map(|error| (&*error.reason, error.refusal));
        assert_eq!((parsed.rows, reason), (rows, want.map(|want| (want, Refusal::Limit))), "{body}");
        super::rows(&parsed.draft);
    }
    let line = Some("too many columns: more than 4 tags and fields in one line");
    check("m,a=1,b=2 c=3,d=4", 1, None);
    check("m,a=1,b=2 c=3,d=4,e=5", 0, line);
    check("m,a=1,b=2,c=3,d=4 e=5", 0, line);
    check("m,a=1,b=2,c=3,d=4,e=5 f=1", 0, line);
    check("m a=1,a=1,a=1,a=1,a=1", 0, line);
    check("m,t=1 a=1,b=2,c=3\nm d=4\nm,t=1 a=1", 3, None);
    let table = Some("too many columns: measurement \"m\" has more than 5 in this request");
    check("m,t=1 a=1,b=2,c=3\nm d=4\nm e=4\nm a=1,d=2", 3, table);
    check("m,t=1 a=1,b=2,c=3\nm d=4\nm,u=1 a=1", 2, table);
    let body = Some("too many columns: more than 9 of all measurements in this request");
    check("m,a=1,b=2,c=3 d=4\nn a=1,b=2,c=3,d=4\nn e=5\no f=6\nn a=1", 4, body);
    // Refused lines use nothing up; the first refusal is no limit here.
    let refused =
        parsed("m a=1\nm b=1,c=1,d=1 x\nm e=1,f=1,g=1 x\nm,h=1 i=1,j=1,k=1 x\nm b=1,c=1,d=1\nx a=1 x\ny a=1 x\nz a=1");
    assert_eq!((refused.rows, refused.lines_refused), (3, 5));
    check("a f=1\nb f=1\nc f=1\nd f=1\na f=1", 4, Some("too many measurements: more than 3 in this request"));
}

#[test]
fn a_body_that_is_no_text_is_refused_whole() {
    let body = b"m f=1 1\nm f=\"\xff\" 2\n";
    assert_eq!(parse(body, &options(), &EmptySchema), Err(BodyError::NotUtf8 { offset: 13 }));
}

#[test]
fn refused_lines_are_counted_beyond_those_described() {
    let options = ParseOptions { errors_max: 2, error_line_bytes_max: 4, ..options() };
    let body = "m f=1 1\n\n# c\nbäääd\r\nm g=\"a\nb\" 2\nx=1 y\nbad\nbad\n";
    let parsed = parse(body.as_bytes(), &options, &EmptySchema).unwrap();
    assert_eq!((parsed.rows, parsed.lines_refused), (2, 4));
    let got: Vec<_> = parsed.errors.iter().map(|error| (error.line, &*error.original)).collect();
    assert_eq!(got, [(4, "bä"), (7, "x=1 ")]);
    assert_eq!(parsed.errors[0].to_string(), "unable to parse 'bä': missing fields");
}

/// Bodies made to be expensive: each is answered in time linear in its length, or this test does not end.
#[test]
fn hostile_bodies_are_refused_by_line() {
    #[track_caller]
    fn check(body: &str, rows: u64, refused: u64, reason: &str) {
        let parsed = parse(body.as_bytes(), &options(), &EmptySchema).unwrap();
        assert_eq!((parsed.rows, parsed.lines_refused), (rows, refused), "{reason}");
        assert_eq!(parsed.errors.first().map_or("", |error| &error.reason), reason);
        assert!(parsed.errors.iter().all(|error| error.original.len() <= options().error_line_bytes_max));
        assert!(parsed.errors.len() <= options().errors_max);
    }
    let columns: Vec<_> = (0..100_000).map(|column| format!("c{column}=1")).collect();
    let columns = columns.join(",");
    let many = "too many columns: measurement \"m\" has more than 4096 in this request";
    check(&format!("m {columns}\nm f=1"), 1, 1, many);
    check(&format!("m,{columns} f=1\nm f=1"), 1, 1, "too many columns: more than 1024 tags and fields in one line");
    let long = "x".repeat(1 << 20);
    check(&format!("m,t={long} f=1\nm f=1"), 1, 1, "tag value of 1048576 bytes is longer than 4096");
    check(&format!("{long} f=1\nm f=1"), 1, 1, "measurement name of 1048576 bytes is longer than 1024");
    check(&format!("m f={long}\nm f=1"), 1, 1, "invalid boolean");
    let digits = "9".repeat(1 << 20);
    check(&format!("m f={digits}\nm f=1"), 1, 1, "invalid float");
    check(&format!("m f=0.{digits}\nm f=1"), 1, 1, "line of 1048582 bytes is longer than 1048576");
    check(
        &format!("m f={digits}i\nm f=1").replace("99i", "9i"),
        1,
        1,
        &format!("unable to parse integer {}: value out of range", &digits[..64]),
    );
    check(&format!("m f=1 {digits}\nm f=1"), 1, 1, number::TIME_OUTSIDE);
    check(&"m f=\"\n".repeat(100_001), 50_000, 1, "unbalanced quotes");
    check(&"m f=\"x\ny\n".repeat(100_000), 0, 100_000, "invalid field format");
    check(&"\\\n".repeat(500_000), 0, 500_000, "missing fields");
    check(&"m,a=1,a=2 b=1,c=2,d=3\n".repeat(50_000), 0, 50_000, "duplicate tags");
    check(&"#\n\n\r\n \n".repeat(200_000), 0, 0, "");
    let tables: String = (0..20_000).map(|table| format!("m{table} f=1\n")).collect();
    check(&tables, 10_000, 10_000, "too many measurements: more than 10000 in this request");
    let columns: String = (0..200_000).map(|column| format!("m{} c{column}=1\n", column % 50)).collect();
    check(&columns, 131_072, 68_928, "too many columns: more than 131072 of all measurements in this request");
}
