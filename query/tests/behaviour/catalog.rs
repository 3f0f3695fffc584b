//! What clients ask of the catalog, answered as PostgreSQL 15 answered it: `tests/catalog/record.sh` keeps its answers.

use std::collections::BTreeMap;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, ArrayRef};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, Field};
use marigram_query::{PG_TYPE, Request};

use crate::support::{Store, collect_with_schema};

/// A statement's number in `clients.sql`, and the table that it is about.
type Key = (usize, String);

/// The columns as name and type, and the rows.
#[derive(Debug, PartialEq)]
struct Answered {
    columns: Vec<(String, String)>,
    rows: Vec<String>,
}

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/catalog").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The statements of `clients.sql`, in their order.
fn statements() -> Vec<String> {
    let mut statements = Vec::new();
    let mut text = String::new();
    for line in file("clients.sql").lines() {
        let is_between = text.is_empty() && (line.is_empty() || line.starts_with("--"));
        if is_between || line.starts_with("-- client: ") {
            continue;
        }
        text.push_str(line);
        text.push('\n');
        if line.ends_with(';') {
            statements.push(std::mem::take(&mut text));
        }
    }
    statements
}

/// What PostgreSQL answered, with the names of tables in the places of their oids.
fn recorded() -> BTreeMap<Key, Answered> {
    let mut answers = BTreeMap::new();
    let text = file("answers.txt");
    let mut blocks = text.split("@ ");
    let oids = blocks.next().expect("the oids").lines().filter_map(|line| line.split_once(' '));
    let oids: Vec<_> = oids.map(|(name, oid)| (oid.to_owned(), name.to_owned())).collect();
    for block in blocks {
        let (head, rest) = block.split_once('\n').expect("a head");
        let (number, table) = head.split_once(' ').expect("a number and a table");
        let (columns, rows) = rest.split_once("--\n").expect("columns and rows");
        let columns = columns.lines().filter_map(|line| line.rsplit_once('|'));
        let columns = columns.map(|(name, of)| (name.to_owned(), of.to_owned())).collect();
        let rows = rows.lines().map(|row| named(row, &oids)).collect();
        answers.insert((number.parse().expect("a number"), table.to_owned()), Answered { columns, rows });
    }
    answers
}

/// A row with names in the places of oids.
fn named(row: &str, oids: &[(String, String)]) -> String {
    let name = |value: &str| match oids.iter().find(|(oid, _)| oid == value) {
        Some((_, name)) => format!("{{{name}}}"),
        None => value.to_owned(),
    };
    row.split('|').map(name).collect::<Vec<_>>().join("|")
}

/// Our tables' oids, and their names.
fn our_oids(store: &Store) -> Vec<(String, String)> {
    let rows = store.rows(
        "SELECT oid, relname FROM pg_class WHERE relnamespace = 'public'::regnamespace \
         UNION ALL SELECT oid, conname || '!' FROM pg_constraint",
    );
    rows.into_iter().filter_map(|row| Some((row.first()?.clone(), row.get(1)?.clone()))).collect()
}

/// What may differ.
#[derive(Clone, Copy, Debug)]
enum May {
    /// Rows are not compared.
    Differ,
    /// We have some of PostgreSQL's rows, one at least where it has any.
    Lack,
    /// Only rows that begin so are compared.
    Only(&'static str),
    /// Rows that begin so are not compared.
    Pass(&'static [&'static str]),
    /// The column at this place is not compared.
    Column(usize),
}

