//! From logical plans to operators: DataFusion's planner, with the nodes that are ours.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::Result as DfResult;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};

use crate::apply::{self, Apply};
use crate::asof_join::{self, AsofJoin};
use crate::gap_fill::{self, GapFill};

/// The planner of all sessions.
#[derive(Debug)]
pub(crate) struct Planner;

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(Nodes)]);
        planner.create_physical_plan(plan, session).await
    }
}

struct Nodes;

#[async_trait]
impl ExtensionPlanner for Nodes {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        context: &PhysicalPlanningContext,
    ) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
        let node = node.as_any();
        if let (Some(node), [input]) = (node.downcast_ref::<Apply>(), inputs) {
            return apply::planned(node, input, session).map(Some);
        }
        if let (Some(node), [input]) = (node.downcast_ref::<GapFill>(), inputs) {
            return gap_fill::planned(node, input).map(Some);
        }
        if let (Some(node), [left, right]) = (node.downcast_ref::<AsofJoin>(), inputs) {
            let physical =
                |expr: &Expr, over: &LogicalPlan| planner.create_physical_expr(expr, over.schema(), session, context);
            return asof_join::planned(node, [left, right], physical).map(Some);
        }
        Ok(None)
    }
}
