//! Names and texts as they are written in statements, and names that are looked up.

use super::{Definition, oid, text};
use crate::error::QueryError;
use crate::pg_catalog::definitions::{quote_ident, quote_literal};
use crate::pg_catalog::names::{self, Reg};
use crate::pg_catalog::objects::Objects;
use crate::pg_catalog::relation::Value;
use crate::statement::like;

type Answer = Result<Value<'static>, QueryError>;

/// A cast from text to a `reg…` type and back is a call of one of the last ten.
pub(super) const DEFINITIONS: &[Definition] = &[
    Definition::new("quote_ident", &["text"], "text", |_, values| Ok(Value::Owned(quote_ident(text(values, 0))))),
    Definition::new("quote_literal", &["text"], "text", |_, values| Ok(Value::Owned(quote_literal(text(values, 0))))),
    Definition::new("like_escape", &["text", "text"], "text", |_, values| {
        Ok(Value::Owned(like::escaped(text(values, 0), text(values, 1))?))
    }),
    Definition::new("quote_nullable", &["text"], "text", quote_nullable).with_nulls(),
    Definition::new("parse_ident", &["text", "bool"], "_text", |_, values| {
        Ok(Value::Texts(names::parse(text(values, 0))?))
    })
    .optional(1),
    Definition::new("to_regclass", &["text"], "regclass", |of, values| find(Reg::Class, of, values)),
    Definition::new("to_regtype", &["text"], "regtype", |of, values| find(Reg::Type, of, values)),
    Definition::new("to_regproc", &["text"], "regproc", |of, values| find(Reg::Procedure, of, values)),
    Definition::new("to_regnamespace", &["text"], "regnamespace", |of, values| find(Reg::Namespace, of, values)),
    Definition::new("to_regrole", &["text"], "regrole", |of, values| find(Reg::Role, of, values)),
    Definition::new("regclassin", &["text"], "regclass", |of, values| read(Reg::Class, of, values)),
    Definition::new("regtypein", &["text"], "regtype", |of, values| read(Reg::Type, of, values)),
    Definition::new("regprocin", &["text"], "regproc", |of, values| read(Reg::Procedure, of, values)),
    Definition::new("regnamespacein", &["text"], "regnamespace", |of, values| read(Reg::Namespace, of, values)),
    Definition::new("regrolein", &["text"], "regrole", |of, values| read(Reg::Role, of, values)),
    Definition::new("regclassout", &["regclass"], "text", |of, values| write(Reg::Class, of, values)),
    Definition::new("regtypeout", &["regtype"], "text", |of, values| write(Reg::Type, of, values)),
    Definition::new("regprocout", &["regproc"], "text", |of, values| write(Reg::Procedure, of, values)),
    Definition::new("regnamespaceout", &["regnamespace"], "text", |of, values| write(Reg::Namespace, of, values)),
    Definition::new("regroleout", &["regrole"], "text", |of, values| write(Reg::Role, of, values)),
];

/// The function that reads a value of a `reg…` type, or writes one.
pub(crate) fn reg_function(reg: Reg, writes: bool) -> &'static Definition {
    let name = match (reg, writes) {
        (Reg::Class, false) => "regclassin",
        (Reg::Type, false) => "regtypein",
        (Reg::Procedure, false) => "regprocin",
        (Reg::Namespace, false) => "regnamespacein",
        (Reg::Role, false) => "regrolein",
        (Reg::Class, true) => "regclassout",
        (Reg::Type, true) => "regtypeout",
        (Reg::Procedure, true) => "regprocout",
        (Reg::Namespace, true) => "regnamespaceout",
        (Reg::Role, true) => "regroleout",
    };
    let found = DEFINITIONS.iter().find(|of| of.name == name);
    found.unwrap_or_else(|| unreachable!("{name} is among the definitions"))
}

fn quote_nullable(_: &Objects<'_>, values: &[Value<'_>]) -> Answer {
    Ok(match values.first() {
        Some(Value::Null) | None => Value::Text("NULL"),
        Some(_) => Value::Owned(quote_literal(text(values, 0))),
    })
}

fn find(reg: Reg, objects: &Objects<'_>, values: &[Value<'_>]) -> Answer {
    Ok(reg.find(objects, text(values, 0))?.map_or(Value::Null, Value::Oid))
}

fn read(reg: Reg, objects: &Objects<'_>, values: &[Value<'_>]) -> Answer {
    Ok(Value::Oid(reg.read(objects, text(values, 0))?))
}

fn write(reg: Reg, objects: &Objects<'_>, values: &[Value<'_>]) -> Answer {
    Ok(Value::Owned(reg.write(objects, oid(values, 0))))
}
