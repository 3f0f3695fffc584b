//! Calls that PostgreSQL and TimescaleDB have, as calls that we have.

use sqlparser::ast::{
    BinaryOperator, DataType, DateTimeField, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
    ObjectName, Select, SelectItem, TimezoneInfo, Value,
};

use super::{call, interval_of, is_interval, string, taken, text_of, zoned};
use crate::error::QueryError;

/// The arguments of `time_bucket` in their order.
const BUCKET_ARGUMENTS: [&str; 5] = ["width", "time", "timezone", "origin", "offset"];
/// Those of `time_bucket_gapfill`.
const GAPFILL_ARGUMENTS: [&str; 5] = ["width", "time", "timezone", "start", "finish"];

/// Those of `make_interval`, which are 0 where they are not given.
const INTERVAL_ARGUMENTS: [&str; 7] = ["years", "months", "weeks", "days", "hours", "mins", "secs"];

/// Units of `date_trunc` in the singular, as widths of buckets, and from when they are counted where that is not usual.
const UNITS: [(&str, &str, Option<&str>); 13] = [
    ("microsecond", "1 us", None),
    ("millisecond", "1 ms", None),
    ("second", "1 second", None),
    ("minute", "1 minute", None),
    ("hour", "1 hour", None),
    ("day", "1 day", None),
    ("week", "1 week", None),
    ("month", "1 month", None),
    ("quarter", "3 months", None),
    ("year", "1 year", None),
    ("decade", "10 years", None),
    ("century", "100 years", Some("2001-01-01T00:00:00")),
    ("millennium", "1000 years", Some("2001-01-01T00:00:00")),
];

/// Rewrites a call; its arguments are rewritten already.
pub(super) fn rewrite(expr: &mut Expr) -> Result<(), QueryError> {
    if let Expr::Extract { field, expr: of, .. } = expr {
        if let Some(part) = part(&unit_of(field), of) {
            *expr = part;
        }
        return Ok(());
    }
    let Expr::Function(function) = expr else { return Ok(()) };
    match name_of(function).as_str() {
        "time_bucket" => in_order(function, "time_bucket", BUCKET_ARGUMENTS, null)?,
        "time_bucket_gapfill" => in_places(function)?,
        "make_interval" => {
            let zero = || number("0");
            in_order(function, "make_interval", INTERVAL_ARGUMENTS, zero)?;
            if let FunctionArguments::List(list) = &mut function.args
                && list.args.len() < INTERVAL_ARGUMENTS.len()
            {
                list.args.resize_with(INTERVAL_ARGUMENTS.len(), || unnamed(zero()));
            }
        }
        "age" => {
            if let [time] = arguments(function).as_slice() {
                *expr = call("age", vec![call("current_date", Vec::new()), (*time).clone()]);
            }
        }
        "to_char" => {
            if let [time, pattern] = arguments(function).as_slice()
                && super::is_local(time)
            {
                *expr = call("local_to_char", vec![(*time).clone(), (*pattern).clone()]);
            }
        }
        // DataFusion's takes patterns of another kind.
        name @ ("to_timestamp" | "to_date") => {
            if let [text, pattern] = arguments(function).as_slice() {
                *expr = call(&format!("text_{name}"), vec![(*text).clone(), (*pattern).clone()]);
            }
        }
        "date_trunc" => {
            if let Some(bucket) = truncated(function)? {
                *expr = bucket;
            }
        }
        "date_part" => {
            if let [unit, of] = arguments(function).as_slice()
                && let Some(part) = text_of(unit).and_then(|unit| part(&singular(unit), of))
            {
                *expr = part;
            }
        }
        // DataFusion's has no bucket where time and origin are more than 292 years apart.
        "date_bin" => {
            if let [width, time, origin] = arguments(function).as_slice()
                && **origin != null()
            {
                *expr = call("time_bucket", vec![(*width).clone(), (*time).clone(), null(), (*origin).clone()]);
            }
        }
        "sign" => {
            if let [of] = arguments(function).as_slice() {
                *expr = call("signum", vec![(*of).clone()]);
            }
        }
        "regexp_replace" => replacement(function),
        "timezone" => {
            if let [zone, time] = arguments(function).as_slice() {
                *expr = zoned((*time).clone(), (*zone).clone());
            }
        }
        _ => (),
    }
    Ok(())
}

