//! `y [n_tokens, rows] = x [n_tokens, cols] · wᵀ [cols, rows]`: validation, blocking and threads.
//!
//! Threads take ranges of weight rows, so each weight is read by one thread only. Up to [`FEW`] tokens go one by one
//! over rows in the file's layout; more tokens are taken eight at a time and share sixteen rows, which are unpacked
//! into a panel first where the file does not have them side by side (see [`rows16`]). Tokens are taken in blocks that
//! fit the second-level cache.

use super::activation_tiles::TOKENS;
use super::activations::{Activations, FEW};
use super::panel::Panel;
use super::table::{FLOAT_TOKENS, Gemv, Kernels, ManyRows16};
use crate::pool::Pool;
use retort_format::gguf::TensorView;
use retort_format::quant::GgmlType;
use retort_format::quant::rows16;
use retort_format::quant::rows16::ROWS;
use retort_format::{Error, Result};
use std::sync::OnceLock;

/// A matrix of encoded weights, `[rows, cols]` with contiguous rows, borrowed from a file or a buffer.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    ty: GgmlType,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    /// Whether panels of sixteen rows lie one after the other, not rows.
    panels: bool,
    data: &'a [u8],
}

/// A checked matrix without its bytes: type, sizes and layout, to be put over the bytes of a mapped file at every use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixShape {
    ty: GgmlType,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    panels: bool,
}

impl Default for MatrixShape {
    /// A matrix without rows.
    fn default() -> Self {
        Self {
            ty: GgmlType::F32,
            rows: 0,
            cols: 1,
            row_bytes: 4,
            panels: false,
        }
    }
}

impl MatrixShape {
    /// The number of rows, which is the length of an output.
    pub fn rows(self) -> usize {
        self.rows
    }

    /// The matrix over `data`.
    ///
    /// # Panics
    ///
    /// If `data` is not as long as the matrix that [`Matrix::shape`] described.
    pub fn over(self, data: &[u8]) -> Matrix<'_> {
        assert_eq!(data.len(), self.rows * self.row_bytes, "bytes of a matrix");
        Matrix {
            ty: self.ty,
            rows: self.rows,
            cols: self.cols,
            row_bytes: self.row_bytes,
            panels: self.panels,
            data,
        }
    }
}

/// Bytes of int8 activations that are used against a panel before the next panel.
const TOKEN_BLOCK_BYTES: usize = 256 << 10;
/// Bytes of weights, times tokens, below which a second thread costs more than it saves.
const SERIAL: usize = 1 << 16;
/// Pieces per thread: enough to even out the threads' speeds.
const CHUNKS: usize = 8;
/// Bytes of weights in a piece, at least and at most: memory is read in straight lines of that length.
const MIN_CHUNK: usize = 16 << 10;
const MAX_CHUNK: usize = 256 << 10;

impl<'a> Matrix<'a> {
    /// Checks that `data` holds exactly `rows` rows of `cols` weights.
    pub fn new(ty: GgmlType, rows: usize, cols: usize, data: &'a [u8]) -> Result<Self> {
        let row_bytes = ty.row_bytes(cols).filter(|&b| b > 0);
        match row_bytes {
            Some(row_bytes) if row_bytes.checked_mul(rows) == Some(data.len()) => Ok(Matrix {
                ty,
                rows,
                cols,
                row_bytes,
                panels: false,
                data,
            }),
            _ => Err(Error::shape(
                "matrix",
                format!(
                    "{rows} rows of {cols} weights of {ty} do not fit {} bytes",
                    data.len()
                ),
            )),
        }
    }

    /// The same for `data` in the layout of [`rows16`].
    pub fn rows16(ty: GgmlType, rows: usize, cols: usize, data: &'a [u8]) -> Result<Self> {
        if !rows16::fits(ty, rows) {
            let problem = format!("{rows} rows of {ty} in panels of {ROWS} rows");
            return Err(Error::shape("matrix", problem));
        }
        let matrix = Self::new(ty, rows, cols, data)?;
        Ok(Self {
            panels: true,
            ..matrix
        })
    }

