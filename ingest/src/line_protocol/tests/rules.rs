//! One line of a table for each rule of the format.

use super::*;

/// The one field `f` of measurement `m`, written as `text`.
#[track_caller]
fn field(text: &str, want: Value) {
    let body = format!("m f={text} 1");
    assert_eq!(accepted(&body), [row("m", &[], &[("f", want)], 1)], "{body:?}");
}

/// A line is refused, and the lines around it are not.
#[track_caller]
fn refused(line: &str, reason: &str) {
    let parsed = parsed(&format!("first x=1 1\n{line}\nlast x=2 2"));
    let got: Vec<_> = parsed.errors.iter().map(|error| (error.line, &*error.original, &*error.reason)).collect();
    assert_eq!(got, [(2, line.trim_start_matches([' ', '\t']), reason)], "{line:?}");
    assert_eq!(parsed.lines_refused, 1);
    let want = [row("first", &[], &[("x", float(1.0))], 1), row("last", &[], &[("x", float(2.0))], 2)];
    assert_eq!(rows(&parsed.draft), want, "{line:?}");
    assert_eq!(parsed.rows, 2);
}

#[test]
fn floats_have_all_forms_of_influxdb_1() {
    for (text, want) in [
        ("1", 1.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.5", -0.5),
        ("1.5", 1.5),
        ("-1.5", -1.5),
        ("0", 0.0),
        ("-0", -0.0),
        ("-0.0", -0.0),
        ("007.250", 7.25),
        ("1e10", 1e10),
        ("1E10", 1e10),
        ("1e+10", 1e10),
        ("1.e5", 1e5),
        (".5e-3", 0.5e-3),
        ("-1.5E+3", -1.5e3),
        ("0.1", 0.1),
        ("1e22", 1e22),
        ("1e23", 1e23),
        ("9007199254740993", 9_007_199_254_740_992.0),
        ("123456789012345678901234567890", 1.2345678901234568e29),
        ("0.000000000000000000000000000000001", 1e-33),
        ("1.7976931348623157e308", f64::MAX),
        ("5e-324", 5e-324),
        ("1e-400", 0.0),
        ("1e-99999999999999999999", 0.0),
        ("0e99999999999999999999", 0.0),
        ("2.2250738585072011e-308", 2.225_073_858_507_201e-308),
        ("3.141592653589793238462643383279", std::f64::consts::PI),
    ] {
        field(text, float(want));
    }
}

#[test]
fn integers_are_64_bits_wide() {
    for (text, want) in [
        ("0i", 0),
        ("-0i", 0),
        ("1i", 1),
        ("-1i", -1),
        ("007i", 7),
        ("999999999999999999i", 999_999_999_999_999_999),
        ("9223372036854775807i", i64::MAX),
        ("-9223372036854775808i", i64::MIN),
        ("000000000000000000000000000012i", 12),
    ] {
        field(text, Value::I64(want));
    }
    field("0u", Value::U64(0));
    field("18446744073709551615u", Value::U64(u64::MAX));
}

#[test]
fn booleans_have_five_spellings_each() {
    for text in ["t", "T", "true", "True", "TRUE"] {
        field(text, Value::Bool(true));
    }
    for text in ["f", "F", "false", "False", "FALSE"] {
        field(text, Value::Bool(false));
    }
}

#[test]
fn strings_keep_all_but_quote_and_backslash() {
    #[track_caller]
    fn check(text: &str, want: &str) {
        field(&format!("\"{text}\""), Value::String(want.to_owned()));
    }
    check("", "");
    check("a b,c=d", "a b,c=d");
    check(r#"say \"hi\""#, r#"say "hi""#);
    check(r"C:\\dir\\", r"C:\dir\");
    check(r"a\b\,\ \=\n", r"a\b\,\ \=\n");
    check("two\nlines\r\nof # text", "two\nlines\r\nof # text");
    check("grün 🌊", "grün 🌊");
    check("nul \0", "nul \0");
}

#[test]
fn names_may_escape_what_would_end_them() {
    let line = r"a\,b\ c\=d=e\\f,t\,a\=g\ k=v\,a\=l\ ue\\x f\,i\=e\ ld\\x=1i 1";
    let want = row(r"a,b c\=d=e\f", &[("t,a=g k", r"v,a=l ue\x")], &[(r"f,i=e ld\x", Value::I64(1))], 1);
    assert_eq!(accepted(line), [want]);
    // What needs no escape keeps its backslash.
    let want = row(r"a\b", &[(r"t\a", r#"v\"x"#)], &[(r#"f\""#, Value::I64(1))], 1);
    assert_eq!(accepted(r#"a\b,t\a=v\"x f\"=1i 1"#), [want]);
    // Quotes mean nothing outside of values.
    assert_eq!(
        accepted(r#""m","t"="v" "f"=1i 1"#),
        [row(r#""m""#, &[(r#""t""#, r#""v""#)], &[(r#""f""#, Value::I64(1))], 1)]
    );
    let want = row("Wärme", &[("größe", "漢字")], &[("µ", Value::I64(1))], 1);
    assert_eq!(accepted("Wärme,größe=漢字 µ=1i 1"), [want]);
    assert_eq!(accepted("a\tb,c\td=e\tf g\th=1i 1"), [row("a\tb", &[("c\td", "e\tf")], &[("g\th", Value::I64(1))], 1)]);
    assert_eq!(accepted("\\#m f=1i 1"), [row("\\#m", &[], &[("f", Value::I64(1))], 1)]);
}

#[test]
fn blank_lines_comments_and_carriage_returns_are_no_rows() {
    let body = "\n  \t \n# comment, \"with=\"quote\n\r\n \t# another\r\n m f=1i 1\r\n\tm f=2i 2  \n\0m f=3i \t 3\r\nm  f=4i\r\nm f=5i 5\r";
    let times: Vec<_> = accepted(body).into_iter().map(|row| (row.fields["f"].clone(), row.time)).collect();
    let want = [(1, 1), (2, 2), (3, 3), (4, NOW), (5, 5)].map(|(value, time)| (Value::I64(value), time));
    assert_eq!(times, want);
}

#[test]
fn a_line_without_time_gets_the_servers() {
    for line in ["m f=1i", "m f=1i ", "m f=1i  \t", "m f=1i\n", "m f=1i \r\n"] {
        assert_eq!(accepted(line), [row("m", &[], &[("f", Value::I64(1))], NOW)], "{line:?}");
    }
}

#[test]
fn times_count_in_their_precision() {
    #[track_caller]
    fn check(name: &str, text: &str, want: Result<i64, &str>) {
        let options = ParseOptions { precision: Precision::from_name(name).unwrap(), ..options() };
        let parsed = parse(format!("m f=1i {text}").as_bytes(), &options, &EmptySchema).unwrap();
        let times: Vec<_> = rows(&parsed.draft).iter().map(|row| row.time).collect();
        let reasons: Vec<_> = parsed.errors.iter().map(|error| &*error.reason).collect();
        match want {
            Ok(time) => assert_eq!((times, reasons), (vec![time], vec![]), "{text} {name}"),
            Err(reason) => assert_eq!((times, reasons), (vec![], vec![reason]), "{text} {name}"),
        }
    }
    let outside = Err(number::TIME_OUTSIDE);
    check("ns", "1465839830100400200", Ok(1_465_839_830_100_400_200));
    check("ns", "12345678", Ok(12_345_678));
    check("ns", "-1", Ok(-1));
    check("ns", "-0", Ok(0));
    check("ns", "00000000000000000000000000001", Ok(1));
    check("ns", "9223372036854775806", Ok(9_223_372_036_854_775_806));
    check("ns", "9223372036854775807", outside);
    check("ns", "-9223372036854775806", Ok(-9_223_372_036_854_775_806));
    check("ns", "-9223372036854775807", outside);
    check("ns", "-9223372036854775808", outside);
    check("ns", "99999999999999999999", outside);
    check("us", "1465839830100400", Ok(1_465_839_830_100_400_000));
    check("ms", "-1465839830100", Ok(-1_465_839_830_100_000_000));
    check("s", "1465839830", Ok(1_465_839_830_000_000_000));
    check("s", "9223372037", outside);
    check("m", "24430663", Ok(1_465_839_780_000_000_000));
    check("h", "407177", Ok(1_465_837_200_000_000_000));
    check("h", "2562048", outside);
    check("auto", "1465839830", Ok(1_465_839_830_000_000_000));
    check("auto", "1465839830100400200", Ok(1_465_839_830_100_400_200));
}

#[test]
fn times_after_the_latest_are_refused_by_line_and_counted() {
    let options = ParseOptions { precision: Precision::Second, now_ns: NOW, time_max_ns: NOW + 1, ..options() };
    let parsed = parse(b"m f=1i\nm f=2i 1700000000\nm f=3i 1700000001\nm f=4i -1\nm f=5i x", &options, &EmptySchema);
    let parsed = parsed.unwrap();
    let times: Vec<_> = rows(&parsed.draft).iter().map(|row| row.time).collect();
    assert_eq!(times, [NOW, 1_700_000_000_000_000_000, -1_000_000_000]);
    assert_eq!((parsed.lines_refused, parsed.lines_future), (2, 1));
    let error = &parsed.errors[0];
    let want = "time 1700000001000000000 is too far in the future, 1700000000123456790 is the latest for now";
    assert_eq!((error.line, error.refusal, &*error.reason), (3, Refusal::Future, want));
    assert_eq!(error.to_string(), format!("unable to parse 'm f=3i 1700000001': {want}"));
    let latest = ParseOptions { now_ns: NOW, time_max_ns: NOW, ..ParseOptions::default() };
    let at = |time: i64| parse(format!("m f=1i {time}").as_bytes(), &latest, &EmptySchema).unwrap().lines_future;
    assert_eq!((at(NOW), at(NOW + 1)), (0, 1), "the latest time itself may be had");
}

/// Lines that break one rule each, and InfluxDB's words for it.
pub(super) const REFUSED: &[(&str, &str)] = &[
    ("m", "missing fields"),
    ("m,t=v", "missing fields"),
    ("  m", "missing fields"),
    (",t=v f=1", "missing measurement"),
    ("m, f=1", "missing tag key"),
    ("m,=v f=1", "missing tag key"),
    ("m,t=v, f=1", "missing tag key"),
    ("m,,t=v f=1", "missing tag key"),
    ("m,t f=1", "missing tag value"),
    ("m,t,u=v f=1", "missing tag value"),
    ("m,t= f=1", "missing tag value"),
    ("m,t=,u=v f=1", "missing tag value"),
    ("m,t==v f=1", "missing tag value"),
    ("m,t=v=w f=1", "invalid tag format"),
    ("m,t=v,t=w f=1", "duplicate tags"),
    ("m,a=1,t=v,b=2,t=v f=1", "duplicate tags"),
    (r"m,t\ x=v,t\ x=w f=1", "duplicate tags"),
    ("m ", "invalid field format"),
    ("m f", "invalid field format"),
    ("m f 1", "invalid field format"),
    ("m f=1,", "invalid field format"),
    ("m f=1, g=2", "invalid field format"),
    ("m f=1,g", "invalid field format"),
    ("m f=1,,g=2", "invalid field format"),
    ("m ,f=1", "invalid field format"),
    (r#"m f="a"b 1"#, "invalid field format"),
    (r#"m f="a"b" 1"#, "invalid field format"),
    ("m =1", "missing field key"),
    ("m f=1,=2", "missing field key"),
    ("m f=", "missing field value"),
    ("m f= ", "missing field value"),
    ("m f=,g=1", "missing field value"),
    ("m f=-", "invalid number"),
    ("m f=.", "invalid number"),
    ("m f=-.", "invalid number"),
    ("m f=-i", "invalid number"),
    ("m f=--1", "invalid number"),
    ("m f=1.1.1", "invalid number"),
    ("m f=1.5i", "invalid number"),
    ("m f=1e5i", "invalid number"),
    ("m f=1i2", "invalid number"),
    ("m f=1ii", "invalid number"),
    ("m f=-1u", "invalid number"),
    ("m f=1x", "invalid number"),
    ("m f=0x1f", "invalid number"),
    ("m f=1_000", "invalid number"),
    ("m f=1\tg=2", "invalid number"),
    ("m f=NaN", "invalid number"),
    ("m f=nan", "invalid number"),
    ("m f=-inf", "invalid number"),
    ("m f=1e", "invalid float"),
    ("m f=1e+", "invalid float"),
    ("m f=1e400", "invalid float"),
    ("m f=-1e400", "invalid float"),
    ("m f=1e99999999999999999999", "invalid float"),
    ("m f=1e1.5", "invalid number"),
    ("m f=9223372036854775808i", "unable to parse integer 9223372036854775808: value out of range"),
    ("m f=-9223372036854775809i", "unable to parse integer -9223372036854775809: value out of range"),
    ("m f=18446744073709551616u", "unable to parse unsigned 18446744073709551616: value out of range"),
    ("m f=inf", "invalid boolean"),
    ("m f=+1", "invalid boolean"),
    ("m f=i", "invalid boolean"),
    ("m f=tRUE", "invalid boolean"),
    ("m f=truex", "invalid boolean"),
    ("m f=tr", "invalid boolean"),
    ("m f=yes", "invalid boolean"),
    ("m f='a'", "invalid boolean"),
    ("m f=1 x", "bad timestamp"),
    ("m f=1 1x", "bad timestamp"),
    ("m f=1 1.5", "bad timestamp"),
    ("m f=1 +1", "bad timestamp"),
    ("m f=1 -", "bad timestamp"),
    ("m f=1 1i", "bad timestamp"),
    ("m f=1 12345678x", "bad timestamp"),
    ("m f=1 1,g=2", "bad timestamp"),
    ("m f=1 g=2", "bad timestamp"),
    ("m f=1 1 2", "point is invalid"),
    ("m f=1 1 g=2", "point is invalid"),
    ("m f=1 9223372036854775807", number::TIME_OUTSIDE),
    (r"m\\ f=1", escape::ENDS_WITH_BACKSLASH),
    (r"m,t\\=v f=1", escape::ENDS_WITH_BACKSLASH),
    (r"m,t=v\\ f=1", escape::ENDS_WITH_BACKSLASH),
    (r"m f\\=1", escape::ENDS_WITH_BACKSLASH),
    (r"m\", "missing fields"),
    (r"m,t=v\", escape::ENDS_WITH_BACKSLASH),
    (r"m f\", "invalid field format"),
    ("m time=1", "invalid field name: input field \"time\" on measurement \"m\" is invalid"),
    ("m,time=1 f=1", "invalid tag key: input tag \"time\" on measurement \"m\" is invalid"),
    (
        "m,x=1 x=1",
        "field type conflict: input tag \"x\" on measurement \"m\" is type tag, already exists as type float",
    ),
    (
        "m f=1,f=t",
        "field type conflict: input field \"f\" on measurement \"m\" is type boolean, already exists as type float",
    ),
    ("m\0 f=1", "measurement name holds a NUL character"),
    ("m f\0=1", "column name holds a NUL character"),
];

#[test]
fn each_broken_rule_has_influxdbs_words() {
    for (line, reason) in REFUSED {
        refused(line, reason);
    }
}

#[test]
fn a_quote_that_never_closes_takes_the_rest_of_the_body() {
    let parsed = parsed("a f=1i 1\nm f=\"open 2\nb f=2i 3\n");
    assert_eq!(rows(&parsed.draft), [row("a", &[], &[("f", Value::I64(1))], 1)]);
    assert_eq!(parsed.lines_refused, 1);
    assert_eq!(parsed.errors[0].line, 2);
    assert_eq!(parsed.errors[0].reason, "unbalanced quotes");
    assert_eq!(parsed.errors[0].original, "m f=\"open 2\nb f=2i 3\n");
}

#[test]
fn the_last_of_equal_fields_in_a_line_wins() {
    assert_eq!(accepted("m f=1i,g=1i,f=2i 1"), [row("m", &[], &[("f", Value::I64(2)), ("g", Value::I64(1))], 1)]);
    let body = "m s=\"a\",s=\"b\" 1\nm g=1 2\nm g=1,s=\"c\",s=\"d\" 3";
    let strings: Vec<_> = accepted(body).iter().map(|row| row.fields.get("s").cloned()).collect();
    assert_eq!(strings, [Some(Value::String("b".into())), None, Some(Value::String("d".into()))]);
}

#[test]
fn spellings_of_one_series_are_one_series() {
    let body = "m,a=1,b=2 f=1i 1\nm,b=2,a=1 f=2i 2\nm,a=\\1,b=2 f=3i 3\n\
                m,b=x\\ y,a=1 f=4i 4\nm,a=1,b=x\\ y f=5i 5\nm,b=x\\ y,a=1 f=6i 6\nm f=7i 7\n";
    let parsed = parsed(body);
    // `\1` is two characters: another series.
    assert_eq!(parsed.draft.tables[0].series.len(), 4);
    assert_eq!(parsed.draft.tables[0].row_series, [0, 0, 1, 2, 2, 2, 3]);
    assert_eq!(rows(&parsed.draft).len(), 7);
}

#[test]
fn a_refused_line_leaves_no_trace() {
    // Its table, tags, fields and types would change what the next lines mean.
    let body = "a,x=1 y=1i,z=\"s\" bad\na x=1i,y=\"s\" 1\n\
                b f=1i,g=1i 1\nb f=2i,g=2i,h=1i,g=x 2\nb g=3i,f=3i,h=\"s\" 3\n\
                b,t=1 f=4i,g=4i,u=1i,t=2i 4\nb,u=1 f=5i 5\nb,v=1,v=1 f=6i 6\nb v=1i 7\n";
    let parsed = parsed(body);
    let lines: Vec<_> = parsed.errors.iter().map(|error| error.line).collect();
    assert_eq!(lines, [1, 4, 6, 8]);
    let int = Value::I64;
    let want = [
        row("a", &[], &[("x", int(1)), ("y", Value::String("s".into()))], 1),
        row("b", &[], &[("f", int(1)), ("g", int(1))], 1),
        row("b", &[], &[("f", int(3)), ("g", int(3)), ("h", Value::String("s".into()))], 3),
        row("b", &[("u", "1")], &[("f", int(5))], 5),
        row("b", &[], &[("v", int(1))], 7),
    ];
    assert_eq!(rows(&parsed.draft), want);
    assert_eq!(parsed.draft.tables[1].tags, ["u"]);
}

/// A catalog that knows table `m`.
struct Known;
impl Schema for Known {
    fn column(&self, table: &str, column: &str) -> Option<ColumnKind> {
        use marigram_storage::schema::FieldType;
        Some(match (table, column) {
            ("m", "float") => ColumnKind::Field(FieldType::F64),
            ("m", "integer") => ColumnKind::Field(FieldType::I64),
            ("m", "unsigned") => ColumnKind::Field(FieldType::U64),
            ("m", "string") => ColumnKind::Field(FieldType::String),
            ("m", "tag") => ColumnKind::Tag,
            _ => return None,
        })
    }
}

#[test]
fn what_the_catalog_knows_decides() {
    #[track_caller]
    fn check(line: &str, want: Result<Value, &str>) {
        let parsed = parse(line.as_bytes(), &options(), &Known).unwrap();
        let value = rows(&parsed.draft).first().and_then(|row| row.fields.values().next().cloned());
        let error = parsed.errors.first().map(|error| error.to_string());
        assert_eq!((value, error), (want.clone().ok(), want.err().map(str::to_owned)), "{line}");
    }
    check("m float=1i", Ok(float(1.0)));
    check("m float=1u", Ok(float(1.0)));
    check("m float=9007199254740992i", Ok(float(9_007_199_254_740_992.0)));
    check("m float=-9007199254740992i", Ok(float(-9_007_199_254_740_992.0)));
    let words = |field, sent, exists| {
        format!(
            "field type conflict: input field \"{field}\" on measurement \"m\" is type {sent}, already exists as type {exists}"
        )
    };
    check("m float=9007199254740993i", Err(&words("float", "integer", "float")));
    check("m float=9007199254740993u", Err(&words("float", "unsigned", "float")));
    check("m float=\"x\"", Err(&words("float", "string", "float")));
    check("m integer=1", Err(&words("integer", "float", "integer")));
    check("m integer=1u", Err(&words("integer", "unsigned", "integer")));
    check("m unsigned=1i", Err(&words("unsigned", "integer", "unsigned")));
    check("m string=t", Err(&words("string", "boolean", "string")));
    check("m tag=1", Err(&words("tag", "float", "tag")));
    check("m,tag=1 f=1i", Ok(Value::I64(1)));
    check("other integer=1", Ok(float(1.0)));
    check(
        "m,float=1 f=1",
        Err("field type conflict: input tag \"float\" on measurement \"m\" is type tag, already exists as type float"),
    );
}

#[test]
fn the_catalog_is_asked_once_per_column() {
    struct Counting(std::cell::Cell<u32>);
    impl Schema for Counting {
        fn column(&self, _: &str, _: &str) -> Option<ColumnKind> {
            self.0.set(self.0.get() + 1);
            None
        }
    }
    let schema = Counting(std::cell::Cell::new(0));
    let body = "m,t=1 f=1,g=2\nm,t=2 g=1,f=2\nm,t=1 h=1\nn,t=1 f=1\n".repeat(10);
    parse(body.as_bytes(), &options(), &schema).unwrap();
    assert_eq!(schema.0.get(), 6);
}

#[test]
fn a_parser_forgets_the_body_before() {
    let mut parser = Parser::default();
    let bodies =
        ["m,t=1 f=1i 1\nm,t=2 f=2i 2\n", "x,t=1 f=t 1\nbad\n", "m,f=1 t=\"s\" 1\nm,f=1 t=\"s\" 2\nm,f=1 t=\"s\" 3", ""];
    for body in bodies.iter().chain(&bodies) {
        let again = parser.parse(body.as_bytes(), &options(), &EmptySchema);
        assert_eq!(again, parse(body.as_bytes(), &options(), &EmptySchema), "{body:?}");
    }
}