/// The name of a function without a schema, folded.
pub(super) fn name_of(function: &Function) -> String {
    last_of(&function.name).unwrap_or_default()
}

fn last_of(name: &ObjectName) -> Option<String> {
    name.0.last()?.as_ident().map(|ident| super::super::fold(ident.clone()))
}

/// The arguments, if none has a name.
pub(super) fn arguments(function: &Function) -> Vec<&Expr> {
    let FunctionArguments::List(list) = &function.args else { return Vec::new() };
    let plain = list.args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    });
    plain.collect::<Option<_>>().unwrap_or_default()
}

/// Whether a call gives an interval.
pub(super) fn makes_interval(function: &Function) -> bool {
    let names = ["age", "justify_days", "justify_hours", "justify_interval", "make_interval", "scale_interval"];
    names.contains(&name_of(function).as_str())
}

fn null() -> Expr {
    Expr::value(Value::Null)
}

fn number(text: &str) -> Expr {
    Expr::value(Value::Number(text.to_owned(), false))
}

/// Puts arguments with names in their places, and what is `missing` in the others.
fn in_order<const N: usize>(
    function: &mut Function,
    of: &str,
    names: [&str; N],
    missing: fn() -> Expr,
) -> Result<(), QueryError> {
    let FunctionArguments::List(list) = &mut function.args else { return Ok(()) };
    let has_names = list.args.iter().any(|argument| !matches!(argument, FunctionArg::Unnamed(_)));
    if !has_names {
        return Ok(());
    }
    let mut places = [const { None::<Expr> }; N];
    for (at, argument) in list.args.iter_mut().enumerate() {
        let (name, value) = match argument {
            FunctionArg::Unnamed(value) => (None, value),
            FunctionArg::Named { name, arg, .. } => (Some(super::super::fold(name.clone())), arg),
            FunctionArg::ExprNamed { name: Expr::Identifier(name), arg, .. } => {
                (Some(super::super::fold(name.clone())), arg)
            }
            FunctionArg::ExprNamed { name, .. } => return Err(QueryError::syntax(format!("{name} is not a name"))),
        };
        let FunctionArgExpr::Expr(value) = value else {
            return Err(QueryError::syntax(format!("{of} cannot be given *")));
        };
        let place = match &name {
            None => Some(at),
            Some(name) => names.iter().position(|known| known == name),
        };
        let place = place.and_then(|place| places.get_mut(place)).ok_or_else(|| {
            let known = names.join(", ");
            let name = name.as_deref().unwrap_or_default();
            QueryError::syntax(format!("{of} has no argument {name}: it has {known}"))
        })?;
        let value = match (&name, text_of(value)) {
            (Some(name), Some(text)) if name == "offset" => interval_of(text, None)?,
            _ => taken(value),
        };
        if place.replace(value).is_some() {
            return Err(QueryError::syntax(format!("an argument of {of} is given twice")));
        }
    }
    list.args = places.into_iter().map(|place| unnamed(place.unwrap_or_else(missing))).collect();
    Ok(())
}

/// Gives `time_bucket_gapfill` all its arguments, if it has any but width and time: with or without a zone, which is a text
/// that begins with no digit.
fn in_places(function: &mut Function) -> Result<(), QueryError> {
    let is_zone =
        |expr: &Expr| text_of(expr).is_some_and(|text| !text.trim().starts_with(|c: char| c.is_ascii_digit()));
    if let FunctionArguments::List(list) = &mut function.args
        && let [_, _, FunctionArg::Unnamed(FunctionArgExpr::Expr(third)), ..] = list.args.as_slice()
        && !is_zone(third)
        && list.args.len() < GAPFILL_ARGUMENTS.len()
    {
        list.args.insert(2, unnamed(null()));
    }
    in_order(function, "time_bucket_gapfill", GAPFILL_ARGUMENTS, null)?;
    if let FunctionArguments::List(list) = &mut function.args {
        if (3..GAPFILL_ARGUMENTS.len()).contains(&list.args.len()) {
            list.args.resize_with(GAPFILL_ARGUMENTS.len(), || unnamed(null()));
        }
        for end in list.args.iter_mut().skip(3) {
            if let FunctionArg::Unnamed(FunctionArgExpr::Expr(end)) = end {
                super::read_text(end);
            }
        }
    }
    Ok(())
}

