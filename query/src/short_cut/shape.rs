//! The outline of a query that the short cut takes: one table, conditions that are ANDed, keys, an order, a limit.
//!
//! Every part that a query may have is named here: one that is not looked at would be ignored.

use sqlparser::ast::{
    self, BinaryOperator, Distinct, Expr, GroupByExpr, Ident, LimitClause, ObjectName, OrderByKind, OrderByOptions,
    Query, Select, SelectFlavor, SelectItem, SetExpr, TableFactor, TableWithJoins, Value,
};

use crate::statement::fold_ref;

/// A query over one table, not yet held against it.
pub(super) struct Shape<'a> {
    pub(super) table: &'a ObjectName,
    /// What stands before the names of its columns.
    pub(super) alias: Option<String>,
    /// What stands behind `DISTINCT ON`.
    pub(super) distinct_on: &'a [Expr],
    pub(super) items: Vec<Item<'a>>,
    /// All must hold.
    pub(super) conditions: Vec<&'a Expr>,
    pub(super) group_by: &'a [Expr],
    pub(super) order_by: Vec<Order<'a>>,
    pub(super) limit: Option<usize>,
}

/// What stands behind `SELECT`.
pub(super) enum Item<'a> {
    /// `*`.
    All,
    One(&'a Expr, Option<String>),
}

pub(super) struct Order<'a> {
    pub(super) expr: &'a Expr,
    pub(super) descending: bool,
    pub(super) nulls_first: bool,
}

impl<'a> Shape<'a> {
    /// The outline of `query`; `None` where it has another one.
    pub(super) fn of(query: &'a Query) -> Option<Self> {
        let Query {
            with: None,
            body,
            order_by,
            limit_clause,
            fetch: None,
            locks,
            for_clause: None,
            settings: None,
            format_clause: None,
            pipe_operators,
        } = query
        else {
            return None;
        };
        let SetExpr::Select(select) = body.as_ref() else { return None };
        if !locks.is_empty() || !pipe_operators.is_empty() || has_more(select) {
            return None;
        }
        let (table, alias) = relation(&select.from)?;
        let GroupByExpr::Expressions(group_by, modifiers) = &select.group_by else { return None };
        if !modifiers.is_empty() {
            return None;
        }
        let distinct_on = match &select.distinct {
            None => &[],
            Some(Distinct::On(exprs)) => exprs.as_slice(),
            Some(Distinct::Distinct | Distinct::All) => return None,
        };
        let mut conditions = Vec::new();
        if let Some(selection) = &select.selection {
            conjuncts(selection, &mut conditions);
        }
        Some(Self {
            table,
            alias,
            distinct_on,
            items: select.projection.iter().map(item).collect::<Option<_>>()?,
            conditions,
            group_by,
            order_by: match order_by {
                None => Vec::new(),
                Some(order_by) => orders(order_by)?,
            },
            limit: match limit_clause {
                None => None,
                Some(clause) => Some(limit(clause)?),
            },
        })
    }
}

/// Whether a `SELECT` has anything beside items, one table, a condition and keys, `DISTINCT` apart.
fn has_more(select: &Select) -> bool {
    let Select {
        select_token: _,
        optimizer_hints,
        distinct: _,
        select_modifiers,
        top,
        top_before_distinct: _,
        projection: _,
        exclude,
        into,
        from: _,
        lateral_views,
        prewhere,
        selection: _,
        connect_by,
        group_by: _,
        cluster_by,
        distribute_by,
        sort_by,
        having,
        named_window,
        qualify,
        window_before_qualify: _,
        value_table_mode,
        flavor,
    } = select;
    !optimizer_hints.is_empty()
        || select_modifiers.is_some()
        || top.is_some()
        || exclude.is_some()
        || into.is_some()
        || !lateral_views.is_empty()
        || prewhere.is_some()
        || !connect_by.is_empty()
        || !cluster_by.is_empty()
        || !distribute_by.is_empty()
        || !sort_by.is_empty()
        || having.is_some()
        || !named_window.is_empty()
        || qualify.is_some()
        || value_table_mode.is_some()
        || *flavor != SelectFlavor::Standard
}

fn relation(from: &[TableWithJoins]) -> Option<(&ObjectName, Option<String>)> {
    let [TableWithJoins { relation, joins }] = from else { return None };
    let TableFactor::Table {
        name,
        alias,
        args: None,
        with_hints,
        version: None,
        with_ordinality: false,
        partitions,
        json_path: None,
        sample: None,
        index_hints,
    } = relation
    else {
        return None;
    };
    if !joins.is_empty() || !with_hints.is_empty() || !partitions.is_empty() || !index_hints.is_empty() {
        return None;
    }
    match alias {
        None => Some((name, None)),
        Some(alias) if alias.columns.is_empty() && alias.at.is_none() => Some((name, Some(fold_ref(&alias.name)))),
        Some(_) => None,
    }
}

fn item(item: &SelectItem) -> Option<Item<'_>> {
    match item {
        SelectItem::UnnamedExpr(expr) => Some(Item::One(expr, None)),
        SelectItem::ExprWithAlias { expr, alias } => Some(Item::One(expr, Some(fold_ref(alias)))),
        SelectItem::Wildcard(options) if *options == ast::WildcardAdditionalOptions::default() => Some(Item::All),
        _ => None,
    }
}

fn conjuncts<'a>(expr: &'a Expr, out: &mut Vec<&'a Expr>) {
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            conjuncts(left, out);
            conjuncts(right, out);
        }
        Expr::Nested(inner) => conjuncts(inner, out),
        other => out.push(other),
    }
}

fn orders(order_by: &ast::OrderBy) -> Option<Vec<Order<'_>>> {
    let ast::OrderBy { kind: OrderByKind::Expressions(exprs), interpolate: None } = order_by else { return None };
    exprs
        .iter()
        .map(|order| {
            let ast::OrderByExpr { expr, options: OrderByOptions { asc, nulls_first }, with_fill: None } = order else {
                return None;
            };
            let descending = *asc == Some(false);
            // PostgreSQL takes NULL for larger than all values.
            Some(Order { expr, descending, nulls_first: nulls_first.unwrap_or(descending) })
        })
        .collect()
}

fn limit(clause: &LimitClause) -> Option<usize> {
    match clause {
        LimitClause::LimitOffset { limit: Some(limit), offset: None, limit_by } if limit_by.is_empty() => {
            number(limit).filter(|limit| 0 < *limit)
        }
        _ => None,
    }
}

/// A whole number that is written out.
pub(super) fn number(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(text, false) => text.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

/// The name of a column, and what stands before it.
pub(super) fn name(expr: &Expr) -> Option<(Option<&Ident>, &Ident)> {
    match expr {
        Expr::Identifier(name) => Some((None, name)),
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [table, name] => Some((Some(table), name)),
            _ => None,
        },
        _ => None,
    }
}
