//! What PostgreSQL's clients write about the catalog and DataFusion does not plan, or plans otherwise: rewritten in the tree,
//! by what a part of a query means, whatever the query.
//!
//! - Relations of `pg_catalog` are found without its name, unless a `WITH` has the name; functions, operators and types with
//!   it: `pg_catalog.format_type(…)`, `OPERATOR(pg_catalog.~)`, `x::pg_catalog.text`.
//! - `COLLATE` of an order by bytes says what is so anyway.
//! - `ARRAY(SELECT …)` is an aggregate in a scalar subquery.
//! - Functions that return sets are `unnest` of functions that return arrays; an alias of such a function in `FROM` names its
//!   column, too.
//! - Names of a select list may repeat: from the second on they end in `:1`, `:2` ….

use std::collections::HashSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    AccessExpr, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArgumentList, FunctionArguments, GroupByExpr, Ident, ObjectName, ObjectNamePart, OrderByExpr, OrderByKind,
    Query, Select, SelectItem, SetExpr, Statement, TableAlias, TableAliasColumnDef, TableFactor, Value, VisitMut,
    VisitorMut,
};

use super::fold;
use crate::context::schemas;
use crate::pg_catalog;

/// Rewrites a query.
pub(super) fn rewrite(statement: &mut Statement) {
    let ControlFlow::Continue(()) = statement.visit(&mut Rewrite { named: Vec::new() });
}

/// Whether a collation orders texts by their bytes, as we do.
pub(super) fn is_by_bytes(collation: &ObjectName) -> bool {
    let names: Vec<_> = collation.0.iter().filter_map(|part| part.as_ident().cloned()).map(fold).collect();
    let name = match names.as_slice() {
        [name] => name,
        [schema, name] if schema == schemas::CATALOG => name,
        _ => return false,
    };
    matches!(name.as_str(), "default" | "c" | "C" | "posix" | "POSIX" | "ucs_basic")
}

struct Rewrite {
    /// The names that each query around the current place gives to others in its `WITH`.
    named: Vec<Vec<String>>,
}

