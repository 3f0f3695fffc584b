//! Sorts that keep a few rows of each partition sort by all that the merge above them does.
//!
//! DataFusion leaves keys out that are one value in each partition, as in `SELECT x, 1 … UNION ALL SELECT x, 2 …`. But such
//! sorts tell one another what is too late to be kept, and what is equal in the keys that are left need not be.

use std::sync::Arc;

use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;

/// The rule. Comes when all sorts are in their places.
#[derive(Debug)]
pub(crate) struct MergedSorts;

impl PhysicalOptimizerRule for MergedSorts {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> DfResult<Arc<dyn ExecutionPlan>> {
        plan.transform_down(sorted_by_all).map(|plan| plan.data)
    }

    fn name(&self) -> &str {
        "merged_sorts"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn sorted_by_all(plan: Arc<dyn ExecutionPlan>) -> DfResult<Transformed<Arc<dyn ExecutionPlan>>> {
    let Some(merge) = plan.downcast_ref::<SortPreservingMergeExec>() else { return Ok(Transformed::no(plan)) };
    let Some(sort) = merge.input().downcast_ref::<SortExec>() else { return Ok(Transformed::no(plan)) };
    if !sort.preserve_partitioning() || sort.fetch().is_none() || sort.expr().len() == merge.expr().len() {
        return Ok(Transformed::no(plan));
    }
    let sort = SortExec::new(merge.expr().clone(), Arc::clone(sort.input()))
        .with_preserve_partitioning(true)
        .with_fetch(sort.fetch());
    let merge = SortPreservingMergeExec::new(merge.expr().clone(), Arc::new(sort)).with_fetch(merge.fetch());
    Ok(Transformed::yes(Arc::new(merge)))
}
