//! The way from Burn's tensors to an operation of this crate, the same for all of them.
//!
//! An operation is a type that holds its attributes and implements [`Operation`] for the number
//! of its input tensors. [`Apply`] runs any of them on burn-flex, and on burn-flex under
//! autodiff it registers the backward pass.

use std::fmt::Debug;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};

/// A differentiable function of `N` f32 tensors on burn-flex.
pub(crate) trait Operation<const N: usize>: Debug + Send + Sync + 'static {
    /// The values of the forward pass that the backward pass needs, kept in memory until then.
    type Saved: Clone + Debug + Send + 'static;

    /// The output, and what to save for the backward pass, which follows only where `tracked`.
    fn forward(&self, inputs: [FlexTensor; N], tracked: bool) -> (FlexTensor, Self::Saved);

    /// The gradients of the inputs that are `wanted`, from that of the output, `dy`.
    fn backward(
        &self,
        saved: Self::Saved,
        dy: FlexTensor,
        wanted: [bool; N],
    ) -> [Option<FlexTensor>; N];
}

/// [`Apply`] for each number of inputs.
macro_rules! apply {
    ($($name:ident($n:tt: $($x:ident),+);)+) => {
        /// Back ends that run an [`Operation`]: burn-flex, with and without autodiff.
        #[backend_extension(Flex, Autodiff)]
        pub(crate) trait Apply: Backend {
            $(
                /// The operation's output.
                fn $name<O: Operation<$n>>(
                    operation: O,
                    $($x: FloatTensor<Self>),+
                ) -> FloatTensor<Self>;
            )+
        }

        impl Apply for Flex {
            $(
                fn $name<O: Operation<$n>>(operation: O, $($x: FlexTensor),+) -> FlexTensor {
                    operation.forward([$($x),+], false).0
                }
            )+
        }

        impl<C: CheckpointStrategy> Apply for Autodiff<Flex, C> {
            $(
                fn $name<O: Operation<$n>>(
                    operation: O,
                    $($x: FloatTensor<Self>),+
                ) -> FloatTensor<Self> {
                    differentiable::<C, O, $n>(operation, [$($x),+])
                }
            )+
        }
    };
}

apply! {
    unary(1: a);
    binary(2: a, b);
    ternary(3: a, b, c);
    quinary(5: a, b, c, d, e);
}

/// The step of the backward pass that an operation registers.
#[derive(Debug)]
struct Step<O>(Arc<O>);

impl<const N: usize, O: Operation<N>> Backward<Flex, N> for Step<O> {
    type State = O::Saved;

    fn backward(self, ops: Ops<O::Saved, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let gradients = self.0.backward(ops.state, dy, wanted);
        for pair in ops.parents.into_iter().zip(gradients) {
            if let (Some(parent), Some(gradient)) = pair {
                grads.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

fn differentiable<C: CheckpointStrategy, O: Operation<N>, const N: usize>(
    operation: O,
    inputs: [FloatTensor<Autodiff<Flex, C>>; N],
) -> FloatTensor<Autodiff<Flex, C>> {
    let operation = Arc::new(operation);
    let nodes = inputs.each_ref().map(|x| x.node());
    let step = Step(operation.clone());
    let prepared = step.prepare::<C>(nodes).compute_bound().stateful();
    let inputs = inputs.map(|x| x.into_primitive());
    match prepared {
        OpsKind::Tracked(prepared) => {
            let (y, saved) = operation.forward(inputs, true);
            prepared.finish(saved, y)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(operation.forward(inputs, false).0),
    }
}