impl VisitorMut for Rewrite {
    type Break = std::convert::Infallible;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        let names = query.with.iter().flat_map(|with| &with.cte_tables);
        self.named.push(names.map(|cte| fold(cte.alias.name.clone())).collect());
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Self::Break> {
        self.named.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<Self::Break> {
        if let [ObjectNamePart::Identifier(ident)] = relation.0.as_slice() {
            let name = fold(ident.clone());
            let is_named = self.named.iter().flatten().any(|of| *of == name);
            if !is_named && pg_catalog::is_relation(&name) {
                relation.0.insert(0, ObjectNamePart::Identifier(Ident::new(schemas::CATALOG)));
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        table_function(factor);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        match expr {
            Expr::Function(function) => {
                unqualify(&mut function.name);
                if let FunctionArguments::Subquery(query) = &mut function.args
                    && is_called(&function.name, "array")
                {
                    let query = std::mem::replace(query, empty_query());
                    *expr = array_of(query);
                } else if returns_set(&function.name) {
                    let call = std::mem::replace(expr, Expr::value(Value::Null));
                    *expr = call_of("unnest", vec![call]);
                }
            }
            Expr::Identifier(ident) if ident.quote_style.is_none() && is_keyword(&ident.value) => {
                *expr = call_of(&ident.value.to_ascii_lowercase(), Vec::new());
            }
            Expr::BinaryOp { op, .. } => {
                if let BinaryOperator::PGCustomBinaryOperator(parts) = op
                    && let Some(plain) = operator(parts)
                {
                    *op = plain;
                }
            }
            // A field of a row is named by a text here; of a bare name, what stands behind is a column.
            Expr::CompoundFieldAccess { root, access_chain } if !matches!(**root, Expr::Identifier(_)) => {
                for access in access_chain {
                    if let AccessExpr::Dot(field) = access
                        && let Expr::Identifier(ident) = field
                    {
                        *field = Expr::value(Value::SingleQuotedString(fold(ident.clone())));
                    }
                }
            }
            Expr::Collate { expr: of, collation } if is_by_bytes(collation) => {
                *expr = std::mem::replace(of, Expr::value(Value::Null));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<Self::Break> {
        tell_names_apart(&mut select.projection);
        ControlFlow::Continue(())
    }
}

/// Takes a schema that functions are in from before the name of one.
fn unqualify(name: &mut ObjectName) {
    if let [ObjectNamePart::Identifier(schema), ObjectNamePart::Identifier(_)] = name.0.as_slice()
        && matches!(fold(schema.clone()).as_str(), schemas::CATALOG | schemas::INFORMATION)
    {
        name.0.remove(0);
    }
}

fn is_called(name: &ObjectName, wanted: &str) -> bool {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)] => ident.value.eq_ignore_ascii_case(wanted),
        _ => false,
    }
}

/// Words that are functions without parentheses, and that the parser takes for columns.
fn is_keyword(word: &str) -> bool {
    word.eq_ignore_ascii_case("current_schema") || word.eq_ignore_ascii_case("current_role")
}

/// Those that are functions returning arrays here.
fn returns_set(name: &ObjectName) -> bool {
    is_called(name, "generate_subscripts") || is_called(name, "_pg_expandarray")
}

/// The operator that `OPERATOR(pg_catalog.…)` means.
fn operator(parts: &[String]) -> Option<BinaryOperator> {
    let symbol = match parts {
        [schema, symbol] if schema == schemas::CATALOG => symbol,
        [symbol] => symbol,
        _ => return None,
    };
    Some(match symbol.as_str() {
        "~" => BinaryOperator::PGRegexMatch,
        "~*" => BinaryOperator::PGRegexIMatch,
        "!~" => BinaryOperator::PGRegexNotMatch,
        "!~*" => BinaryOperator::PGRegexNotIMatch,
        "~~" => BinaryOperator::PGLikeMatch,
        "~~*" => BinaryOperator::PGILikeMatch,
        "!~~" => BinaryOperator::PGNotLikeMatch,
        "!~~*" => BinaryOperator::PGNotILikeMatch,
        "=" => BinaryOperator::Eq,
        "<>" => BinaryOperator::NotEq,
        "<" => BinaryOperator::Lt,
        "<=" => BinaryOperator::LtEq,
        ">" => BinaryOperator::Gt,
        ">=" => BinaryOperator::GtEq,
        "+" => BinaryOperator::Plus,
        "-" => BinaryOperator::Minus,
        "*" => BinaryOperator::Multiply,
        "/" => BinaryOperator::Divide,
        "||" => BinaryOperator::StringConcat,
        _ => return None,
    })
}

fn call_of(name: &str, arguments: Vec<Expr>) -> Expr {
    Expr::Function(function(name, arguments, Vec::new()))
}

fn function(name: &str, arguments: Vec<Expr>, clauses: Vec<FunctionArgumentClause>) -> Function {
    let args = arguments.into_iter().map(|of| FunctionArg::Unnamed(FunctionArgExpr::Expr(of))).collect();
    Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    }
}

/// A query of nothing, to stand in a place for a moment.
fn empty_query() -> Box<Query> {
    Box::new(Query {
        with: None,
        body: Box::new(SetExpr::Values(sqlparser::ast::Values {
            explicit_row: false,
            value_keyword: false,
            rows: Vec::new(),
        })),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    })
}

/// `SELECT expr`.
fn one_row(expr: Expr) -> Box<Query> {
    let mut query = empty_query();
    if let SetExpr::Values(values) = query.body.as_mut() {
        values.rows.push(sqlparser::ast::Parens::with_empty_span(vec![expr]));
    }
    query
}

/// `ARRAY(query)`: the aggregate is put around what the query selects, in its order.
fn array_of(mut query: Box<Query>) -> Expr {
    if let Some(order_by) = plain_order(&query)
        && let SetExpr::Select(select) = query.body.as_mut()
        && let [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] =
            select.projection.as_slice()
    {
        let item = item.clone();
        let by_place = |mut of: OrderByExpr| {
            if matches!(&of.expr, Expr::Value(value) if matches!(&value.value, Value::Number(number, _) if number == "1"))
            {
                of.expr = item.clone();
            }
            of
        };
        let order_by: Vec<_> = order_by.into_iter().map(by_place).collect();
        let clauses = if order_by.is_empty() { vec![] } else { vec![FunctionArgumentClause::OrderBy(order_by)] };
        let aggregate = Expr::Function(function("array_agg", vec![item], clauses));
        select.projection = vec![SelectItem::UnnamedExpr(aggregate)];
        query.order_by = None;
    }
    call_of("array_not_null", vec![Expr::Subquery(query)])
}

/// The order of a query that is a plain select, which an aggregate can take over.
fn plain_order(query: &Query) -> Option<Vec<OrderByExpr>> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let is_plain = query.with.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && select.distinct.is_none()
        && select.having.is_none()
        && select.projection.len() == 1
        && matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty());
    match &query.order_by {
        _ if !is_plain => None,
        None => Some(Vec::new()),
        Some(order_by) => match &order_by.kind {
            OrderByKind::Expressions(by) => Some(by.clone()),
            OrderByKind::All(_) => None,
        },
    }
}

