//! The operations' gradients in Burn's autodiff: what each keeps of its forward pass and
//! how it answers the backward one.

use std::sync::Arc;

use burn::backend::Autodiff;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};

use super::attention::Geometry;
use super::backend::{FusedGradients, FusedOps};
use super::grid::Grid;
use crate::distillation::{Lesson, Mixture};

#[derive(Debug)]
struct Attention;

impl<B: FusedGradients> Backward<B, 3> for Attention {
    type State = ([NodeId; 3], [FloatTensor<B>; 2], Arc<Geometry>);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let dy = grads.consume::<B>(&ops.node);
        let (inputs, kept, geometry) = ops.state;
        let inputs = inputs.map(|id| checkpointer.retrieve_node_output(id));
        let found = B::attention_backward(inputs, kept, dy, &geometry);
        for (parent, gradient) in ops.parents.into_iter().zip(found) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct Linear;

impl<B: FusedGradients> Backward<B, 2> for Linear {
    type State = [NodeId; 2];

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let dy = grads.consume::<B>(&ops.node);
        let [x, w] = ops.state.map(|id| checkpointer.retrieve_node_output(id));
        let [parent_x, parent_w] = ops.parents;
        if let Some(parent) = parent_w {
            grads.register::<B>(parent.id, B::project_weight_backward(x, dy.clone()));
        }
        if let Some(parent) = parent_x {
            grads.register::<B>(parent.id, B::project_input_backward(dy, w));
        }
    }
}

#[derive(Debug)]
struct LinearAdded;

impl<B: FusedGradients> Backward<B, 3> for LinearAdded {
    type State = [NodeId; 3];

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let dy = grads.consume::<B>(&ops.node);
        let [x, w, added] = ops.state.map(|id| checkpointer.retrieve_node_output(id));
        let [parent_x, parent_w, parent_added] = ops.parents;
        if let Some(parent) = parent_w {
            grads.register::<B>(parent.id, B::project_weight_backward(x, dy.clone()));
        }
        if let Some(parent) = parent_x {
            grads.register::<B>(parent.id, B::project_input_backward(dy.clone(), w));
        }
        if let Some(parent) = parent_added {
            grads.register::<B>(parent.id, B::project_added_backward(dy, &added));
        }
    }
}

#[derive(Debug)]
struct GatedMlp;

impl<B: FusedGradients> Backward<B, 5> for GatedMlp {
    type State = ([NodeId; 4], [FloatTensor<B>; 2]);

