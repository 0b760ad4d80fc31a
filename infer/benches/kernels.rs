//! Throughput of the matrix product on one thread: one token (decoding, bound by how fast weights are read) and many
//! (prefill, bound by arithmetic).
//!
//! `cargo bench -p retort-infer`; `RETORT_KERNELS` chooses the table, else all that the processor has are measured.
//! Decoding reports bytes of weights a second, prefill multiply-adds a second (shown as elements).

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use retort_infer::kernels::{Activations, Kernels, Matrix};
use retort_infer::pool::Pool;
use retort_infer::quant::{GgmlType, quantize_row};
use std::hint::black_box;
use std::time::Duration;

const TYPES: [GgmlType; 4] = [
    GgmlType::Q4_0,
    GgmlType::Q4_1,
    GgmlType::Q8_0,
    GgmlType::F16,
];

fn tables() -> Vec<&'static Kernels> {
    match std::env::var("RETORT_KERNELS") {
        Ok(name) => vec![Kernels::by_name(&name).unwrap_or_else(|e| panic!("{e}"))],
        Err(_) => Kernels::available(),
    }
}

fn values(n: usize) -> Vec<f32> {
    (0..n)
        .map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0)
        .collect()
}

/// One group: `[tokens, cols]` times `[rows, cols]ᵀ` for every format and table.
fn product(c: &mut Criterion, name: &str, rows: usize, cols: usize, tokens: usize) {
    let one = Pool::single();
    let mut group = c.benchmark_group(name);
    group
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    for ty in TYPES {
        let mut data = Vec::new();
        quantize_row(ty, &values(rows * cols), &mut data).expect("whole blocks");
        let w = Matrix::new(ty, rows, cols, &data).expect("whole rows");
        group.throughput(match tokens {
            1 => Throughput::Bytes(data.len() as u64),
            _ => Throughput::Elements((rows * cols * tokens) as u64),
        });
        for kernels in tables() {
            let mut x = Activations::new();
            x.quantize_with(kernels, &values(tokens * cols), tokens, cols)
                .expect("whole blocks");
            let mut y = vec![0.0; tokens * rows];
            group.bench_function(BenchmarkId::new(kernels.name, ty), |b| {
                b.iter(|| {
                    kernels
                        .matmul(&one, black_box(&w), &x, &mut y)
                        .expect("fitting sizes")
                });
            });
        }
    }
    group.finish();
}

fn benches(c: &mut Criterion) {
    product(c, "gemv in cache 1536x576", 1536, 576, 1);
    product(c, "gemv from memory 49152x1536", 49152, 1536, 1);
    product(c, "gemm 1536x576 by 128 tokens", 1536, 576, 128);
}

criterion_group!(kernels, benches);
criterion_main!(kernels);
