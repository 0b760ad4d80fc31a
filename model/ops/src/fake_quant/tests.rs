//! Rounding against its composed form, and what its gradient is.

use burn::tensor::Device;

use super::*;
use crate::testing::*;

/// Blocks of all kinds: largest numbers of both signs at once, zeros, numbers on the levels, steps as
/// coarse as those of bfloat16.
fn blocks(n: usize) -> Vec<f64> {
    let mut x = values(n, 7);
    for (i, block) in x.chunks_mut(32).enumerate() {
        match i % 5 {
            0 => (block[3], block[9]) = (1.5, -1.5),
            1 => block.fill(0.0),
            2 => block.iter_mut().for_each(|w| *w = (*w * 8.0).floor() / 8.0),
            3 => block.iter_mut().for_each(|w| *w *= 1e-9),
            _ => {}
        }
    }
    x
}

#[test]
fn fake_quantize_equals_its_composed_form_to_the_last_bit() {
    let device = Device::flex().autodiff();
    let n = 32 * 37 * 3;
    for format in [
        QuantFormat::Q4_0,
        QuantFormat::Q4_0Nearest,
        QuantFormat::Q8_0,
        QuantFormat::Int8,
    ] {
        for columns in [1, 3, 37] {
            let shape = [n / (32 * columns), 32, columns];
            // Blocks lie along the columns of the array, whichever way they are cut.
            let mut x = vec![0.0; n];
            for (i, w) in blocks(n).into_iter().enumerate() {
                let (block, row) = (i / 32, i % 32);
                x[(block / columns * 32 + row) * columns + block % columns] = w;
            }
            let weights = values(n, 3);
            let apply = |x: Tensor<3>| {
                let operation = FakeQuantize { format, columns };
                Tensor::<3>::from_dispatch(Dispatch::unary(operation, x.into_dispatch()))
            };
            let run = |fused: bool| {
                let x = tensor(&x, shape, &device).require_grad();
                let y = if fused {
                    apply(x.clone())
                } else {
                    composed(x.clone(), format)
                };
                let loss = (y.clone() * tensor(&weights, shape, &device)).sum();
                let again = if fused {
                    apply(y.clone())
                } else {
                    composed(y.clone(), format)
                };
                [
                    numbers(y),
                    numbers(x.grad(&loss.backward()).unwrap()),
                    numbers(again),
                ]
            };
            let (fused, composed) = (run(true), run(false));
            assert_eq!(fused, composed, "{format:?} {columns}");
            if format.clips() {
                assert_eq!(fused[0], fused[2], "what is quantized stays, {columns}");
            }
            let pairs = fused[1].iter().zip(&weights);
            let clipped = pairs.clone().filter(|(g, _)| **g == 0.0).count();
            assert_eq!(
                clipped > 0,
                format.clips(),
                "{format:?} {columns}: {clipped}"
            );
            assert!(clipped < n / 16);
            for (g, w) in pairs {
                assert!(*g == 0.0 || *g == *w as f32, "{g} {w}");
            }
        }
    }
}

#[test]
fn fake_quantize_moves_no_number_by_more_than_half_a_step() {
    let x = blocks(32 * 100);
    let x: Vec<f32> = x.iter().map(|&w| w as f32).collect();
    for (format, levels) in [
        (QuantFormat::Q4_0, 8.0),
        (QuantFormat::Q4_0Nearest, 6.0),
        (QuantFormat::Q8_0, 127.0),
        (QuantFormat::Int8, 127.0),
    ] {
        let mut y = vec![0.0; x.len()];
        forward(format, &x, 1, &mut y);
        for (x, y) in x.chunks(32).zip(y.chunks(32)) {
            let most = x.iter().fold(0f32, |m, w| m.max(w.abs()));
            for (x, y) in x.iter().zip(y) {
                // A whole step where the levels end at 7 of 8; f16 rounds the scale, to 0 below 6e-8.
                let bound = if format.clips() { 1.0 } else { 0.5 };
                let slack = most * 1e-3 + levels * 6e-8;
                assert!(
                    (x - y).abs() <= bound * most / levels + slack,
                    "{format:?} {x} {y}"
                );
            }
        }
    }
}

/// Regression: a calibrated file was rounded once more when training started from it, as the largest number of a
/// block always went to −8.
#[test]
fn q4_0_nearest_keeps_a_block_with_a_searched_scale() {
    let round = |format, x: &[f32]| {
        let mut y = vec![0.0; x.len()];
        forward(format, x, 1, &mut y);
        y
    };
    for (most, sign) in [(7, 1.0), (7, -1.0), (6, 1.0), (6, -1.0)] {
        let d = sign * round::half(0.0123);
        let q = (0..32).map(|i| ((i * 5) % (2 * most + 1) - most) as f32);
        let x: Vec<f32> = q.map(|q| d * q).collect();
        assert_eq!(round(QuantFormat::Q4_0Nearest, &x), x, "{most} {sign}");
        assert_ne!(round(QuantFormat::Q4_0, &x), x, "{most} {sign}");
    }
    let x: Vec<f32> = blocks(32 * 100).iter().map(|&w| w as f32).collect();
    let error = |format| {
        let y = round(format, &x);
        let squares = x.chunks(32).zip(y.chunks(32)).map(|(x, y)| {
            let pairs = x.iter().zip(y);
            pairs.map(|(x, y)| (x - y) * (x - y)).sum::<f32>()
        });
        squares.collect::<Vec<_>>()
    };
    let both = error(QuantFormat::Q4_0Nearest)
        .into_iter()
        .zip(error(QuantFormat::Q4_0));
    assert!(
        both.clone()
            .all(|(nearest, largest)| nearest <= largest * 1.0001)
    );
    assert!(
        both.clone()
            .any(|(nearest, largest)| nearest < 0.9 * largest)
    );
}
