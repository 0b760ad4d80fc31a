//! `y [n_tokens, rows] = x [n_tokens, cols] · wᵀ [cols, rows]`: sizes checked, cut into blocks, shared among threads.
//!
//! Threads take ranges of weight rows, so each weight is read by one thread only. Up to [`FEW`] tokens go one by one
//! over rows in the file's layout; more tokens are taken eight at a time and share sixteen rows, which are unpacked
//! into a panel first where the file does not have them side by side (see
//! [`rows16`](retort_format::quant::rows16)). Tokens are taken in blocks that fit the second-level cache.

use crate::activation_tiles::TOKENS;
use crate::activations::{Activations, FEW};
use crate::kernels::{FLOAT_TOKENS, Gemv, Kernels, ManyRows16};
use crate::matrix::Matrix;
use crate::panel::Panel;
use crate::pool::Pool;
use retort_format::quant::rows16::ROWS;
use retort_format::{Error, Result};
use std::ops::Range;
use std::sync::OnceLock;

/// Bytes of int8 activations that are used against a panel before the next panel.
const TOKEN_BLOCK_BYTES: usize = 256 << 10;
/// Bytes of weights, times tokens, below which a second thread costs more than it saves.
const SERIAL: usize = 1 << 16;
/// Pieces per thread: enough to even out the threads' speeds.
const CHUNKS: usize = 8;
/// Bytes of weights in a piece, at least and at most: memory is read in straight lines of that length.
const MIN_CHUNK: usize = 16 << 10;
const MAX_CHUNK: usize = 256 << 10;

/// Some rows of a product with all tokens, which one thread computes.
struct RowTask<'a> {
    w: &'a Matrix<'a>,
    x: &'a Activations,
    rows: Range<usize>,
    output: &'a Output,
}

impl Kernels {
    /// `y[t, r] = Σ_c w[r, c] x[t, c]`, on all threads of `pool`.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if the sizes do not fit each other.
    pub fn matmul(&self, pool: &Pool, w: &Matrix, x: &Activations, y: &mut [f32]) -> Result<()> {
        self.matmuls(pool, x, &mut [(*w, y)])
    }

    /// Several products with the same activations, which threads share out as one.
    pub fn matmuls(
        &self,
        pool: &Pool,
        x: &Activations,
        products: &mut [(Matrix, &mut [f32])],
    ) -> Result<()> {
        let n_tokens = x.n_tokens();
        let bytes: usize = products.iter().map(|(w, _)| w.data().len()).sum();
        let serial = pool.threads() == 1 || bytes.saturating_mul(n_tokens) < SERIAL;
        let chunk = (bytes / (pool.threads() * CHUNKS)).clamp(MIN_CHUNK, MAX_CHUNK);
        let mut outputs = Vec::with_capacity(products.len());
        for (w, y) in &mut *products {
            let (rows, cols) = (w.rows(), w.cols());
            if x.cols() != cols || n_tokens.checked_mul(rows) != Some(y.len()) {
                let (given, room) = (x.cols(), y.len());
                let problem =
                    format!("[{n_tokens}, {given}] times [{rows}, {cols}]ᵀ into {room} values");
                return Err(Error::shape("matmul", problem));
            }
            let y = y.as_mut_ptr();
            outputs.push((*w, Output { y, rows, n_tokens }));
        }
        if n_tokens == 0 {
            return Ok(());
        }
        let mut tasks = Vec::new();
        for (w, output) in &outputs {
            // whole panels keep padding at the end
            let step = if serial {
                w.rows().max(1)
            } else {
                (chunk / w.row_bytes()).max(1).next_multiple_of(ROWS)
            };
            let firsts = (0..w.rows()).step_by(step);
            tasks.extend(firsts.map(|first| RowTask {
                w,
                x,
                rows: first..(first + step).min(w.rows()),
                output,
            }));
        }
        let failed = OnceLock::new();
        let one = |i: usize| {
            if let Err(error) = self.rows(&tasks[i]) {
                let _ = failed.set(error);
            }
        };
        if serial {
            (0..tasks.len()).for_each(one);
        } else {
            pool.run(tasks.len(), one);
        }
        failed.into_inner().map_or(Ok(()), Err)
    }

    fn rows(&self, task: &RowTask) -> Result<()> {
        let ty = task.w.ty();
        let panels = (self.rows16)(ty).filter(|_| task.w.panels());
        let gemv = panels.map(|kernels| kernels.gemv).or((self.gemv)(ty));
        match gemv {
            None => self.float_rows(task),
            Some(gemv) if task.x.n_tokens() <= FEW => few_tokens(gemv, task),
            Some(_) => self.many_tokens(task, panels.map(|kernels| kernels.many))?,
        }
        Ok(())
    }

