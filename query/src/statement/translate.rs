//! Statements that sqlparser reads, as those that we execute. What nothing executes is refused by name.

use std::sync::Arc;

use sqlparser::ast;
use sqlparser::ast::{ObjectType, ShowStatementFilter, ShowStatementOptions, TableObject};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::{Delete, Insert, Statement, explain, fold, single, table_name_of};
use crate::error::QueryError;

/// The statement that a tree means.
pub(super) fn translate(statement: ast::Statement) -> Result<Statement, QueryError> {
    match statement {
        ast::Statement::Query(_) => Ok(Statement::Query(Arc::new(statement))),
        ast::Statement::Explain { .. } => explain::translate(statement).map(|plan| Statement::Query(Arc::new(plan))),
        ast::Statement::ExplainTable { table_name, .. } => Ok(Statement::Describe(table_name_of(table_name)?)),
        ast::Statement::Insert(insert) => self::insert(insert).map(Statement::Insert),
        ast::Statement::Delete(delete) => self::delete(delete).map(Statement::Delete),
        ast::Statement::Drop { object_type, if_exists, mut names, cascade, purge, .. } => {
            let (Some(name), true) = (names.pop(), names.is_empty()) else {
                return Err(QueryError::unsupported("DROP of several objects at once"));
            };
            if cascade || purge {
                return Err(QueryError::unsupported("DROP … CASCADE or PURGE"));
            }
            match object_type {
                ObjectType::Database => Ok(Statement::DropDatabase { name: single(name)?, if_exists }),
                ObjectType::Table => Ok(Statement::DropTable { name: table_name_of(name)?, if_exists }),
                ObjectType::View => Ok(Statement::DropView { name: table_name_of(name)?, if_exists }),
                other => Err(QueryError::unsupported(format!("DROP {other}"))),
            }
        }
        ast::Statement::ShowDatabases { show_options, .. } => {
            plain_show(&show_options)?;
            Ok(Statement::ShowDatabases)
        }
        ast::Statement::ShowSchemas { show_options, .. } => {
            plain_show(&show_options)?;
            Ok(Statement::ShowSchemas)
        }
        ast::Statement::ShowTables { show_options, .. } => {
            if show_options.show_in.is_some() {
                return Err(QueryError::unsupported("SHOW TABLES FROM"));
            }
            Ok(Statement::ShowTables { like: like(show_options)? })
        }
        ast::Statement::ShowColumns { show_options, .. } => {
            let name = show_options
                .show_in
                .and_then(|show_in| show_in.parent_name)
                .ok_or_else(|| QueryError::syntax("SHOW COLUMNS needs FROM and a table"))?;
            Ok(Statement::Describe(table_name_of(name)?))
        }
        ast::Statement::ShowVariable { variable } => {
            let words: Vec<_> = variable.into_iter().map(fold).collect();
            // The parser leaves dots out: `marigram.snapshot` arrives as two words.
            Ok(Statement::ShowVariable(words.join(" ")))
        }
        ast::Statement::CreateView(_) => Err(QueryError::unsupported("CREATE VIEW")),
        other => {
            let text = other.to_string();
            let words: Vec<_> = text.split_whitespace().take(2).collect();
            Err(QueryError::unsupported(words.join(" ")))
        }
    }
}

fn insert(insert: ast::Insert) -> Result<Insert, QueryError> {
    let odd = insert.or.is_some()
        || insert.ignore
        || insert.overwrite
        || insert.partitioned.is_some()
        || !insert.after_columns.is_empty()
        || !insert.assignments.is_empty()
        || insert.replace_into
        || insert.priority.is_some()
        || insert.insert_alias.is_some()
        || insert.settings.is_some()
        || insert.format_clause.is_some()
        || insert.multi_table_insert_type.is_some()
        || insert.output.is_some();
    if odd {
        return Err(QueryError::unsupported("this form of INSERT"));
    }
    if insert.on.is_some() {
        return Err(QueryError::unsupported("ON CONFLICT; a table of mode 'upsert' keeps the later row"));
    }
    if insert.returning.is_some() {
        return Err(QueryError::unsupported("RETURNING"));
    }
    let TableObject::TableName(table) = insert.table else {
        return Err(QueryError::unsupported("INSERT into anything but a table"));
    };
    let Some(source) = insert.source else {
        return Err(QueryError::unsupported("INSERT … DEFAULT VALUES"));
    };
    let columns = insert.columns.into_iter().map(single).collect::<Result<_, _>>()?;
    Ok(Insert { table: table_name_of(table)?, columns, source: Arc::new(ast::Statement::Query(source)) })
}

fn delete(delete: ast::Delete) -> Result<Delete, QueryError> {
    if delete.using.is_some() || !delete.tables.is_empty() {
        return Err(QueryError::unsupported("DELETE of several tables, or with USING"));
    }
    if delete.returning.is_some() {
        return Err(QueryError::unsupported("RETURNING"));
    }
    if !delete.order_by.is_empty() || delete.limit.is_some() {
        return Err(QueryError::unsupported("DELETE with ORDER BY or LIMIT"));
    }
    let (ast::FromTable::WithFromKeyword(mut from) | ast::FromTable::WithoutKeyword(mut from)) = delete.from;
    let name = match from.as_slice() {
        [ast::TableWithJoins { relation: ast::TableFactor::Table { name, .. }, joins }] if joins.is_empty() => {
            table_name_of(name.clone())?
        }
        _ => return Err(QueryError::unsupported("DELETE from anything but one table")),
    };
    // A query to fill: what it shows is decided once the table is known.
    let mut source = Parser::new(&PostgreSqlDialect {}).try_with_sql("SELECT 1")?.parse_statement()?;
    if let ast::Statement::Query(query) = &mut source
        && let ast::SetExpr::Select(select) = query.body.as_mut()
    {
        select.from = std::mem::take(&mut from);
        select.selection = delete.selection;
    }
    Ok(Delete { table: name, source: Arc::new(source), text: String::new() })
}

fn plain_show(options: &ShowStatementOptions) -> Result<(), QueryError> {
    if options.show_in.is_some() || options.filter_position.is_some() || options.limit.is_some() {
        return Err(QueryError::unsupported("a condition behind SHOW"));
    }
    Ok(())
}

fn like(options: ShowStatementOptions) -> Result<Option<String>, QueryError> {
    use ast::ShowStatementFilterPosition as Position;
    match options.filter_position {
        None => Ok(None),
        Some(Position::Infix(ShowStatementFilter::Like(pattern)))
        | Some(Position::Suffix(ShowStatementFilter::Like(pattern))) => Ok(Some(pattern)),
        Some(_) => Err(QueryError::unsupported("a condition other than LIKE behind SHOW")),
    }
}
