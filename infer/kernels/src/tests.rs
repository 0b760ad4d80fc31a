//! Every table against exact arithmetic: integer parts bit for bit, float sums within a bound that follows from the
//! terms summed. What runs depends on the processor; the Arm script runs this on three emulated ones.

use super::*;
use crate::int8::BLOCK;
use crate::pool::Pool;
use half::f16;
use proptest::prelude::*;
use retort_format::quant::rows16;
use retort_format::quant::{GgmlType, dequantize_row, quantize_row, unpack_row};
use retort_test_kit::Random;

/// Weights and activations of a seed.
struct Cases(Random);

impl Cases {
    fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    /// A finite f16: mostly ordinary, sometimes zero, subnormal or the largest.
    fn scale(&mut self) -> [u8; 2] {
        let special = [0u16, 1, 0x03ff, 0x8001, 0x7bff, 0xfbff];
        let bits = match self.0.below(8) {
            0 => special[self.0.below(special.len())],
            _ => f16::from_f32(self.0.f32() * 0.1).to_bits(),
        };
        bits.to_le_bytes()
    }

    /// Random rows of a format, its f16 numbers from `scale`, whole rows at the extremes now and then.
    fn rows(
        &mut self,
        ty: GgmlType,
        rows: usize,
        cols: usize,
        mut scale: impl FnMut(&mut Self) -> [u8; 2],
    ) -> Vec<u8> {
        let mut data = Vec::new();
        for _ in 0..rows * cols / ty.block_size() {
            let fill = [
                None,
                None,
                None,
                Some(0u8),
                Some(0xff),
                Some(0x80),
                Some(0x7f),
            ][self.0.below(7)];
            let start = data.len();
            data.extend((0..ty.bytes_per_block()).map(|_| fill.unwrap_or(self.0.bits() as u8)));
            let halves: &[usize] = match ty {
                GgmlType::Q4_1 | GgmlType::Q5_1 | GgmlType::Q4_K | GgmlType::Q5_K => &[0, 2],
                GgmlType::Q6_K => &[208],
                GgmlType::F32 | GgmlType::BF16 => &[],
                _ => &[0],
            };
            for at in halves {
                data[start + at..start + at + 2].copy_from_slice(&scale(self));
            }
            match ty {
                GgmlType::F32 => data[start..].copy_from_slice(&self.0.f32().to_le_bytes()),
                GgmlType::BF16 => data[start..].copy_from_slice(&self.0.f32().to_le_bytes()[2..]),
                _ => {}
            }
        }
        data
    }

    /// Numbers that int8 holds exactly: every block has one of ±127, now and then all are.
    fn whole_numbers(&mut self, n: usize) -> Vec<f32> {
        let mut x: Vec<f32> = (0..n).map(|_| self.0.below(255) as f32 - 127.0).collect();
        for block in x.chunks_mut(BLOCK) {
            if self.0.below(4) == 0 {
                block.fill([127.0, -127.0][self.0.below(2)]);
            }
            block[self.0.below(BLOCK)] = [127.0, -127.0][self.0.below(2)];
        }
        x
    }

    fn activations(&mut self, n: usize) -> Vec<f32> {
        let mut x: Vec<f32> = (0..n).map(|_| self.0.f32() * 3.0).collect();
        for block in x.chunks_mut(BLOCK) {
            match self.0.below(10) {
                0 => block.fill(0.0),
                1 => block.fill(-2.5),
                2 => block.iter_mut().for_each(|x| *x *= 1e4),
                _ => {}
            }
        }
        x
    }
}