    /// Sixteen rows at a time, unpacked first unless `panels` takes them as they lie, times eight tokens at a time.
    fn many_tokens(&self, task: &RowTask, panels: Option<ManyRows16>) -> Result<()> {
        let RowTask { w, x, output, .. } = *task;
        let (ty, cols, tokens) = (w.ty(), w.cols(), x.n_tokens());
        let mut panel = Panel::default();
        let mut out = [[0f32; ROWS]; TOKENS];
        let block = (TOKEN_BLOCK_BYTES / cols).max(32).next_multiple_of(TOKENS);
        for t0 in (0..tokens).step_by(block) {
            let t1 = (t0 + block).min(tokens);
            for r in task.rows.clone().step_by(ROWS) {
                let count = ROWS.min(task.rows.end - r);
                let rows = w.row_data(r, count);
                let mut tile_rows16 = None;
                // SAFETY: the table's features were detected; the functions keep to their slices, which hold sixteen
                // rows of `cols` columns.
                match panels {
                    Some(ManyRows16::Tile(tile)) => tile_rows16 = Some(tile),
                    Some(ManyRows16::Unpack(unpack)) => {
                        panel.resize(ty, cols);
                        unsafe { unpack(rows, &mut panel) };
                    }
                    None => panel.fill(ty, rows, cols, |rows, q| unsafe {
                        (self.interleave)(rows, self.bias, q);
                    })?,
                }
                for t in (t0..t1).step_by(TOKENS) {
                    let x = x.tile(t / TOKENS);
                    // SAFETY: the table's features were detected; panel and activations have `cols` columns.
                    unsafe {
                        match tile_rows16 {
                            Some(tile) => tile(rows, &x, &mut out),
                            None => (self.tile)(&panel, &x, &mut out),
                        }
                    }
                    for (i, out) in out.iter().enumerate().take(t1 - t) {
                        // SAFETY: the range of rows is this thread's own.
                        let to = unsafe { output.slice(t + i, r, count) };
                        match <&mut [f32; ROWS]>::try_from(&mut *to) {
                            Ok(whole) => *whole = *out,
                            Err(_) => to.copy_from_slice(&out[..count]),
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// A strip of rows passes over all tokens, four at a time.
    fn float_rows(&self, task: &RowTask) {
        const STRIP: usize = 16;
        let RowTask { w, x, output, .. } = *task;
        let tokens = x.n_tokens();
        let whole = tokens - tokens % FLOAT_TOKENS;
        for strip in task.rows.clone().step_by(STRIP) {
            let rows = strip..(strip + STRIP).min(task.rows.end);
            for t in (0..whole).step_by(FLOAT_TOKENS) {
                let x: [&[f32]; FLOAT_TOKENS] = std::array::from_fn(|i| x.float_row(t + i));
                for r in rows.clone() {
                    // SAFETY: the table's features were detected; row and activations have `cols` columns.
                    let dots = unsafe { (self.float_dot_4)(w.ty(), w.row_data(r, 1), &x) };
                    for (i, dot) in dots.into_iter().enumerate() {
                        // SAFETY: the range of rows is this thread's own.
                        unsafe { output.slice(t + i, r, 1)[0] = dot };
                    }
                }
            }
            for t in whole..tokens {
                for r in rows.clone() {
                    // SAFETY: as for four tokens.
                    unsafe {
                        let [dot] = (self.float_dot_1)(w.ty(), w.row_data(r, 1), &[x.float_row(t)]);
                        output.slice(t, r, 1)[0] = dot;
                    }
                }
            }
        }
    }
}

/// The task's rows times each token in turn.
fn few_tokens(gemv: Gemv, task: &RowTask) {
    let RowTask { w, x, output, .. } = *task;
    // a strip of rows stays in the first-level cache while the tokens pass over it
    let strip = if x.n_tokens() == 1 {
        task.rows.len().max(1)
    } else {
        (16 * 1024 / w.row_bytes())
            .clamp(1, 64)
            .next_multiple_of(ROWS)
    };
    for r in task.rows.clone().step_by(strip) {
        let count = strip.min(task.rows.end - r);
        for t in 0..x.n_tokens() {
            // SAFETY: the range of rows is this thread's own, and `y` is borrowed mutably for the whole call.
            let y = unsafe { output.slice(t, r, count) };
            // SAFETY: the table's features were detected; the matrix holds whole rows of `cols` weights, and
            // the activations have as many columns (checked in `matmuls`).
            unsafe { gemv(w.row_data(r, count), x.row(t), y) };
        }
    }
}

/// The output, written by several threads: each has its own rows, which lie apart in every token's part.
struct Output {
    y: *mut f32,
    rows: usize,
    n_tokens: usize,
}

// SAFETY: the pointer is only used through `slice`, whose callers keep to rows that are theirs alone.
unsafe impl Sync for Output {}

impl Output {
    /// Outputs `first..first + n` of token `t`.
    ///
    /// # Safety
    /// No other slice of these outputs may be alive, and the `y` that this was made from must be borrowed mutably.
    #[allow(clippy::mut_from_ref)] // that is the point: disjoint parts for several threads
    unsafe fn slice(&self, t: usize, first: usize, n: usize) -> &mut [f32] {
        assert!(t < self.n_tokens && first + n <= self.rows, "output range");
        // SAFETY: in range by the assertion (`y` has n_tokens × rows elements), exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.y.add(t * self.rows + first), n) }
    }
}
