//! Conditions that look at no column stay above an aggregate that gives a row of no rows.
//!
//! DataFusion asks them of the rows below: `SELECT count(*) FROM t HAVING (SELECT …) = 0` would count none and say 0, where no
//! row may come. A limit that cuts nothing keeps them where they are.

use std::sync::Arc;

use datafusion::common::Result as DfResult;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::AnalyzerRule;

/// More rows than any aggregate gives.
const ALL: usize = i64::MAX as usize;

/// The rule.
#[derive(Debug)]
pub(crate) struct LoneConditions;

impl AnalyzerRule for LoneConditions {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        plan.transform_up_with_subqueries(kept).map(|transformed| transformed.data)
    }

    fn name(&self) -> &str {
        "lone_conditions"
    }
}

fn kept(plan: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
    let LogicalPlan::Filter(filter) = plan else { return Ok(Transformed::no(plan)) };
    let input = Arc::unwrap_or_clone(filter.input).transform_down(covered)?;
    let filter = Filter::try_new(filter.predicate, Arc::new(input.data))?;
    Ok(Transformed::new(LogicalPlan::Filter(filter), input.transformed, TreeNodeRecursion::Continue))
}

/// Puts the limit above an aggregate that a filter can come down to.
fn covered(plan: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
    match &plan {
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Filter(_) | LogicalPlan::Sort(_) => {
            Ok(Transformed::no(plan))
        }
        LogicalPlan::Aggregate(of)
            if of.group_expr.is_empty() || of.group_expr.iter().any(|key| matches!(key, Expr::GroupingSet(_))) =>
        {
            let limited = LogicalPlanBuilder::from(plan).limit(0, Some(ALL))?.build()?;
            Ok(Transformed::new(limited, true, TreeNodeRecursion::Jump))
        }
        _ => Ok(Transformed::new(plan, false, TreeNodeRecursion::Jump)),
    }
}