/// The product in f64 from the very numbers that the kernels are given, with the sum of the terms' magnitudes.
fn exact(w: &Matrix, x: &Activations, r: usize, t: usize) -> (f64, f64) {
    let row_bytes = w.data().len() / w.rows();
    let row = &w.data()[r * row_bytes..(r + 1) * row_bytes];
    let (mut sum, mut magnitude) = (0f64, 0f64);
    if !w.ty().is_quantized() {
        let mut values = vec![0.0; w.cols()];
        dequantize_row(w.ty(), row, &mut values).unwrap();
        for (w, x) in values.iter().zip(x.float_row(t)) {
            sum += f64::from(*w) * f64::from(*x);
            magnitude += (f64::from(*w) * f64::from(*x)).abs();
        }
        return (sum, magnitude);
    }
    let group = w.ty().group_size();
    let groups = w.cols() / group;
    let (mut q, mut d, mut m) = (vec![0; w.cols()], vec![0.0; groups], vec![0.0; groups]);
    unpack_row(w.ty(), row, &mut q, &mut d, &mut m).unwrap();
    let x = x.row(t);
    for g in 0..groups {
        let range = g * group..(g + 1) * group;
        let products = q[range.clone()]
            .iter()
            .zip(&x.q[range.clone()])
            .map(|(a, b)| i32::from(*a) * i32::from(*b));
        let (dot, size) = products.fold((0, 0), |(dot, size), p| (dot + p, size + p.abs()));
        let total: i32 = x.q[range].iter().map(|&b| i32::from(b)).sum();
        let [scale, s] = x.scales[g * group / BLOCK];
        let term = f64::from(d[g]) * f64::from(scale) * f64::from(dot);
        let min = f64::from(m[g]) * f64::from(s);
        sum += term + min;
        // Q4_0 may be computed as unsigned nibbles and a minimum of -8 d, Q5_0 with one of -16 d
        let offset = match w.ty() {
            GgmlType::Q4_0 => 8.0,
            GgmlType::Q5_0 => 16.0,
            _ => 0.0,
        };
        let shift = (offset * f64::from(d[g]) * f64::from(scale) * f64::from(total)).abs();
        // lanes are summed apart, so the products' magnitudes count, not their sum's
        magnitude +=
            (f64::from(d[g]) * f64::from(scale)).abs() * f64::from(size) + min.abs() + 2.0 * shift;
    }
    (sum, magnitude)
}

fn product(k: &Kernels, w: &Matrix, x: &Activations) -> Vec<f32> {
    let mut y = vec![f32::NAN; x.n_tokens() * w.rows()];
    k.matmul(&Pool::single(), w, x, &mut y).unwrap();
    y
}

/// The formats that panels are made of.
fn panel_types() -> impl Iterator<Item = GgmlType> {
    (GgmlType::ALL.into_iter()).filter(|&ty| rows16::has_panels(ty))
}