fn unnamed(expr: Expr) -> FunctionArg {
    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
}

/// `date_trunc` with a zone, or of a unit that DataFusion does not have, as a bucket of time.
fn truncated(function: &mut Function) -> Result<Option<Expr>, QueryError> {
    let found = arguments(function);
    let Some((unit, rest)) = found.split_first() else { return Ok(None) };
    let (time, zone) = match rest {
        [time] => (*time, None),
        [time, zone] => (*time, Some(*zone)),
        _ => return Ok(None),
    };
    let Some(unit) = text_of(unit).map(singular) else {
        return match zone {
            Some(_) => Err(QueryError::unsupported("date_trunc with a zone and a unit that is no constant")),
            None => Ok(None),
        };
    };
    let Some((_, width, origin)) = UNITS.iter().find(|(name, ..)| *name == unit) else { return Ok(None) };
    if zone.is_none() && origin.is_none() && unit != "decade" {
        *function = match call("date_trunc", vec![string(unit), time.clone()]) {
            Expr::Function(function) => function,
            _ => return Ok(None),
        };
        return Ok(None);
    }
    let origin = match (origin, zone) {
        // That of buckets is taken for an instant, and this one is a local time.
        (Some(origin), Some(zone)) => call("from_local_time", vec![string(*origin), zone.clone()]),
        (Some(origin), None) => string(*origin),
        (None, _) => null(),
    };
    let zone = zone.cloned().unwrap_or_else(null);
    Ok(Some(call("time_bucket", vec![string(*width), time.clone(), zone, origin])))
}

fn singular(unit: &str) -> String {
    let unit = unit.to_lowercase();
    match unit.as_str() {
        "centuries" => "century".to_owned(),
        "millennia" | "millenium" | "milleniums" => "millennium".to_owned(),
        "msec" | "msecs" | "ms" => "millisecond".to_owned(),
        "usec" | "usecs" | "us" => "microsecond".to_owned(),
        _ => match unit.strip_suffix('s') {
            Some(one) if UNITS.iter().any(|(name, ..)| *name == one) => one.to_owned(),
            _ => unit,
        },
    }
}

fn unit_of(field: &DateTimeField) -> String {
    singular(&field.to_string())
}

/// Parts that DataFusion does not have, or without their fraction.
fn part(unit: &str, of: &Expr) -> Option<Expr> {
    let part = |unit: &str| Box::new(call("date_part", vec![string(unit), of.clone()]));
    let of_years = |more: &str, width: &str| {
        let years = Expr::BinaryOp { left: part("year"), op: BinaryOperator::Plus, right: Box::new(number(more)) };
        let years = Box::new(Expr::Nested(Box::new(years)));
        Expr::BinaryOp { left: years, op: BinaryOperator::Divide, right: Box::new(number(width)) }
    };
    let of_micros = |width: &str| Expr::BinaryOp {
        left: part("microsecond"),
        op: BinaryOperator::Divide,
        right: Box::new(number(width)),
    };
    let part = match unit {
        "second" => of_micros("1000000.0"),
        "millisecond" => of_micros("1000.0"),
        "decade" => of_years("0", "10"),
        "century" => of_years("99", "100"),
        "millennium" => of_years("999", "1000"),
        _ => return None,
    };
    Some(Expr::Nested(Box::new(part)))
}

/// `\&` in a replacement is the whole match; a dollar is itself, which DataFusion takes for a group.
fn replacement(function: &mut Function) {
    if let FunctionArguments::List(list) = &mut function.args
        && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))) = list.args.get_mut(2)
        && let Some(text) = text_of(expr)
        && text.contains(['&', '$'])
    {
        *expr = string(text.replace('$', "$$").replace("\\&", "\\0"));
    }
}

