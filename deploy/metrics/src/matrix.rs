use std::ops::Range;

use crate::MetricsError;

/// Row-major matrix of f32, `[rows, cols]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    data: Vec<f32>,
    rows: usize,
    cols: usize,
}

impl Matrix {
    /// Takes row-major `data`; fails unless it holds exactly `rows * cols` values.
    pub fn new(data: Vec<f32>, rows: usize, cols: usize) -> Result<Self, MetricsError> {
        Rows::new(&data, rows, cols)?;
        Ok(Self { data, rows, cols })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Row `i`.
    ///
    /// # Panics
    /// If `i` is not below [`rows`](Self::rows).
    pub fn row(&self, i: usize) -> &[f32] {
        self.view().row(i)
    }

    /// All values, row-major.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The same values, borrowed.
    pub fn view(&self) -> Rows<'_> {
        Rows { data: &self.data, rows: self.rows, cols: self.cols }
    }
}

/// Borrowed row-major matrix of f32, `[rows, cols]`. All metrics read this type, so that nobody has to copy a gallery.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rows<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
}

impl<'a> Rows<'a> {
    /// Borrows row-major `data`; fails unless it holds exactly `rows * cols` values.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Result<Self, MetricsError> {
        if rows.checked_mul(cols) != Some(data.len()) {
            return Err(MetricsError::Shape { rows, cols, found: data.len() });
        }
        Ok(Self { data, rows, cols })
    }

    /// Number of rows.
    pub fn rows(self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(self) -> usize {
        self.cols
    }

    /// Row `i`.
    ///
    /// # Panics
    /// If `i` is not below [`rows`](Self::rows).
    pub fn row(self, i: usize) -> &'a [f32] {
        assert!(i < self.rows, "row {i} of a matrix with {} rows", self.rows);
        &self.data[i * self.cols..(i + 1) * self.cols]
    }

    /// All values, row-major.
    pub fn data(self) -> &'a [f32] {
        self.data
    }

    /// The rows in `rows`, borrowed.
    ///
    /// # Panics
    /// If the range exceeds the matrix.
    pub fn slice(self, rows: Range<usize>) -> Self {
        assert!(rows.end <= self.rows, "rows {rows:?} of a matrix with {} rows", self.rows);
        Self { data: &self.data[rows.start * self.cols..rows.end * self.cols], rows: rows.len(), cols: self.cols }
    }

    /// Returns an error for the first NaN or infinity.
    pub(crate) fn check_finite(self, what: &'static str) -> Result<(), MetricsError> {
        match self.data.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(at) => Err(MetricsError::NotFinite {
                what,
                row: at / self.cols,
                col: at % self.cols,
                value: self.data[at].to_string(),
            }),
        }
    }
}

impl<'a> From<&'a Matrix> for Rows<'a> {
    fn from(matrix: &'a Matrix) -> Self {
        matrix.view()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_must_fill_the_shape() {
        let error = Matrix::new(vec![0.0; 5], 2, 3).unwrap_err();
        assert_eq!(error.to_string(), "matrix of 2 x 3 needs 6 values, found 5");
        assert!(Matrix::new(vec![], usize::MAX, 2).is_err());
        let matrix = Matrix::new(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2, 3).unwrap();
        assert_eq!(matrix.row(1), [4.0, 5.0, 6.0]);
        assert_eq!(matrix.view().slice(1..2).data(), matrix.row(1));
        assert_eq!(matrix.view().slice(2..2).rows(), 0);
        assert!(Matrix::new(vec![], 0, 3).is_ok());
    }
}