/// The same weights in panels of sixteen rows.
fn packed(ty: GgmlType, data: &[u8], rows: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for panel in data.chunks_exact(data.len() / rows * 16) {
        rows16::pack(ty, panel, &mut out).unwrap();
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn products_are_right(seed in any::<u64>()) {
        let mut random = Cases::new(seed);
        for ty in GgmlType::ALL {
            let cols = ty.block_size().max(32) * (1 + random.0.below(5));
            let (rows, tokens) = (1 + random.0.below(40), 1 + random.0.below(19));
            let data = random.rows(ty, rows, cols, Cases::scale);
            let w = Matrix::new(ty, rows, cols, &data).unwrap();
            let input = random.activations(tokens * cols);
            for k in Kernels::available() {
                let mut x = Activations::new();
                x.quantize_with(k, &input, tokens, cols).unwrap();
                let y = product(k, &w, &x);
                for t in 0..tokens {
                    for r in 0..rows {
                        let (want, magnitude) = exact(&w, &x, r, t);
                        // every addition and every product rounds once, relative to at most the magnitudes' sum
                        let terms = if ty.is_quantized() { cols / 16 + 8 } else { cols / 8 + 12 };
                        let bound = magnitude * terms as f64 * f64::from(f32::EPSILON) + 1e-37;
                        let got = f64::from(y[t * rows + r]);
                        prop_assert!((got - want).abs() <= bound || !want.is_finite() && !got.is_finite(),
                            "{} {ty} {rows}x{cols} row {r} token {t} of {tokens}: {got} for {want} ± {bound}", k.name);
                    }
                }
            }
        }
    }

    /// With all scales powers of two, or integers so small that no sum needs more than 24 bits, every float operation is
    /// exact, so that every table must give the very bits.
    #[test]
    fn integers_are_exact(seed in any::<u64>()) {
        let mut random = Cases::new(seed);
        let one = |_: &mut Cases| f16::ONE.to_bits().to_le_bytes();
        for ty in GgmlType::ALL.into_iter().filter(|ty| ty.is_quantized()) {
            let cols = match ty.block_size() {
                256 => 256 * (1 + random.0.below(3)),
                size => size * (1 + random.0.below(7)),
            };
            let (rows, tokens) = (1 + random.0.below(40), [1, 2, 9][random.0.below(3)]);
            let mut data = random.rows(ty, rows, cols, one);
            for block in data.chunks_exact_mut(ty.bytes_per_block()) {
                match ty {
                    GgmlType::Q4_K | GgmlType::Q5_K => {
                        block[4..12].iter_mut().for_each(|scales| *scales &= 3);
                        block[12..16].iter_mut().for_each(|scales| *scales &= 0x33);
                    }
                    GgmlType::Q6_K => {
                        (block[192..208].iter_mut()).for_each(|scale| *scale = (*scale as i8 % 4) as u8);
                    }
                    _ => {}
                }
            }
            let w = Matrix::new(ty, rows, cols, &data).unwrap();
            let input = random.whole_numbers(tokens * cols);
            for k in Kernels::available() {
                let mut x = Activations::new();
                x.quantize_with(k, &input, tokens, cols).unwrap();
                let y = product(k, &w, &x);
                for t in 0..tokens {
                    for r in 0..rows {
                        prop_assert_eq!(f64::from(y[t * rows + r]), exact(&w, &x, r, t).0, "{} {} {}x{}", k.name, ty, rows, cols);
                    }
                }
            }
        }
    }

    /// The same products as in the file's layout, where every float operation is exact: the very bits.
    #[test]
    fn panels_of_sixteen_rows_are_exact(seed in any::<u64>()) {
        let mut random = Cases::new(seed);
        for ty in panel_types() {
            let (rows, cols) = (16 * (1 + random.0.below(4)), 32 * (1 + random.0.below(9)));
            let tokens = [1, 2, 7, 8, 9, 24][random.0.below(6)];
            let data = random.rows(ty, rows, cols, |_| f16::ONE.to_bits().to_le_bytes());
            let panels = packed(ty, &data, rows);
            let w = Matrix::new(ty, rows, cols, &data).unwrap();
            let p = Matrix::rows16(ty, rows, cols, &panels).unwrap();
            let input = random.whole_numbers(tokens * cols);
            for k in Kernels::available() {
                let mut x = Activations::new();
                x.quantize_with(k, &input, tokens, cols).unwrap();
                let y = product(k, &p, &x);
                for t in 0..tokens {
                    for r in 0..rows {
                        prop_assert_eq!(f64::from(y[t * rows + r]), exact(&w, &x, r, t).0, "{} {} {}x{}", k.name, ty, rows, cols);
                    }
                }
            }
            let (mut a, mut b) = (vec![0.0; cols], vec![0.0; cols]);
            let r = random.0.below(rows);
            w.row(r, &mut a).unwrap();
            p.row(r, &mut b).unwrap();
            prop_assert_eq!(a, b);
        }
    }

    /// And with any scales, within the bound, and the same bits with every table, for one token or many.
    #[test]
    fn panels_of_sixteen_rows_are_right(seed in any::<u64>()) {
        let mut random = Cases::new(seed);
        for ty in panel_types() {
            let (rows, cols, tokens) = (32, 32 * (1 + random.0.below(9)), 1 + random.0.below(19));
            let data = random.rows(ty, rows, cols, Cases::scale);
            let panels = packed(ty, &data, rows);
            let w = Matrix::new(ty, rows, cols, &data).unwrap();
            let p = Matrix::rows16(ty, rows, cols, &panels).unwrap();
            let input = random.activations(tokens * cols);
            let mut scalar: Option<Vec<u32>> = None;
            for k in Kernels::available() {
                let mut x = Activations::new();
                x.quantize_with(k, &input, tokens, cols).unwrap();
                let y = product(k, &p, &x);
                let bits: Vec<u32> = y.iter().map(|y| if y.is_nan() { 0 } else { y.to_bits() }).collect();
                prop_assert_eq!(scalar.get_or_insert_with(|| bits.clone()), &bits, "{} {}", k.name, ty);
                x.quantize_with(k, &input[(tokens - 1) * cols..], 1, cols).unwrap();
                let alone = product(k, &p, &x);
                let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
                prop_assert!(alone.iter().zip(&y[(tokens - 1) * rows..]).all(same), "{} {ty} alone", k.name);
                x.quantize_with(k, &input, tokens, cols).unwrap();
                for t in 0..tokens {
                    for r in 0..rows {
                        let (want, magnitude) = exact(&w, &x, r, t);
                        let bound = magnitude * (cols / 16 + 8) as f64 * f64::from(f32::EPSILON) + 1e-37;
                        let got = f64::from(y[t * rows + r]);
                        prop_assert!((got - want).abs() <= bound || !want.is_finite() && !got.is_finite(),
                            "{} {ty} {rows}x{cols} row {r} token {t} of {tokens}: {got} for {want} ± {bound}", k.name);
                    }
                }
            }
        }
    }

    #[test]
    fn activations_quantize_alike(seed in any::<u64>()) {
        let mut random = Cases::new(seed);
        let mut input = random.activations(256);
        input[random.0.below(256)] *= 1e-30;
        for k in Kernels::available() {
            let (mut x, mut reference) = (Activations::new(), Activations::new());
            x.quantize_with(k, &input, 2, 128).unwrap();
            reference.quantize_with(&scalar::SCALAR, &input, 2, 128).unwrap();
            for t in 0..2 {
                let (a, b) = (x.row(t), reference.row(t));
                prop_assert_eq!(a.q, b.q);
                prop_assert_eq!(a.scales, b.scales);
                prop_assert_eq!(a.starts, b.starts);
                for (g, values) in input[t * 128..][..128].chunks(BLOCK).enumerate() {
                    let [d, s] = a.scales[g];
                    let q = &a.q[g * BLOCK..][..BLOCK];
                    prop_assert!(values.iter().zip(q).all(|(v, q)| (v - d * f32::from(*q)).abs() <= d * 0.501));
                    prop_assert_eq!(s, d * q.iter().map(|&q| i32::from(q)).sum::<i32>() as f32);
                }
            }
        }
    }
}

#[test]
fn a_not_a_number_is_not_lost() {
    let mut data = Vec::new();
    quantize_row(GgmlType::Q4_0, &[1.0; 64], &mut data).unwrap();
    let w = Matrix::new(GgmlType::Q4_0, 1, 64, &data).unwrap();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut input = [1.0; 64];
        input[40] = bad;
        for k in Kernels::available() {
            let mut x = Activations::new();
            x.quantize_with(k, &input, 1, 64).unwrap();
            assert!(product(k, &w, &x)[0].is_nan(), "{}", k.name);
        }
    }
}