/// The statements whose answers differ, and why.
const DIFFERENCES: &[(usize, May, &str)] = &[
    (1, May::Differ, "versions are ours"),
    (6, May::Column(3), "a tag may be absent though it is part of the primary key"),
    (11, May::Lack, "we have two operator classes"),
    (18, May::Differ, "versions are ours"),
    (19, May::Only("{"), "what PostgreSQL's own relations are made of is its business"),
    (19, May::Pass(SYSTEM_COLUMNS), "rows have no system columns"),
    (20, May::Lack, "we list the types that a column of ours or of the catalog may have"),
    (23, May::Pass(&["system|"]), "the schema `system` is ours"),
    (24, May::Pass(&["postgres", "template1"]), "its databases are its own"),
    (25, May::Lack, "as 20"),
    (26, May::Lack, "as 20"),
    (29, May::Column(5), "as 6"),
    (39, May::Column(6), "sizes are those of our files"),
    (42, May::Column(3), "as 6"),
    (49, May::Column(3), "as 6"),
    (50, May::Only("main|"), "its databases are its own"),
    (51, May::Pass(&["system|"]), "the schema `system` is ours"),
    (51, May::Column(1), "`public` has an owner of its own there"),
    (52, May::Pass(&["postgres|"]), "its superuser is its own"),
    (53, May::Lack, "we list the functions that can be called"),
    (58, May::Differ, "versions are ours"),
    (62, May::Pass(&["system"]), "the schema `system` is ours"),
    (68, May::Pass(&["cardinal_number", "character_data", "sql_identifier", "time_stamp", "yes_or_no"]), "no domains"),
    (67, May::Column(3), "as 6"),
    (79, May::Differ, "versions are ours"),
    (80, May::Differ, "we have TimescaleDB's time_bucket, and say so"),
    (81, May::Pass(&["system."]), "the schema `system` is ours"),
];

const SYSTEM_COLUMNS: &[&str] = &[
    "{probe}|cmax|",
    "{probe}|cmin|",
    "{probe}|ctid|",
    "{probe}|tableoid|",
    "{probe}|xmax|",
    "{probe}|xmin|",
    "{gauge}|cmax|",
    "{gauge}|cmin|",
    "{gauge}|ctid|",
    "{gauge}|tableoid|",
    "{gauge}|xmax|",
    "{gauge}|xmin|",
];

/// Leaves out of both answers what may differ.
fn mask(number: usize, ours: &mut Vec<String>, theirs: &mut Vec<String>) {
    for (_, may, _) in DIFFERENCES.iter().filter(|(of, ..)| *of == number) {
        match may {
            May::Differ => {
                ours.clear();
                theirs.clear();
            }
            May::Lack => {
                assert!(theirs.is_empty() || !ours.is_empty() || number == 11, "@ {number}: nothing");
                theirs.retain(|row| ours.contains(row));
            }
            May::Only(start) => {
                ours.retain(|row| row.starts_with(start));
                theirs.retain(|row| row.starts_with(start));
            }
            May::Pass(starts) => {
                let is_kept = |row: &String| !starts.iter().any(|start| row.starts_with(start));
                ours.retain(is_kept);
                theirs.retain(is_kept);
            }
            May::Column(at) => {
                let without = |row: &mut String| {
                    let values = row.split('|').enumerate().filter(|(of, _)| of != at);
                    *row = values.map(|(_, value)| value).collect::<Vec<_>>().join("|");
                };
                ours.iter_mut().for_each(without);
                theirs.iter_mut().for_each(without);
            }
        }
    }
}

/// A column's type in PostgreSQL's words.
fn type_name(field: &Field) -> String {
    let plain = |name: &str| match name {
        "char" => "\"char\"".to_owned(),
        "varchar" => "character varying".to_owned(),
        other => other.to_owned(),
    };
    if let Some(name) = field.metadata().get(PG_TYPE) {
        return name.strip_prefix('_').map_or_else(|| plain(name), |item| format!("{}[]", plain(item)));
    }
    match field.data_type() {
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int16 => "smallint".to_owned(),
        DataType::Int32 => "integer".to_owned(),
        DataType::Int64 => "bigint".to_owned(),
        DataType::UInt32 => "oid".to_owned(),
        DataType::Float32 => "real".to_owned(),
        DataType::Float64 => "double precision".to_owned(),
        DataType::Timestamp(..) => "timestamp with time zone".to_owned(),
        DataType::List(item) => format!("{}[]", type_name(item)),
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => "text".to_owned(),
        other => other.to_string(),
    }
}

