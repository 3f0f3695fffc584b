//! PostgreSQL's types: their rows in `pg_type`, and what stands for them in Arrow.
//!
//! The facts are PostgreSQL 15's own, in `types.tsv`, written by `tests/catalog/facts.sh`. A column whose type Arrow has no
//! word for carries it in the metadata of its field, under [`PG_TYPE`]; whoever speaks PostgreSQL's protocol reads it there.

use std::collections::HashMap;
use std::sync::LazyLock;

use arrow_schema::{DataType, Field, FieldRef};

use super::names::Reg;
use crate::grid::TIME_TYPE;

/// The metadata of a field that names its PostgreSQL type, as `pg_type.typname` does: `oid`, `name`, `char`, `regproc`,
/// `int2vector`, `_aclitem` …. A field without it has the type that its Arrow type suggests.
pub const PG_TYPE: &str = "marigram.pg_type";

/// One row of `pg_type`.
#[derive(Debug)]
pub(crate) struct TypeFact {
    pub(crate) oid: u32,
    pub(crate) name: &'static str,
    /// As `format_type` writes it.
    pub(crate) title: &'static str,
    pub(crate) length: i16,
    pub(crate) by_value: bool,
    pub(crate) kind: &'static str,
    pub(crate) category: &'static str,
    pub(crate) preferred: bool,
    pub(crate) delimiter: &'static str,
    pub(crate) element: u32,
    pub(crate) array: u32,
    /// Oid and name of `typsubscript`, `typinput`, `typoutput`, `typreceive`, `typsend`, `typmodin`, `typmodout`, `typanalyze`.
    pub(crate) functions: [(u32, &'static str); 8],
    pub(crate) align: &'static str,
    pub(crate) storage: &'static str,
    pub(crate) collation: u32,
    pub(crate) description: &'static str,
}

static TYPES: LazyLock<Vec<TypeFact>> =
    LazyLock::new(|| include_str!("types.tsv").lines().filter_map(type_fact).collect());
static BY_NAME: LazyLock<HashMap<&'static str, &'static TypeFact>> =
    LazyLock::new(|| TYPES.iter().map(|fact| (fact.name, fact)).collect());

fn type_fact(line: &'static str) -> Option<TypeFact> {
    let mut parts = line.split('\t');
    let mut next = || parts.next();
    let (oid, name, title, length) = (number(next()?)?, next()?, next()?, next()?.parse().ok()?);
    let (by_value, kind, category) = (next()? == "t", next()?, next()?);
    let (preferred, delimiter) = (next()? == "t", next()?);
    let (element, array) = (number(next()?)?, number(next()?)?);
    let mut functions = [(0, "-"); 8];
    for function in &mut functions {
        *function = (number(next()?)?, next()?);
    }
    Some(TypeFact {
        oid,
        name,
        title,
        length,
        by_value,
        kind,
        category,
        preferred,
        delimiter,
        element,
        array,
        functions,
        align: next()?,
        storage: next()?,
        collation: number(next()?)?,
        description: next()?,
    })
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

/// All that we know, by oid.
pub(crate) fn all() -> &'static [TypeFact] {
    &TYPES
}

/// The type of an oid.
pub(crate) fn by_oid(oid: u32) -> Option<&'static TypeFact> {
    let at = TYPES.binary_search_by_key(&oid, |fact| fact.oid).ok()?;
    TYPES.get(at)
}

/// The type of a name as `pg_type` has it.
pub(crate) fn by_name(name: &str) -> Option<&'static TypeFact> {
    BY_NAME.get(name).copied()
}

/// How a type of this name is called in full and in short; what is not known is text.
pub(crate) fn titles(name: &str) -> (&'static str, &'static str) {
    by_name(name).map_or(("text", "text"), |fact| (fact.title, fact.name))
}

/// The type that a text means: either of its names, `[]` behind it for its array.
pub(crate) fn by_text(text: &str) -> Option<&'static TypeFact> {
    let lower = text.trim().to_lowercase();
    let lower = lower.strip_prefix("pg_catalog.").unwrap_or(&lower);
    let plain = match lower {
        "int" => "integer",
        "decimal" => "numeric",
        "float" => "double precision",
        other => other,
    };
    let quoted = plain.trim_matches('"');
    TYPES.iter().find(|fact| fact.title == plain).or_else(|| by_name(quoted))
}

/// The Arrow type that stands for a type of this name.
pub(crate) fn arrow(name: &str) -> DataType {
    match name {
        "bool" => DataType::Boolean,
        "int2" => DataType::Int16,
        "int4" => DataType::Int32,
        "int8" => DataType::Int64,
        "oid" | "xid" | "cid" | "regproc" | "regprocedure" | "regoper" | "regoperator" | "regclass" | "regtype"
        | "regrole" | "regnamespace" | "regcollation" => DataType::UInt32,
        "float4" => DataType::Float32,
        "float8" => DataType::Float64,
        "timestamptz" | "timestamp" => TIME_TYPE,
        "int2vector" => list("int2"),
        "oidvector" => list("oid"),
        "anyarray" => list("text"),
        _ => match name.strip_prefix('_') {
            Some(element) => list(element),
            None => DataType::Utf8View,
        },
    }
}

/// The field of the list says what it is, that of its elements does not: constants lose it.
fn list(element: &str) -> DataType {
    DataType::new_list(arrow(element), true)
}

/// A field of this type.
pub(crate) fn field(name: &str, pg_type: &str, nullable: bool) -> Field {
    let field = Field::new(name, arrow(pg_type), nullable);
    let plain = ["bool", "int2", "int4", "int8", "float4", "float8", "text", "timestamptz"];
    if plain.contains(&pg_type) {
        return field;
    }
    field.with_metadata(HashMap::from([(PG_TYPE.to_owned(), pg_type.to_owned())]))
}

/// The `reg…` type that the oids of a field are of.
pub(crate) fn reg_of_field(field: &FieldRef) -> Option<Reg> {
    // A cast to text keeps the metadata of what it casts.
    if field.data_type() == &DataType::UInt32 { of_field(field).and_then(Reg::of_type) } else { None }
}

/// The PostgreSQL type that a field names.
pub(crate) fn of_field(field: &FieldRef) -> Option<&str> {
    field.metadata().get(PG_TYPE).map(String::as_str)
}

/// Whether a field is an array that begins at 0.
pub(crate) fn is_vector(field: &FieldRef) -> bool {
    matches!(field.data_type(), DataType::List(_)) && of_field(field).is_some_and(|name| name.ends_with("vector"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_facts_is_a_type() {
        assert_eq!(all().len(), include_str!("types.tsv").lines().count());
        assert!(all().is_sorted_by_key(|fact| fact.oid));
        for fact in all().iter().filter(|fact| fact.array != 0) {
            assert_eq!(by_oid(fact.array).map(|array| array.element), Some(fact.oid), "{}", fact.name);
        }
    }

    #[test]
    fn a_type_has_two_names_and_an_array() {
        for (text, want) in [
            ("integer", Some(23)),
            ("int4", Some(23)),
            ("INT", Some(23)),
            ("pg_catalog.int4", Some(23)),
            ("character varying", Some(1043)),
            ("bigint[]", Some(1016)),
            ("\"char\"", Some(18)),
            ("hstore", None),
        ] {
            assert_eq!(by_text(text).map(|fact| fact.oid), want, "{text}");
        }
    }
}
