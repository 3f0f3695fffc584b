//! `x IN (a, b)` with columns in its list becomes `x = a OR x = b`.
//!
//! DataFusion takes a list for constant if it has values without rows; a `CASE` has some that are none of its own then, and
//! the answer would be that of another list. Runs once the types are settled.

use datafusion::common::Result as DfResult;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

use crate::error::{QueryError, QueryErrorKind};

/// What is looked for stands in the answer once for each element: so large it gets at most.
const NODES_MAX: usize = 1 << 18;

/// The rule.
#[derive(Debug)]
pub(crate) struct InLists;

impl AnalyzerRule for InLists {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let rewritten = expr.transform_up(compared)?;
                Ok(rewritten.update_data(|expr| name.restore(expr)))
            })
        })
        .map(|transformed| transformed.data)
    }

    fn name(&self) -> &str {
        "in_lists"
    }
}

fn compared(expr: Expr) -> DfResult<Transformed<Expr>> {
    let Expr::InList(InList { expr: value, list, negated }) = &expr else { return Ok(Transformed::no(expr)) };
    let is_computed = |of: &Expr| !matches!(of, Expr::Column(_)) && of.any_column_refs();
    if !list.iter().any(is_computed) || value.is_volatile() {
        return Ok(Transformed::no(expr));
    }
    let mut nodes = 0_usize;
    value.apply(|_| {
        nodes += 1;
        Ok(TreeNodeRecursion::Continue)
    })?;
    if NODES_MAX < nodes.saturating_mul(list.len()) {
        let message = "an IN list with columns in it is too long for what is looked for in it";
        return Err(QueryError::new(QueryErrorKind::Limit, message).into());
    }
    let equal = list.iter().map(|of| value.as_ref().clone().eq(of.clone())).reduce(Expr::or);
    Ok(match equal {
        Some(equal) if *negated => Transformed::yes(Expr::Not(Box::new(equal))),
        Some(equal) => Transformed::yes(equal),
        None => Transformed::no(expr),
    })
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};

    use super::*;

    #[test]
    fn what_is_looked_for_is_repeated_so_often_at_most() {
        let value = |nodes: usize| (0..nodes / 2).fold(col("a"), |sum, _| sum + lit(1));
        let list = |elements: usize| vec![col("b") + lit(1); elements];
        let short = compared(value(500).in_list(list(500), true)).unwrap();
        assert!(short.transformed && matches!(short.data, Expr::Not(_)));
        assert!(!compared(value(600).in_list(vec![lit(1); 600], false)).unwrap().transformed);
        let error = QueryError::from(compared(value(600).in_list(list(600), false)).unwrap_err());
        assert_eq!(error.sqlstate, "54000");
    }
}
