//! `pg_proc`: functions that we have, with the signatures that PostgreSQL gives them where it has them too.
//!
//! The facts are in `procedures.tsv`, written by `tests/catalog/facts.sh`. Functions that read and write values of a type
//! have no rows here: `pg_type` names them, and nobody calls them.

use std::sync::LazyLock;

use super::objects::{CATALOG_OID, OWNER_OID, PUBLIC_OID};
use super::relation::{Rows, Value};
use super::types;

/// One row.
#[derive(Debug)]
pub(crate) struct Procedure {
    pub(crate) oid: u32,
    pub(crate) schema: u32,
    pub(crate) name: &'static str,
    kind: &'static str,
    returns_set: bool,
    volatility: &'static str,
    result_oid: u32,
    argument_oids: Vec<u32>,
    /// As `pg_get_function_result` writes it.
    pub(crate) result: &'static str,
    /// As `pg_get_function_arguments` writes them.
    pub(crate) arguments: &'static str,
    pub(crate) description: &'static str,
}

/// What PostgreSQL does not have: name, kind, result, arguments.
const OURS: [(&str, &str, &str, &str); 7] = [
    ("first", "a", "anyelement", "value anyelement, \"time\" timestamp with time zone"),
    ("last", "a", "anyelement", "value anyelement, \"time\" timestamp with time zone"),
    ("time_bucket", "f", "timestamp with time zone", "width interval, \"time\" timestamp with time zone"),
    (
        "time_bucket",
        "f",
        "timestamp with time zone",
        "width interval, \"time\" timestamp with time zone, origin timestamp with time zone",
    ),
    ("time_bucket", "f", "timestamp with time zone", "width text, \"time\" timestamp with time zone"),
    ("approx_distinct", "a", "bigint", "value anyelement"),
    ("to_local_time", "f", "timestamp without time zone", "\"time\" timestamp with time zone"),
];
/// The oid of the first of them.
const OURS_OID: u32 = 13_000;

static PROCEDURES: LazyLock<Vec<Procedure>> = LazyLock::new(|| {
    let theirs = include_str!("procedures.tsv").lines().filter_map(theirs);
    theirs.chain((OURS_OID..).zip(&OURS).map(|(oid, row)| ours(oid, row))).collect()
});

fn theirs(line: &'static str) -> Option<Procedure> {
    let mut parts = line.split('\t');
    let mut next = || parts.next();
    Some(Procedure {
        oid: next()?.parse().ok()?,
        schema: CATALOG_OID,
        name: next()?,
        kind: next()?,
        returns_set: next()? == "t",
        volatility: next()?,
        result_oid: next()?.parse().ok()?,
        argument_oids: next()?.split_whitespace().filter_map(|oid| oid.parse().ok()).collect(),
        result: next()?,
        arguments: next()?,
        description: next()?,
    })
}

fn ours(oid: u32, row: &(&'static str, &'static str, &'static str, &'static str)) -> Procedure {
    let (name, kind, result, arguments) = *row;
    let oid_of = |text: &str| types::by_text(text).map_or(0, |of| of.oid);
    let argument = |text: &str| oid_of(text.trim().split_once(' ').map_or("", |(_, of)| of));
    Procedure {
        oid,
        schema: PUBLIC_OID,
        name,
        kind,
        returns_set: false,
        volatility: "i",
        result_oid: oid_of(result),
        argument_oids: arguments.split(',').map(argument).collect(),
        result,
        arguments,
        description: "",
    }
}

/// All, in the order of their oids but for ours.
pub(crate) fn all() -> &'static [Procedure] {
    &PROCEDURES
}

/// The function of an oid.
pub(crate) fn by_oid(oid: u32) -> Option<&'static Procedure> {
    PROCEDURES.iter().find(|of| of.oid == oid)
}

/// The name that a `regproc` has.
pub(crate) fn name(oid: u32) -> Option<&'static str> {
    let of_types = || types::all().iter().flat_map(|of| of.functions).find(|(of, _)| *of == oid);
    by_oid(oid).map(|of| of.name).or_else(|| of_types().map(|(_, name)| name))
}

/// The function of a name, if there is one only.
pub(crate) fn oid(name: &str) -> Option<u32> {
    let of_types = || types::all().iter().flat_map(|of| of.functions).find(|(oid, of)| *oid != 0 && *of == name);
    PROCEDURES.iter().find(|of| of.name == name).map(|of| of.oid).or_else(|| of_types().map(|(oid, _)| oid))
}

pub(crate) fn fill(rows: &mut Rows) {
    for of in all() {
        rows.push(&[
            ("oid", Value::Oid(of.oid)),
            ("proname", Value::Text(of.name)),
            ("pronamespace", Value::Oid(of.schema)),
            ("proowner", Value::Oid(OWNER_OID)),
            ("prolang", Value::Oid(12)),
            ("procost", Value::F32(1.0)),
            ("prokind", Value::Text(of.kind)),
            ("proretset", Value::Bool(of.returns_set)),
            ("proisstrict", Value::Bool(of.kind == "f")),
            ("provolatile", Value::Text(of.volatility)),
            ("proparallel", Value::Text("s")),
            ("pronargs", Value::I16(i16::try_from(of.argument_oids.len()).unwrap_or(i16::MAX))),
            ("prorettype", Value::Oid(of.result_oid)),
            ("proargtypes", Value::Oids(of.argument_oids.clone())),
            ("prosrc", Value::Text(of.name)),
        ]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_facts_is_a_function() {
        assert_eq!(all().len(), include_str!("procedures.tsv").lines().count() + OURS.len());
        let unknown = |of: &&Procedure| of.result_oid == 0 || of.argument_oids.contains(&0);
        let unknown: Vec<_> = all().iter().filter(unknown).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn a_regproc_has_a_name_and_the_name_an_oid() {
        assert_eq!(name(750), Some("array_in"));
        assert_eq!(oid("array_in"), Some(750));
        assert_eq!(name(0), Some("-"));
    }
}
