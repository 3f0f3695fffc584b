//! `a ASOF [LEFT] JOIN b MATCH_CONDITION (…)` as the parser reads it and the planner takes it.
//!
//! sqlparser 0.62 knows no `LEFT` there, and what it says is so without it: rows of the left side stay. The planner plans
//! joins one by one, and asks us for what is in parentheses only; so each join is put into its own, with all before it.

use sqlparser::ast::{JoinOperator, Select, TableFactor, TableWithJoins};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

/// Takes `LEFT` and `LEFT OUTER` out from between `ASOF` and `JOIN`.
pub(crate) fn without_left(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let word = |token: &TokenWithSpan| match &token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    };
    let words: Vec<(usize, Option<Keyword>)> = tokens
        .iter()
        .enumerate()
        .filter(|(_, token)| !matches!(token.token, Token::Whitespace(_)))
        .map(|(at, token)| (at, word(token)))
        .collect();
    let mut left_out = Vec::new();
    for around in words.windows(4) {
        match around {
            [(_, Some(Keyword::ASOF)), (at, Some(Keyword::LEFT)), (_, Some(Keyword::JOIN)), _] => left_out.push(*at),
            [
                (_, Some(Keyword::ASOF)),
                (at, Some(Keyword::LEFT)),
                (outer, Some(Keyword::OUTER)),
                (_, Some(Keyword::JOIN)),
            ] => {
                left_out.extend([*at, *outer]);
            }
            _ => (),
        }
    }
    for at in left_out.into_iter().rev() {
        tokens.remove(at);
    }
    tokens
}

/// Puts the joins of a `FROM` into parentheses.
pub(super) fn nest_in_select(select: &mut Select) {
    select.from.iter_mut().for_each(nest);
}

/// Those in parentheses into their own.
pub(super) fn nest_in_factor(factor: &mut TableFactor) {
    if let TableFactor::NestedJoin { table_with_joins, .. } = factor {
        nest(table_with_joins);
    }
}

fn nest(tables: &mut TableWithJoins) {
    let is_asof = |operator: &JoinOperator| matches!(operator, JoinOperator::AsOf { .. });
    while let Some(at) = tables.joins.iter().position(|join| is_asof(&join.join_operator)) {
        let behind = tables.joins.split_off(at + 1);
        let join = tables.joins.split_off(at);
        let before = TableWithJoins { relation: tables.relation.clone(), joins: std::mem::take(&mut tables.joins) };
        let relation = if before.joins.is_empty() { before.relation } else { parentheses(before) };
        tables.relation = parentheses(TableWithJoins { relation, joins: join });
        tables.joins = behind;
    }
}

fn parentheses(tables: TableWithJoins) -> TableFactor {
    TableFactor::NestedJoin { table_with_joins: Box::new(tables), alias: None }
}

#[cfg(test)]
mod tests {
    use sqlparser::ast::{SetExpr, Statement};
    use sqlparser::dialect::PostgreSqlDialect;
    use sqlparser::parser::Parser;
    use sqlparser::tokenizer::Tokenizer;

    use super::*;

    #[test]
    fn each_join_is_alone_with_all_before_it() {
        #[track_caller]
        fn check(from: &str, want: &str) {
            let sql = format!("SELECT 1 FROM {from}");
            let tokens = Tokenizer::new(&PostgreSqlDialect {}, &sql).tokenize_with_location().unwrap();
            let mut parser = Parser::new(&PostgreSqlDialect {}).with_tokens_with_locations(without_left(tokens));
            let Ok(Statement::Query(mut query)) = parser.parse_statement() else { panic!("{from}") };
            let SetExpr::Select(select) = query.body.as_mut() else { panic!("{from}") };
            nest_in_select(select);
            assert_eq!(query.to_string(), format!("SELECT 1 FROM {want}"));
        }
        let on = "MATCH_CONDITION (p >= q) ON x = y";
        check("a JOIN b ON c, d", "a JOIN b ON c, d");
        check(&format!("a ASOF JOIN b {on}"), &format!("(a ASOF JOIN b {on})"));
        check(&format!("a ASOF /* */ LEFT JOIN b {on}"), &format!("(a ASOF JOIN b {on})"));
        check(&format!("a asof left outer join b {on}"), &format!("(a ASOF JOIN b {on})"));
        check(
            &format!("a JOIN b ON c ASOF JOIN d {on} JOIN e ON f, g ASOF JOIN h {on}"),
            &format!("((a JOIN b ON c) ASOF JOIN d {on}) JOIN e ON f, (g ASOF JOIN h {on})"),
        );
        check(
            &format!("a ASOF JOIN b {on} ASOF LEFT JOIN c {on} LEFT JOIN d ON e"),
            &format!("((a ASOF JOIN b {on}) ASOF JOIN c {on}) LEFT JOIN d ON e"),
        );
    }
}
