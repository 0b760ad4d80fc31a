//! The product of a linear layer, `y = x W` or `y = x W + added` where `added` is a bias or a
//! residual stream. With the gradient `dy`: `dx = dy Wᵀ`, `dW = xᵀ dy`, and that of what was added
//! is `dy`, summed over the rows if it is a bias.
//!
//! In: `x` `[.., I]`, `W` `[I, O]`, `added` `[O]` or `[.., O]`. Out: `[.., O]`.

use burn::backend::flex::FlexTensor;
use burn::backend::{Dispatch, TensorMetadata};
use burn::tensor::{DType, Shape, Tensor, module};

use crate::device::fused;
use crate::flex::{broadcast, contiguous, flex_tensor, rows, with_width};
use crate::matmul::{Threads, View, product as multiply, product_into};
use crate::operation::{Apply, Operation};

/// Elements of a weight in half precision that are widened at once: 64 MiB in f32.
const WIDENED: usize = 1 << 24;

/// `x` `[B, T, I]` times `weight` `[I, O]`, in the precision of `x`. A weight in half precision is
/// widened for an `x` in f32, a block of columns at a time; a weight in f32 is rounded for an `x`
/// in half precision.
pub fn product(x: Tensor<3>, weight: Tensor<2>) -> Tensor<3> {
    if fused(&weight) && fused(&x) {
        return linear(x, weight, None::<Tensor<1>>);
    }
    if weight.dtype() == x.dtype() || x.dtype() != DType::F32 {
        let dtype = x.dtype();
        return module::linear(x, weight.cast(dtype), None);
    }
    let [input, output] = weight.dims();
    let step = (WIDENED / input).max(1);
    let blocks = (0..output).step_by(step).map(|first| {
        let columns = weight.clone().narrow(1, first, step.min(output - first));
        module::linear(x.clone(), columns.cast(x.dtype()), None)
    });
    Tensor::cat(blocks.collect(), 2)
}

/// `x` `[.., I]` times `w` `[I, O]`, plus `added` `[.., O]` or `[O]` where there is one; all
/// [`fused`].
pub fn linear<const D: usize, const A: usize>(
    x: Tensor<D>,
    w: Tensor<2>,
    added: Option<Tensor<A>>,
) -> Tensor<D> {
    let (x, w) = (x.into_dispatch(), w.into_dispatch());
    Tensor::from_dispatch(match added {
        Some(added) => Dispatch::ternary(LinearAdded, x, w, added.into_dispatch()),
        None => Dispatch::binary(Linear, x, w),
    })
}

#[derive(Debug)]
struct Linear;

impl Operation<2> for Linear {
    type Saved = [FlexTensor; 2];

    fn forward(&self, inputs: [FlexTensor; 2], _: bool) -> (FlexTensor, Self::Saved) {
        let [x, w] = inputs.clone();
        let (x, w) = (x.to_contiguous(), Matrix::new(w));
        let y = multiply(rows(&x), w.view(), Threads::All);
        (flex_tensor(y, with_width(&x, w.columns())), inputs)
    }

    fn backward(
        &self,
        inputs: [FlexTensor; 2],
        dy: FlexTensor,
        wanted: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        backward(inputs, &dy.to_contiguous(), wanted)
    }
}

#[derive(Debug)]
struct LinearAdded;

impl Operation<3> for LinearAdded {
    type Saved = ([FlexTensor; 2], Shape);

    fn forward(&self, [x, w, added]: [FlexTensor; 3], _: bool) -> (FlexTensor, Self::Saved) {
        let inputs = [x.clone(), w.clone()];
        let [x, added] = contiguous([x, added]);
        let w = Matrix::new(w);
        let shape = with_width(&x, w.columns());
        let mut y = broadcast(&added, &shape);
        product_into(&mut y, rows(&x), w.view(), true, Threads::All);
        (flex_tensor(y, shape), (inputs, added.shape()))
    }

    fn backward(
        &self,
        (inputs, added): Self::Saved,
        dy: FlexTensor,
        [want_x, want_w, want_added]: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let dy = dy.to_contiguous();
        let [dx, dw] = backward(inputs, &dy, [want_x, want_w]);
        [dx, dw, want_added.then(|| sum_to(dy, added))]
    }
}

/// The gradients of `x` and `w`.
fn backward(
    [x, w]: [FlexTensor; 2],
    dy: &FlexTensor,
    [want_x, want_w]: [bool; 2],
) -> [Option<FlexTensor>; 2] {
    // Moved in, `x` is freed before `dx` is made.
    let dw = want_w.then(move || {
        let x = x.to_contiguous();
        let (x, dy) = (rows(&x), rows(dy));
        let shape = Shape::new([x.columns(), dy.columns()]);
        flex_tensor(multiply(x.t(), dy, Threads::All), shape)
    });
    let dx = want_x.then(|| {
        let w = Matrix::new(w);
        let dx = multiply(rows(dy), w.view().t(), Threads::All);
        flex_tensor(dx, with_width(dy, w.rows()))
    });
    [dx, dw]
}