/// `x SIMILAR TO 'pattern'` as a regular expression of the whole text: DataFusion's finds the pattern anywhere in it, and
/// takes `%` and `_` for themselves.
pub(super) fn similar(expr: &mut Expr) -> Result<(), QueryError> {
    let Expr::SimilarTo { negated, expr: of, pattern, escape_char } = expr else { return Ok(()) };
    let escape = match escape_char.as_ref().map(|value| &value.value) {
        None => Some('\\'),
        Some(Value::SingleQuotedString(text)) if text.is_empty() => None,
        Some(Value::SingleQuotedString(text)) if text.chars().count() == 1 => text.chars().next(),
        Some(_) => return Err(QueryError::syntax("an escape must be one character")),
    };
    let Some(text) = text_of(pattern) else {
        return Err(QueryError::unsupported("SIMILAR TO with a pattern that is no constant"));
    };
    let op = if *negated { BinaryOperator::PGRegexNotMatch } else { BinaryOperator::PGRegexMatch };
    let right = Box::new(string(regex_of_similar(text, escape)));
    *expr = Expr::Nested(Box::new(Expr::BinaryOp { left: Box::new(taken(of)), op, right }));
    Ok(())
}

/// A pattern of `SIMILAR TO` as a regular expression.
fn regex_of_similar(pattern: &str, escape: Option<char>) -> String {
    let mut regex = String::from("^(?s:");
    let (mut chars, mut in_class) = (pattern.chars(), false);
    while let Some(char) = chars.next() {
        match char {
            char if Some(char) == escape => {
                let itself = chars.next().unwrap_or(char);
                if !itself.is_alphanumeric() {
                    regex.push('\\');
                }
                regex.push(itself);
            }
            '\\' => regex.push_str("\\\\"),
            ']' => {
                in_class = false;
                regex.push(char);
            }
            _ if in_class => regex.push(char),
            '[' => {
                in_class = true;
                regex.push(char);
            }
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            '.' | '^' | '$' => regex.extend(['\\', char]),
            // A group that is not referred to.
            '(' => regex.push_str("(?:"),
            _ => regex.push(char),
        }
    }
    regex.push_str(")$");
    regex
}

/// `SELECT generate_series(…)`: a row for each.
pub(super) fn unnest_series(select: &mut Select) {
    let is_series = |expr: &Expr| matches!(expr, Expr::Function(function) if name_of(function) == "generate_series");
    for item in &mut select.projection {
        match item {
            SelectItem::UnnamedExpr(expr) if is_series(expr) => {
                let expr = call("unnest", vec![taken(expr)]);
                *item = SelectItem::ExprWithAlias { expr, alias: Ident::new("generate_series") };
            }
            SelectItem::ExprWithAlias { expr, .. } if is_series(expr) => *expr = call("unnest", vec![taken(expr)]),
            _ => (),
        }
    }
}

/// Texts in `generate_series` beside a time or a step of time.
pub(super) fn read_series(name: &ObjectName, arguments: &mut [FunctionArg]) {
    if last_of(name).as_deref() != Some("generate_series") {
        return;
    }
    let mut values: Vec<&mut Expr> = Vec::new();
    for argument in arguments {
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) = argument else { return };
        values.push(value);
    }
    let timestamp = DataType::Timestamp(None, TimezoneInfo::None);
    let is_time = |value: &Expr| match value {
        Expr::TypedString(typed) => matches!(typed.data_type, DataType::Timestamp(..) | DataType::Date),
        Expr::Cast { data_type, .. } => matches!(data_type, DataType::Timestamp(..) | DataType::Date),
        value => is_interval(value),
    };
    if !values.iter().any(|value| is_time(value)) {
        return;
    }
    for (at, value) in values.into_iter().enumerate() {
        let Some(text) = text_of(value) else { continue };
        if 2 <= at {
            if let Ok(interval) = interval_of(text, None) {
                *value = interval;
            }
        } else {
            let text = super::instant::canonical(text).unwrap_or_else(|| text.to_owned());
            *value = Expr::Cast {
                kind: sqlparser::ast::CastKind::Cast,
                expr: Box::new(string(text)),
                data_type: timestamp.clone(),
                array: false,
                format: None,
            };
        }
    }
}