#[test]
fn threads_agree_with_one() {
    let (rows, cols) = (1100, 512);
    let mut random = Cases::new(5);
    for ty in [
        GgmlType::Q4_1,
        GgmlType::Q8_0,
        GgmlType::Q6_K,
        GgmlType::F16,
    ] {
        let data = random.rows(ty, rows, cols, |r| {
            f16::from_f32(r.0.f32() * 0.1).to_le_bytes()
        });
        let w = Matrix::new(ty, rows, cols, &data).unwrap();
        for tokens in [1, 3, 70] {
            let k = Kernels::best();
            let mut x = Activations::new();
            x.quantize_with(k, &random.activations(tokens * cols), tokens, cols)
                .unwrap();
            let one = product(k, &w, &x);
            let pool = Pool::new(3, &[]).unwrap();
            let mut three = vec![f32::NAN; one.len()];
            k.matmul(&pool, &w, &x, &mut three).unwrap();
            assert_eq!(three, one, "{ty} {tokens}");
        }
    }
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let k = Kernels::best();
    let data = [0u8; 36];
    assert!(Matrix::new(GgmlType::Q4_0, 2, 32, &data).is_ok());
    for (rows, cols) in [(1, 32), (2, 31), (3, 32), (usize::MAX, 32), (0, 0), (36, 0)] {
        assert!(
            Matrix::new(GgmlType::Q4_0, rows, cols, &data).is_err(),
            "{rows} {cols}"
        );
    }
    let w = Matrix::new(GgmlType::Q4_0, 2, 32, &data).unwrap();
    let mut x = Activations::new();
    assert!(x.quantize_with(k, &[0.0; 63], 2, 32).is_err());
    x.quantize_with(k, &[0.0; 64], 1, 64).unwrap();
    assert!(k.matmul(&Pool::single(), &w, &x, &mut [0.0; 2]).is_err());
    x.quantize_with(k, &[0.0; 64], 2, 32).unwrap();
    assert!(k.matmul(&Pool::single(), &w, &x, &mut [0.0; 3]).is_err());
    assert!(k.matmul(&Pool::single(), &w, &x, &mut [0.0; 4]).is_ok());
    assert!(w.row(2, &mut [0.0; 32]).is_err());
    assert!(w.row(1, &mut [0.0; 31]).is_err());
    x.quantize_with(k, &[], 0, 32).unwrap();
    assert!(k.matmul(&Pool::single(), &w, &x, &mut []).is_ok());
}

#[test]
fn tables_are_named() {
    let names: Vec<_> = Kernels::available().iter().map(|k| k.name).collect();
    println!("available kernels: {}", names.join(" "));
    assert_eq!(names[0], "scalar");
    assert!(names.iter().all(|n| Kernels::by_name(n).is_ok()));
    let error = Kernels::by_name("mmx").unwrap_err().to_string();
    assert!(
        error.contains("mmx") && error.contains("available here: scalar"),
        "{error}"
    );
}
