//! Matrices of encoded weights `[rows, cols]`, as they lie in a file: rows one after another, or
//! panels of sixteen rows ([`rows16`]).

use retort_format::gguf::TensorView;
use retort_format::quant::rows16::{self, ROWS};
use retort_format::quant::{GgmlType, dequantize_row};
use retort_format::{Error, Result};

/// A checked matrix without its bytes: type, sizes and layout, to be put over the bytes of a mapped file at every use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixShape {
    ty: GgmlType,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    /// Whether panels of sixteen rows lie one after the other, not rows.
    panels: bool,
}

/// A matrix of encoded weights, `[rows, cols]` with contiguous rows, borrowed from a file or a buffer.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    shape: MatrixShape,
    data: &'a [u8],
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
        Matrix { shape: self, data }
    }
}

impl<'a> Matrix<'a> {
    /// Checks that `data` holds exactly `rows` rows of `cols` weights.
    pub fn new(ty: GgmlType, rows: usize, cols: usize, data: &'a [u8]) -> Result<Self> {
        let Some(row_bytes) = (ty.row_bytes(cols))
            .filter(|&bytes| bytes > 0 && bytes.checked_mul(rows) == Some(data.len()))
        else {
            let bytes = data.len();
            let problem = format!("{rows} rows of {cols} weights of {ty} do not fit {bytes} bytes");
            return Err(Error::shape("matrix", problem));
        };
        let shape = MatrixShape {
            ty,
            rows,
            cols,
            row_bytes,
            panels: false,
        };
        Ok(Self { shape, data })
    }

    /// The same for `data` in the layout of [`rows16`].
    pub fn rows16(ty: GgmlType, rows: usize, cols: usize, data: &'a [u8]) -> Result<Self> {
        if !rows16::fits(ty, rows) {
            let problem = format!("{rows} rows of {ty} in panels of {ROWS} rows");
            return Err(Error::shape("matrix", problem));
        }
        let mut matrix = Self::new(ty, rows, cols, data)?;
        matrix.shape.panels = true;
        Ok(matrix)
    }

    /// A tensor as a matrix, its outer dimensions taken together.
    pub fn from_tensor(t: TensorView<'a>) -> Result<Self> {
        let (cols, rows) = t.shape();
        Self::new(t.ty, rows, cols, t.data)
    }

    /// `n` rows from row `first` on as a matrix of their own.
    pub fn slice(&self, first: usize, n: usize) -> Result<Self> {
        let of = if first.checked_add(n).is_none_or(|end| end > self.rows()) {
            format!("{}", self.rows())
        } else if self.panels() && !(first.is_multiple_of(ROWS) && n.is_multiple_of(ROWS)) {
            format!("panels of {ROWS}")
        } else {
            let shape = MatrixShape {
                rows: n,
                ..self.shape
            };
            return Ok(shape.over(self.row_data(first, n)));
        };
        let problem = format!("{n} rows from row {first} on, of {of}");
        Err(Error::shape("matrix", problem))
    }

    /// Everything but the bytes.
    pub fn shape(&self) -> MatrixShape {
        self.shape
    }

    /// Element format.
    pub fn ty(&self) -> GgmlType {
        self.shape.ty
    }

    /// The number of rows, which is the length of an output.
    pub fn rows(&self) -> usize {
        self.shape.rows
    }

    /// The length of a row, which is the length of an input.
    pub fn cols(&self) -> usize {
        self.shape.cols
    }

    /// The encoded weights.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    pub(crate) fn row_bytes(&self) -> usize {
        self.shape.row_bytes
    }

    /// Whether panels of sixteen rows lie one after the other, not rows.
    pub(crate) fn panels(&self) -> bool {
        self.shape.panels
    }

    /// The bytes of `n` rows from row `first` on; of panels, both multiples of sixteen.
    pub(crate) fn row_data(&self, first: usize, n: usize) -> &'a [u8] {
        &self.data[first * self.row_bytes()..(first + n) * self.row_bytes()]
    }

    /// Decodes row `i` (an embedding) into `out`, which has `cols` elements.
    pub fn row(&self, i: usize, out: &mut [f32]) -> Result<()> {
        if i >= self.rows() {
            let problem = format!("row {i} of {}", self.rows());
            return Err(Error::shape("matrix", problem));
        }
        if self.panels() {
            let mut row = Vec::with_capacity(self.row_bytes());
            let panel = self.row_data(i / ROWS * ROWS, ROWS);
            rows16::unpack_row(self.ty(), panel, i % ROWS, &mut row);
            return dequantize_row(self.ty(), &row, out);
        }
        dequantize_row(self.ty(), self.row_data(i, 1), out)
    }
}
