//! `x IN (a, b)` with columns in its list becomes `x = a OR x = b`.
//!
//! DataFusion takes a list for constant if it has values without rows; a `CASE` has some that are none of its own then, and
//! the answer would be that of another list. Runs once the types are settled.

use datafusion::common::Result as DfResult;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

/// The rule.
#[derive(Debug)]
pub(crate) struct InLists;

impl AnalyzerRule for InLists {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let rewritten = expr.transform_up(|expr| Ok(compared(expr)))?;
                Ok(rewritten.update_data(|expr| name.restore(expr)))
            })
        })
        .map(|transformed| transformed.data)
    }

    fn name(&self) -> &str {
        "in_lists"
    }
}

fn compared(expr: Expr) -> Transformed<Expr> {
    let Expr::InList(InList { expr: value, list, negated }) = &expr else { return Transformed::no(expr) };
    let is_computed = |of: &Expr| !matches!(of, Expr::Column(_)) && of.any_column_refs();
    if !list.iter().any(is_computed) || value.is_volatile() {
        return Transformed::no(expr);
    }
    let equal = list.iter().map(|of| value.as_ref().clone().eq(of.clone())).reduce(Expr::or);
    match equal {
        Some(equal) if *negated => Transformed::yes(Expr::Not(Box::new(equal))),
        Some(equal) => Transformed::yes(equal),
        None => Transformed::no(expr),
    }
}
