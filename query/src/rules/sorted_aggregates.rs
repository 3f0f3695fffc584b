//! Aggregations that can be done over sorted runs are.

use std::sync::Arc;

use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

use crate::sorted_aggregate::replaced;

/// Comes before all rules of DataFusion: they would put something between the steps of an aggregation, and count on it.
#[derive(Debug)]
pub(crate) struct SortedAggregates;

impl PhysicalOptimizerRule for SortedAggregates {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> DfResult<Arc<dyn ExecutionPlan>> {
        let replace = |node: Arc<dyn ExecutionPlan>| match replaced(&node)? {
            Some(ours) => Ok(Transformed::yes(ours)),
            None => Ok(Transformed::no(node)),
        };
        plan.transform_down(replace).map(|plan| plan.data)
    }

    fn name(&self) -> &str {
        "sorted_aggregates"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