    /// A tensor as a matrix, its outer dimensions taken together.
    pub fn from_tensor(t: TensorView<'a>) -> Result<Self> {
        let (cols, rows) = t.shape();
        Self::new(t.ty, rows, cols, t.data)
    }

    /// `n` rows from row `first` on as a matrix of their own.
    pub fn slice(&self, first: usize, n: usize) -> Result<Self> {
        if first.checked_add(n).is_none_or(|end| end > self.rows) {
            let problem = format!("{n} rows from row {first} on, of {}", self.rows);
            return Err(Error::shape("matrix", problem));
        }
        if self.panels && !(first.is_multiple_of(ROWS) && n.is_multiple_of(ROWS)) {
            let problem = format!("{n} rows from row {first} on, of panels of {ROWS}");
            return Err(Error::shape("matrix", problem));
        }
        Ok(Self {
            rows: n,
            data: self.row_data(first, n),
            ..*self
        })
    }

    /// Everything but the bytes.
    pub fn shape(&self) -> MatrixShape {
        MatrixShape {
            ty: self.ty,
            rows: self.rows,
            cols: self.cols,
            row_bytes: self.row_bytes,
            panels: self.panels,
        }
    }

    /// Element format.
    pub fn ty(&self) -> GgmlType {
        self.ty
    }

    /// The number of rows, which is the length of an output.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The length of a row, which is the length of an input.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The encoded weights.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Decodes row `i` (an embedding) into `out`, which has `cols` elements.
    pub fn row(&self, i: usize, out: &mut [f32]) -> Result<()> {
        if i >= self.rows {
            return Err(Error::shape("matrix", format!("row {i} of {}", self.rows)));
        }
        if self.panels {
            let mut row = Vec::with_capacity(self.row_bytes);
            let panel = self.row_data(i / ROWS * ROWS, ROWS);
            rows16::unpack_row(self.ty, panel, i % ROWS, &mut row);
            return retort_format::quant::dequantize_row(self.ty, &row, out);
        }
        retort_format::quant::dequantize_row(self.ty, self.row_data(i, 1), out)
    }

    fn row_data(&self, first: usize, n: usize) -> &'a [u8] {
        &self.data[first * self.row_bytes..(first + n) * self.row_bytes]
    }
}

/// `y[t, r] = Σ_c w[r, c] x[t, c]` with the active kernels, on all threads of `pool`.
pub fn matmul(pool: &Pool, w: &Matrix, x: &Activations, y: &mut [f32]) -> Result<()> {
    super::active()?.matmul(pool, w, x, y)
}