/// Types that a client reads alike.
fn family(name: &str) -> &str {
    if name.ends_with("[]") {
        return "array";
    }
    match name {
        "text" | "name" | "\"char\"" | "character varying" | "json" | "regproc" | "regclass" | "regtype" => "text",
        "smallint" | "integer" | "bigint" | "oid" | "numeric" | "UInt64" => "number",
        other => other,
    }
}

/// A value as psql shows it.
fn shown(field: &Field, array: &ArrayRef, row: usize) -> String {
    if array.is_null(row) || array.data_type() == &DataType::Null {
        return "NULL".to_owned();
    }
    match array.data_type() {
        DataType::Boolean => if array.as_boolean().value(row) { "t" } else { "f" }.to_owned(),
        DataType::Float32 => array.as_primitive::<Float32Type>().value(row).to_string(),
        DataType::List(item) => {
            let items = array.as_list::<i32>().value(row);
            let items: Vec<_> = (0..items.len()).map(|at| shown(item, &items, at)).collect();
            let is_vector = field.metadata().get(PG_TYPE).is_some_and(|name| name.ends_with("vector"));
            if is_vector { items.join(" ") } else { format!("{{{}}}", items.join(",")) }
        }
        _ => {
            let options = FormatOptions::default();
            ArrayFormatter::try_new(array, &options).expect("format").value(row).to_string()
        }
    }
}

fn answer(store: &Store, sql: &str) -> Result<Answered, String> {
    let asked = store.runtime.block_on(collect_with_schema(&store.query, Request::new("main", sql)));
    let (schema, batches) = asked.map_err(|error| format!("[{}] {}", error.sqlstate, error.message))?;
    let mut rows = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let of = |(field, array): (&std::sync::Arc<Field>, &ArrayRef)| shown(field, array, row);
            let values: Vec<_> = batch.schema().fields().iter().zip(batch.columns()).map(of).collect();
            rows.extend(values.join("|").lines().map(str::to_owned));
        }
    }
    Ok(Answered {
        columns: schema.fields().iter().map(|field| (field.name().clone(), type_name(field))).collect(),
        rows,
    })
}

fn oid_of(store: &Store, table: &str) -> String {
    let rows = store.rows(&format!("SELECT oid FROM pg_class WHERE relname = '{table}'"));
    rows.concat().concat()
}

#[test]
fn clients_get_the_answers_of_postgresql() {
    let store = Store::new();
    for statement in file("tables.sql").lines() {
        store.sql(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    let (recorded, oids) = (recorded(), our_oids(&store));
    let statements = statements();
    let mut failed = Vec::new();
    for (key, mut want) in recorded {
        let (number, table) = &key;
        let sql = statements.get(number - 1).expect("a statement of that number");
        let sql = sql.replace("{table}", table).replace("{oid}", &oid_of(&store, table));
        let mut got = match answer(&store, &sql) {
            Ok(got) => got,
            Err(error) => {
                failed.push(format!("@ {number} {table}\n{sql}{error}"));
                continue;
            }
        };
        got.rows = got.rows.iter().map(|row| named(row, &oids)).collect();
        got.rows.sort();
        want.rows.sort();
        mask(*number, &mut got.rows, &mut want.rows);
        if got.rows != want.rows {
            let less: Vec<_> = want.rows.iter().filter(|row| !got.rows.contains(row)).take(12).collect();
            let more: Vec<_> = got.rows.iter().filter(|row| !want.rows.contains(row)).take(12).collect();
            failed.push(format!("@ {number} {table}\n{sql}- {less:#?}\n+ {more:#?}"));
        }
        let of = |answered: &Answered| answered.columns.iter().map(|(_, of)| family(of).to_owned()).collect::<Vec<_>>();
        if of(&got) != of(&want) {
            failed.push(format!("@ {number} {table}\n- {:?}\n+ {:?}", want.columns, got.columns));
        }
    }
    assert!(failed.is_empty(), "{} differ\n{}", failed.len(), failed.join("\n\n"));
}
