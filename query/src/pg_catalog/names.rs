//! From names to objects and back: what PostgreSQL's `reg…` types do.

use marigram_storage::schema::DatabaseId;

use super::definitions::quote_ident;
use super::objects::{Object, Objects, database_oid, schema_name, schema_oid};
use super::relation::Value;
use super::rows::role_names;
use super::{procedures, types};
use crate::error::{QueryError, QueryErrorKind};

/// The kinds of objects that a `reg…` type may mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reg {
    Class,
    Type,
    Procedure,
    Namespace,
    Role,
}

impl Reg {
    /// By the name of the type.
    pub(crate) fn of_type(name: &str) -> Option<Self> {
        Some(match name {
            "regclass" => Self::Class,
            "regtype" => Self::Type,
            "regproc" | "regprocedure" => Self::Procedure,
            "regnamespace" => Self::Namespace,
            "regrole" => Self::Role,
            _ => return None,
        })
    }

    /// The oid that a text means: a name, or digits.
    pub(crate) fn find(self, objects: &Objects<'_>, text: &str) -> Result<Option<u32>, QueryError> {
        if text == "-" {
            return Ok(Some(0));
        }
        if let Ok(oid) = text.parse() {
            return Ok(Some(oid));
        }
        Ok(match self {
            Self::Class => relation(objects, text)?.map(|object| object.oid),
            Self::Type => types::by_text(text).map(|of| of.oid),
            Self::Procedure => {
                let mut parts = parse(text.split('(').next().unwrap_or_default())?;
                parts.pop().and_then(|name| procedures::oid(&name))
            }
            Self::Namespace => parse(text)?.pop().and_then(|name| schema_oid(&name)),
            Self::Role => {
                let name = parse(text)?.pop().unwrap_or_default();
                role_names(objects).into_iter().find(|(_, of)| *of == name).map(|(oid, _)| oid)
            }
        })
    }

    /// The same, or the error of a cast.
    pub(crate) fn read(self, objects: &Objects<'_>, text: &str) -> Result<u32, QueryError> {
        self.find(objects, text)?.ok_or_else(|| match self {
            Self::Class => {
                let message = format!("relation {text:?} does not exist");
                QueryError::new(QueryErrorKind::UnknownTable, message).with_state("42P01")
            }
            Self::Type => missing("type", text, "42704"),
            Self::Procedure => missing("function", text, "42883"),
            Self::Namespace => missing("schema", text, "3F000"),
            Self::Role => missing("role", text, "42704"),
        })
    }

    /// The name of an oid, with its schema's where it would not be found without; digits where there is nothing.
    pub(crate) fn write(self, objects: &Objects<'_>, oid: u32) -> String {
        if oid == 0 {
            return "-".to_owned();
        }
        let name = match self {
            Self::Class => objects.by_oid(oid).map(|object| relation_name(objects, &object)),
            Self::Type => types::by_oid(oid).map(|of| of.title.to_owned()),
            Self::Procedure => procedures::name(oid).map(quote_ident),
            Self::Namespace => schema_name(oid).map(quote_ident),
            Self::Role => {
                role_names(objects).into_iter().find(|(of, _)| *of == oid).map(|(_, name)| quote_ident(&name))
            }
        };
        name.unwrap_or_else(|| oid.to_string())
    }
}

fn missing(what: &str, name: &str, state: &'static str) -> QueryError {
    QueryError::new(QueryErrorKind::Invalid, format!("{what} {name:?} does not exist")).with_state(state)
}

fn relation_name(objects: &Objects<'_>, object: &Object) -> String {
    let name = quote_ident(&object.name);
    match schema_name(object.schema) {
        Some(schema) if !objects.is_visible(object) => format!("{}.{name}", quote_ident(schema)),
        _ => name,
    }
}

/// The relation that a text names.
pub(crate) fn relation(objects: &Objects<'_>, text: &str) -> Result<Option<Object>, QueryError> {
    let mut parts = parse(text)?;
    let name = parts.pop().unwrap_or_default();
    let schema = parts.pop();
    if parts.pop().is_some_and(|database| database != objects.database_name) {
        return Ok(None);
    }
    Ok(objects.by_name(schema.as_deref(), &name))
}

/// The relation that an argument of the type `regclass` means, which is an oid, or a text that names one.
pub(crate) fn relation_argument(
    objects: &Objects<'_>,
    values: &[Value<'_>],
    at: usize,
) -> Result<Option<Object>, QueryError> {
    match values.get(at) {
        Some(Value::Oid(oid)) => Ok(objects.by_oid(*oid)),
        Some(Value::Text(text)) => Ok(objects.by_oid(Reg::Class.read(objects, text)?)),
        _ => Ok(None),
    }
}

/// The database that digits mean.
pub(crate) fn database(objects: &Objects<'_>, text: &str) -> Option<DatabaseId> {
    let oid: u32 = text.parse().ok()?;
    objects.context.databases().find(|of| database_oid(of.id) == oid).map(|of| of.id)
}

/// The parts of a name with dots: in lower case but where they are in quotes.
pub(crate) fn parse(text: &str) -> Result<Vec<String>, QueryError> {
    let invalid = || {
        let message = format!("string is not a valid identifier: {text:?}");
        QueryError::new(QueryErrorKind::Invalid, message).with_state("22023")
    };
    let mut parts = Vec::new();
    let mut rest = text.trim();
    loop {
        let (part, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_part(quoted).ok_or_else(invalid)?,
            None => {
                let end = rest.find(|c: char| c == '.' || c == '"' || c.is_whitespace()).unwrap_or(rest.len());
                let (part, behind) = rest.split_at(end);
                (part.to_lowercase(), behind)
            }
        };
        if part.is_empty() {
            return Err(invalid());
        }
        parts.push(part);
        rest = behind.trim_start();
        match rest.strip_prefix('.') {
            Some(behind) => rest = behind.trim_start(),
            None if rest.is_empty() => return Ok(parts),
            None => return Err(invalid()),
        }
    }
}

/// What stands before the quote that ends it, and what stands behind.
fn quoted_part(text: &str) -> Option<(String, &str)> {
    let mut part = String::new();
    let mut rest = text;
    loop {
        let (before, behind) = rest.split_once('"')?;
        part.push_str(before);
        match behind.strip_prefix('"') {
            Some(behind) => {
                part.push('"');
                rest = behind;
            }
            None => return Some((part, behind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_at_dots() {
        for (text, want) in
            [("cpu", vec!["cpu"]), ("public.CPU", vec!["public", "cpu"]), ("\"a.b\" . \"C\"\"d\"", vec!["a.b", "C\"d"])]
        {
            assert_eq!(parse(text).unwrap(), want, "{text}");
        }
        for text in ["", "a.", ".a", "a b", "\"a"] {
            assert_eq!(parse(text).unwrap_err().sqlstate, "22023", "{text}");
        }
    }
}