    fn backward(
        self,
        ops: Ops<Self::State, 5>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let dy = grads.consume::<B>(&ops.node);
        let (inputs, kept) = ops.state;
        let [x, g, u, w] = inputs.map(|id| checkpointer.retrieve_node_output(id));
        let [parents @ .., parent_added] = ops.parents;
        let wanted = std::array::from_fn(|i| parents[i].is_some());
        let found = B::gated_mlp_backward(x, [g, u, w], kept, dy.clone(), wanted);
        if let Some(parent) = parent_added {
            grads.register::<B>(parent.id, dy);
        }
        for pair in parents.into_iter().zip(found) {
            if let (Some(parent), Some(gradient)) = pair {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct RmsNorm;

impl<B: FusedGradients> Backward<B, 2> for RmsNorm {
    type State = ([NodeId; 2], f32);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let dy = grads.consume::<B>(&ops.node);
        let (inputs, epsilon) = ops.state;
        let [x, w] = inputs.map(|id| checkpointer.retrieve_node_output(id));
        let found = B::rms_norm_backward(x, w, dy, epsilon);
        for (parent, gradient) in ops.parents.into_iter().zip(found) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct Swiglu;

impl<B: FusedGradients> Backward<B, 2> for Swiglu {
    type State = [NodeId; 2];

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let dy = grads.consume::<B>(&ops.node);
        let [gate, up] = ops.state.map(|id| checkpointer.retrieve_node_output(id));
        let found = B::swiglu_backward(gate, up, dy);
        for (parent, gradient) in ops.parents.into_iter().zip(found) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

/// Of a grid that clips, its input too.
#[derive(Debug)]
struct Rounded;

impl<B: FusedGradients> Backward<B, 1> for Rounded {
    type State = (Option<NodeId>, Grid, usize);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let dy = grads.consume::<B>(&ops.node);
        let (x, grid, columns) = ops.state;
        let dx = match x {
            Some(x) => {
                let x = checkpointer.retrieve_node_output(x);
                B::rounded_backward(x, dy, grid, columns)
            }
            None => dy,
        };
        if let [Some(parent)] = ops.parents {
            grads.register::<B>(parent.id, dx);
        }
    }
}

/// A loss over the head's logits, whose gradients were found with it.
#[derive(Debug)]
struct LinearLoss;

impl<B: FusedGradients> Backward<B, 2> for LinearLoss {
    /// The gradients for a loss that counts once.
    type State = [FloatTensor<B>; 2];

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dloss = grads.consume::<B>(&ops.node);
        for (parent, gradient) in ops.parents.into_iter().zip(ops.state) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, B::scaled(gradient, dloss.clone()));
            }
        }
    }
}

impl<B: FusedGradients, C: CheckpointStrategy> FusedOps for Autodiff<B, C> {
    fn causal_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        geometry: Arc<Geometry>,
    ) -> FloatTensor<Self> {
        let nodes = [q.node(), k.node(), v.node()];
        match Attention.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let ids = [&q, &k, &v].map(|t| prepared.checkpoint(t));
                let inputs = [q, k, v].map(|t| t.into_primitive());
                let [y, logs] = B::attention_kept(inputs, &geometry);
                prepared.finish((ids, [y.clone(), logs], geometry), y)
            }
            OpsKind::UnTracked(prepared) => {
                let [q, k, v] = [q, k, v].map(|t| t.into_primitive());
                prepared.finish(B::causal_attention(q, k, v, geometry))
            }
        }
    }

    fn project(x: FloatTensor<Self>, w: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [x.node(), w.node()];
        match Linear.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let ids = [&x, &w].map(|t| prepared.checkpoint(t));
                prepared.finish(ids, B::project(x.into_primitive(), w.into_primitive()))
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::project(x.into_primitive(), w.into_primitive()))
            }
        }
    }

    fn project_added(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        added: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), w.node(), added.node()];
        match LinearAdded.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let ids = [&x, &w, &added].map(|t| prepared.checkpoint(t));
                let [x, w, added] = [x, w, added].map(|t| t.into_primitive());
                prepared.finish(ids, B::project_added(x, w, added))
            }
            OpsKind::UnTracked(prepared) => {
                let [x, w, added] = [x, w, added].map(|t| t.into_primitive());
                prepared.finish(B::project_added(x, w, added))
            }
        }
    }

    fn gated_mlp(
        x: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        down: FloatTensor<Self>,
        added: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let inputs = [&x, &gate, &up, &down, &added];
        let nodes = inputs.map(|t| t.node());
        match GatedMlp.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let ids = [&x, &gate, &up, &down].map(|t| prepared.checkpoint(t));
                let weights = [gate, up, down].map(|t| t.into_primitive());
                let (x, added) = (x.into_primitive(), added.into_primitive());
                let [y, gate, up] = B::gated_mlp_kept(x, weights, added);
                prepared.finish((ids, [gate, up]), y)
            }
            OpsKind::UnTracked(prepared) => {
                let [gate, up, down] = [gate, up, down].map(|t| t.into_primitive());
                let (x, added) = (x.into_primitive(), added.into_primitive());
                prepared.finish(B::gated_mlp(x, gate, up, down, added))
            }
        }
    }

    fn rms_norm(x: FloatTensor<Self>, w: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self> {
        let nodes = [x.node(), w.node()];
        match RmsNorm.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let ids = [&x, &w].map(|t| prepared.checkpoint(t));
                let y = B::rms_norm(x.into_primitive(), w.into_primitive(), epsilon);
                prepared.finish((ids, epsilon), y)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::rms_norm(x.into_primitive(), w.into_primitive(), epsilon))
            }
        }
    }

    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [gate.node(), up.node()];
        match Swiglu.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let ids = [&gate, &up].map(|t| prepared.checkpoint(t));
                let y = B::swiglu(gate.into_primitive(), up.into_primitive());
                prepared.finish(ids, y)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::swiglu(gate.into_primitive(), up.into_primitive()))
            }
        }
    }

    fn rounded(x: FloatTensor<Self>, grid: Grid, columns: usize) -> FloatTensor<Self> {
        match Rounded.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let kept = grid.clips().then(|| prepared.checkpoint(&x));
                let y = B::rounded(x.into_primitive(), grid, columns);
                prepared.finish((kept, grid, columns), y)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::rounded(x.into_primitive(), grid, columns))
            }
        }
    }

    fn linear_cross_entropy(
        x: FloatTensor<Self>,
        head: FloatTensor<Self>,
        tied: bool,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), head.node()];
        let weights = weights.into_primitive();
        match LinearLoss.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (x, head) = (x.into_primitive(), head.into_primitive());
                let [loss, dx, dhead] =
                    B::linear_cross_entropy_with_gradients(x, head, tied, targets, weights);
                prepared.finish([dx, dhead], loss)
            }
            OpsKind::UnTracked(prepared) => {
                let (x, head) = (x.into_primitive(), head.into_primitive());
                prepared.finish(B::linear_cross_entropy(x, head, tied, targets, weights))
            }
        }
    }

    fn linear_distillation(
        x: FloatTensor<Self>,
        head: FloatTensor<Self>,
        tied: bool,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        taught: Arc<(Lesson, Mixture)>,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), head.node()];
        let weights = weights.into_primitive();
        match LinearLoss.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (x, head) = (x.into_primitive(), head.into_primitive());
                let [loss, dx, dhead] =
                    B::linear_distillation_with_gradients(x, head, tied, targets, weights, &taught);
                prepared.finish([dx, dhead], loss)
            }
            OpsKind::UnTracked(prepared) => {
                let (x, head) = (x.into_primitive(), head.into_primitive());
                let loss = B::linear_distillation(x, head, tied, targets, weights, taught);
                prepared.finish(loss)
            }
        }
    }
}