impl Kernels {
    /// [`matmul`] with these kernels.
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
        let n = x.n_tokens();
        // what a thread takes at a time: product and rows
        let mut chunks: Vec<(usize, usize, usize)> = Vec::new();
        let bytes: usize = products.iter().map(|(w, _)| w.data.len()).sum();
        let work = bytes.saturating_mul(n);
        let serial = pool.threads() == 1 || work < SERIAL;
        let chunk = (bytes / (pool.threads() * CHUNKS)).clamp(MIN_CHUNK, MAX_CHUNK);
        for (i, (w, y)) in products.iter().enumerate() {
            if x.cols() != w.cols || n.checked_mul(w.rows) != Some(y.len()) {
                let problem = format!(
                    "[{n}, {}] times [{}, {}]ᵀ into {} values",
                    x.cols(),
                    w.rows,
                    w.cols,
                    y.len()
                );
                return Err(Error::shape("matmul", problem));
            }
            // whole panels keep padding at the end
            let rows = match serial {
                true => w.rows.max(1),
                false => (chunk / w.row_bytes).max(1).next_multiple_of(ROWS),
            };
            let firsts = (0..w.rows).step_by(rows);
            chunks.extend(firsts.map(|first| (i, first, rows.min(w.rows - first))));
        }
        if n == 0 {
            return Ok(());
        }
        let outputs: Vec<_> = products
            .iter_mut()
            .map(|(w, y)| {
                let y = y.as_mut_ptr();
                let output = Output {
                    y,
                    rows: w.rows,
                    n_tokens: n,
                };
                (*w, output)
            })
            .collect();
        let failed = OnceLock::new();
        let one = |piece: usize| {
            let (i, first, rows) = chunks[piece];
            let (w, output) = &outputs[i];
            if let Err(error) = self.rows(w, x, first, rows, output) {
                let _ = failed.set(error);
            }
        };
        match serial {
            true => (0..chunks.len()).for_each(one),
            false => pool.run(chunks.len(), one),
        }
        failed.into_inner().map_or(Ok(()), Err)
    }

    /// The products of rows `first..first + n` with all tokens.
    fn rows(
        &self,
        w: &Matrix,
        x: &Activations,
        first: usize,
        n: usize,
        output: &Output,
    ) -> Result<()> {
        let gemv = match w.panels {
            true => self.rows16(w.ty).map(|kernels| kernels.gemv),
            false => self.gemv(w.ty),
        };
        match gemv {
            None => self.float_rows(w, x, first, n, output),
            Some(gemv) if x.n_tokens() <= FEW => few_tokens(gemv, w, x, first, n, output),
            Some(_) => self.many_tokens(w, x, first, n, output)?,
        }
        Ok(())
    }

    fn many_tokens(
        &self,
        w: &Matrix,
        x: &Activations,
        first: usize,
        n: usize,
        output: &Output,
    ) -> Result<()> {
        let mut panel = Panel::default();
        let mut out = [[0f32; ROWS]; TOKENS];
        let tokens = x.n_tokens();
        let block = (TOKEN_BLOCK_BYTES / w.cols)
            .max(32)
            .next_multiple_of(TOKENS);
        for t0 in (0..tokens).step_by(block) {
            let t1 = (t0 + block).min(tokens);
            for r in (first..first + n).step_by(ROWS) {
                let count = ROWS.min(first + n - r);
                let rows = w.row_data(r, count);
                let mut tile_rows16 = None;
                match self
                    .rows16(w.ty)
                    .filter(|_| w.panels)
                    .map(|kernels| kernels.many)
                {
                    Some(ManyRows16::Tile(tile)) => tile_rows16 = Some(tile),
                    Some(ManyRows16::Unpack(unpack)) => {
                        panel.fill_rows16(unpack, w.ty, rows, w.cols)
                    }
                    None => panel.fill(self, w.ty, rows, w.row_bytes, w.cols)?,
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

    fn float_rows(&self, w: &Matrix, x: &Activations, first: usize, n: usize, output: &Output) {
        // a strip of rows passes over all tokens, four at a time
        const STRIP: usize = 16;
        let tokens = x.n_tokens();
        let whole = tokens - tokens % FLOAT_TOKENS;
        for strip in (first..first + n).step_by(STRIP) {
            let rows = strip..(strip + STRIP).min(first + n);
            for t in (0..whole).step_by(FLOAT_TOKENS) {
                let x: [&[f32]; FLOAT_TOKENS] = std::array::from_fn(|i| x.float_row(t + i));
                for r in rows.clone() {
                    // SAFETY: the table's features were detected; row and activations have `cols` columns.
                    let dots = unsafe { (self.float_dot_4)(w.ty, w.row_data(r, 1), &x) };
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
                        let [dot] = (self.float_dot_1)(w.ty, w.row_data(r, 1), &[x.float_row(t)]);
                        output.slice(t, r, 1)[0] = dot;
                    }
                }
            }
        }
    }
}

/// Rows `first..first + n` times each token in turn.
fn few_tokens(gemv: Gemv, w: &Matrix, x: &Activations, first: usize, n: usize, output: &Output) {
    // a strip of rows stays in the first-level cache while the tokens pass over it
    let strip = if x.n_tokens() == 1 {
        n
    } else {
        (16 * 1024 / w.row_bytes)
            .clamp(1, 64)
            .next_multiple_of(ROWS)
    };
    for r in (first..first + n).step_by(strip) {
        let count = strip.min(first + n - r);
        for t in 0..x.n_tokens() {
            // SAFETY: the range of rows is this thread's own, and `y` is borrowed mutably for the whole call.
            let y = unsafe { output.slice(t, r, count) };
            // SAFETY: the table's features were detected; the matrix holds whole rows of `cols` weights, and
            // the activations have as many columns (checked in `matmul`).
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