/// `dy` `[.., O]` as the gradient of something of `shape`: itself, or its sum over the rows.
fn sum_to(dy: FlexTensor, shape: Shape) -> FlexTensor {
    if shape == dy.shape() {
        return dy;
    }
    let width = shape.num_elements();
    let mut sums = vec![0f32; width];
    for row in dy.storage::<f32>().chunks_exact(width.max(1)) {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += x;
        }
    }
    flex_tensor(sums, shape)
}

/// A weight, read as it lies: a transposed one, such as an embedding that is the head too, is not
/// copied.
struct Matrix {
    tensor: FlexTensor,
    transposed: bool,
}

impl Matrix {
    fn new(tensor: FlexTensor) -> Self {
        let (layout, rows) = (tensor.layout(), tensor.shape()[0]);
        let transposed = !layout.is_contiguous()
            && layout.start_offset() == 0
            && *layout.strides() == [1, rows as isize];
        let tensor = if transposed {
            tensor
        } else {
            tensor.to_contiguous()
        };
        Self { tensor, transposed }
    }

    fn view(&self) -> View<'_> {
        let [rows, columns] = [self.rows(), self.columns()];
        if self.transposed {
            View::new(self.tensor.storage(), columns, rows).t()
        } else {
            View::new(self.tensor.storage(), rows, columns)
        }
    }

    fn columns(&self) -> usize {
        self.tensor.shape()[1]
    }

    fn rows(&self) -> usize {
        self.tensor.shape()[0]
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::testing::*;

    #[test]
    fn linear_gradients_match_central_differences() {
        let device = Device::flex().autodiff();
        let (b, t, i, o) = (2, 3, 5, 4);
        for added in [None, Some(vec![o]), Some(vec![b, t, o])] {
            let size = added.as_ref().map_or(0, |shape| shape.iter().product());
            let inputs = rounded(vec![
                values(b * t * i, 1),
                values(i * o, 2),
                values(size, 3),
            ]);
            let weights = rounded(vec![values(b * t * o, 4)]).remove(0);
            let x = tensor(&inputs[0], [b, t, i], &device).require_grad();
            let w = tensor(&inputs[1], [i, o], &device).require_grad();
            let extra = tensor(&inputs[2], [size], &device).require_grad();
            let y = match added.as_deref() {
                None => linear(x.clone(), w.clone(), None::<Tensor<1>>),
                Some([_]) => linear(x.clone(), w.clone(), Some(extra.clone())),
                _ => linear(x.clone(), w.clone(), Some(extra.clone().reshape([b, t, o]))),
            };
            let defined = |inputs: &[Vec<f64>]| -> f64 {
                let output = |at: usize| -> f64 {
                    let (row, column) = (at / o, at % o);
                    let plus = match size {
                        0 => 0.0,
                        size => inputs[2][at % size],
                    };
                    let terms = (0..i).map(|j| inputs[0][row * i + j] * inputs[1][j * o + column]);
                    plus + terms.sum::<f64>()
                };
                (0..b * t * o).map(|at| output(at) * weights[at]).sum()
            };
            let loss = (y * tensor(&weights, [b, t, o], &device)).sum();
            let grads = loss.backward();
            let value: f32 = loss.into_scalar();
            assert!((f64::from(value) - defined(&inputs)).abs() < 1e-5);
            check_differences(&inputs, 0, &numbers(x.grad(&grads).unwrap()), &defined);
            check_differences(&inputs, 1, &numbers(w.grad(&grads).unwrap()), &defined);
            if size > 0 {
                check_differences(&inputs, 2, &numbers(extra.grad(&grads).unwrap()), &defined);
            }
        }
    }

    #[test]
    fn linear_with_a_transposed_weight_equals_its_copy() {
        let device = Device::flex().autodiff();
        let (n, i, o) = (7, 5, 9);
        let x = tensor(&values(n * i, 1), [n, i], &device);
        let w = tensor(&values(i * o, 2), [o, i], &device);
        let added = tensor(&values(n * o, 3), [n, o], &device);
        let share = tensor(&values(n * o, 4), [n, o], &device);
        for added in [None, Some(added)] {
            let [lying, copied] = [false, true].map(|copy| {
                gradients(&[x.clone(), w.clone()], |inputs| {
                    let w = inputs[1].clone().transpose();
                    // Adding lays it out anew.
                    let w = if copy { w + 0.0 } else { w };
                    (linear(inputs[0].clone(), w, added.clone()) * share.clone()).sum()
                })
            });
            close(&[lying.0], &[copied.0], 1e-6, "sum");
            for (a, b) in lying.1.iter().zip(&copied.1) {
                close(a, b, 1e-6, "gradient");
            }
        }
    }
}
