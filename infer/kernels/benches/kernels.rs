//! Throughput of the matrix product on one thread: one token (decoding, bound by how fast weights are read) and many
//! (prefill, bound by arithmetic).
//!
//! `cargo bench -p retort-kernels [-- FORMAT]`; `RETORT_KERNELS` chooses the table, else all that the processor has are
//! measured, each format in the file's rows and, where it has them, in panels of sixteen (rows16).
//! Decoding reports bytes of weights a second, prefill multiply-adds a second (shown as elements).

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use retort_format::quant::{GgmlType, quantize_row, rows16};
use retort_kernels::pool::Pool;
use retort_kernels::{Activations, Kernels, Matrix};
use retort_test_kit::Random;
use std::hint::black_box;
use std::time::Duration;

fn tables() -> Vec<&'static Kernels> {
    match std::env::var("RETORT_KERNELS") {
        Ok(name) => vec![Kernels::by_name(&name).unwrap_or_else(|e| panic!("{e}"))],
        Err(_) => Kernels::available(),
    }
}

fn values(n: usize) -> Vec<f32> {
    Random::new(1).f32s(n)
}

/// Encoded weights; for formats that are read and not written, bytes whose f16 numbers are all below 1.
fn weights(ty: GgmlType, n: usize) -> Vec<u8> {
    let mut data = Vec::new();
    if quantize_row(ty, &values(n), &mut data).is_ok() {
        return data;
    }
    let bytes = ty.row_bytes(n).expect("whole blocks");
    let small = |i: usize| (i * 7919 % 251) as u8 & 0x3b;
    (0..bytes).map(small).collect()
}

/// One group: `[tokens, cols]` times `[rows, cols]ᵀ` for every format and table.
fn product(c: &mut Criterion, name: &str, rows: usize, cols: usize, tokens: usize) {
    let one = Pool::single();
    let mut group = c.benchmark_group(name);
    group
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    for ty in GgmlType::ALL {
        let data = weights(ty, rows * cols);
        let mut panels = Vec::new();
        if rows16::fits(ty, rows) {
            for rows in data.chunks_exact(data.len() / rows * 16) {
                rows16::pack(ty, rows, &mut panels).expect("sixteen rows");
            }
        }
        let plain = Matrix::new(ty, rows, cols, &data).expect("whole rows");
        let packed = Matrix::rows16(ty, rows, cols, &panels).ok();
        let layouts = [
            (ty.to_string(), Some(plain)),
            (format!("{ty} rows16"), packed),
        ];
        for (name, w) in layouts {
            let Some(w) = w else { continue };
            group.throughput(match tokens {
                1 => Throughput::Bytes(data.len() as u64),
                _ => Throughput::Elements((rows * cols * tokens) as u64),
            });
            for kernels in tables() {
                let mut x = Activations::new();
                x.quantize_with(kernels, &values(tokens * cols), tokens, cols)
                    .expect("whole blocks");
                let mut y = vec![0.0; tokens * rows];
                group.bench_function(BenchmarkId::new(kernels.name, &name), |b| {
                    b.iter(|| {
                        kernels
                            .matmul(&one, black_box(&w), &x, &mut y)
                            .expect("fitting sizes")
                    });
                });
            }
        }
    }
    group.finish();
}

fn benches(c: &mut Criterion) {
    product(c, "gemv in cache 1536x768", 1536, 768, 1);
    product(c, "gemv from memory 49152x1536", 49152, 1536, 1);
    product(c, "gemm 1536x768 by 128 tokens", 1536, 768, 128);
}

criterion_group!(kernels, benches);
criterion_main!(kernels);