/// A function in `FROM` that returns a set.
fn table_function(factor: &mut TableFactor) {
    match factor {
        TableFactor::Table { name, args: Some(args), alias, .. } => {
            unqualify(name);
            let is_series = is_called(name, "generate_series");
            let is_set = is_series || is_called(name, "unnest") || returns_set(name);
            if is_called(name, "range") {
                return;
            }
            let plain = |arg: &FunctionArg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
                _ => None,
            };
            let Some(arguments) = args.args.iter().map(plain).collect::<Option<Vec<_>>>() else { return };
            if is_series && arguments.iter().all(is_constant) {
                return; // DataFusion makes a table of it, with a column `value`
            }
            name_column(alias);
            if !is_set {
                let call = Expr::Function(Function { name: name.clone(), ..function("", arguments, Vec::new()) });
                let title = name.0.last().and_then(ObjectNamePart::as_ident).cloned();
                let named = |name: Ident| TableAlias { explicit: true, name, columns: Vec::new(), at: None };
                let mut alias = alias.take().or_else(|| title.map(named));
                name_column(&mut alias);
                let query = one_row(call);
                *factor = TableFactor::Derived { lateral: false, subquery: query, alias, sample: None };
                return;
            }
            let array_exprs = match is_called(name, "unnest") {
                true => arguments,
                false => vec![Expr::Function(Function { name: name.clone(), ..function("", arguments, Vec::new()) })],
            };
            let alias = alias.take();
            *factor = TableFactor::UNNEST {
                alias,
                array_exprs,
                with_offset: false,
                with_offset_alias: None,
                with_ordinality: false,
            };
        }
        TableFactor::UNNEST { alias, array_exprs, .. } if array_exprs.len() == 1 => name_column(alias),
        _ => {}
    }
}

/// The alias of a function names its column, too.
fn name_column(alias: &mut Option<TableAlias>) {
    if let Some(alias) = alias
        && alias.columns.is_empty()
    {
        let name = alias.name.clone();
        alias.columns.push(TableAliasColumnDef { name, data_type: None });
    }
}

/// A literal, or the negative of one.
fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Value(_) | Expr::TypedString(_) | Expr::Interval(_) => true,
        Expr::UnaryOp { expr, .. } | Expr::Cast { expr, .. } | Expr::Nested(expr) => is_constant(expr),
        _ => false,
    }
}

/// Gives an alias to what would have the name of something before it.
fn tell_names_apart(projection: &mut [SelectItem]) {
    if projection.len() < 2 {
        return;
    }
    let mut taken: HashSet<String> = HashSet::new();
    for item in projection {
        let (key, title) = match &*item {
            SelectItem::UnnamedExpr(expr) => (shown(expr), title(expr)),
            SelectItem::ExprWithAlias { alias, .. } => (fold(alias.clone()), fold(alias.clone())),
            _ => continue,
        };
        if taken.insert(key) {
            continue;
        }
        let name = (1..).map(|count: usize| format!("{title}:{count}")).find(|name| !taken.contains(name));
        let name = name.unwrap_or_default();
        taken.insert(name.clone());
        let alias = Ident::with_quote('"', name);
        let placeholder = SelectItem::UnnamedExpr(Expr::value(Value::Null));
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } =
            std::mem::replace(item, placeholder)
        {
            *item = SelectItem::ExprWithAlias { expr, alias };
        }
    }
}

/// What the planner would call an expression, roughly: it leaves casts out of names.
fn shown(expr: &Expr) -> String {
    struct WithoutCasts;
    impl VisitorMut for WithoutCasts {
        type Break = std::convert::Infallible;

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
            if let Expr::Cast { expr: of, .. } | Expr::Nested(of) = expr {
                *expr = std::mem::replace(of, Expr::value(Value::Null));
            }
            ControlFlow::Continue(())
        }
    }
    let mut bare = expr.clone();
    let ControlFlow::Continue(()) = bare.visit(&mut WithoutCasts);
    bare.to_string().to_lowercase()
}

/// What PostgreSQL would call an expression.
fn title(expr: &Expr) -> String {
    match expr {
        Expr::Identifier(ident) => fold(ident.clone()),
        Expr::CompoundIdentifier(parts) => parts.last().cloned().map(fold).unwrap_or_default(),
        Expr::Function(function) => function.name.0.last().map(ToString::to_string).unwrap_or_default(),
        Expr::Cast { expr, .. } | Expr::Nested(expr) => title(expr),
        Expr::Case { .. } => "case".to_owned(),
        _ => "?column?".to_owned(),
    }
}
