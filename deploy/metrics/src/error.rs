/// What was wrong with the numbers handed in.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// The data of a matrix does not fill its shape.
    #[error("matrix of {rows} x {cols} needs {} values, found {found}", .rows.saturating_mul(*.cols))]
    Shape {
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        cols: usize,
        /// Values handed in.
        found: usize,
    },
    /// Query and gallery embeddings have different lengths.
    #[error("query embeddings have {query} values, gallery embeddings {gallery}")]
    Dimension {
        /// Columns of the query matrix.
        query: usize,
        /// Columns of the gallery matrix.
        gallery: usize,
    },
    /// The labels do not match the distance matrix.
    #[error("distance matrix has {expected} {axis} {}, but {found} labels were given", if *.axis == "query" { "rows" } else { "columns" })]
    Labels {
        /// `query` or `gallery`.
        axis: &'static str,
        /// Rows or columns of the distance matrix.
        expected: usize,
        /// Labels handed in.
        found: usize,
    },
    /// Pictures of different sizes, or none.
    #[error("a picture has {found} values, {wanted} are needed, and more than none")]
    Pictures {
        /// Values of one.
        found: usize,
        /// Values of the other, or of its size.
        wanted: usize,
    },
    /// A picture smaller than the window it is looked at through.
    #[error("a picture of {height}×{width} is smaller than a window of 11×11")]
    Window {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
    /// A NaN or an infinity, which has no place in a ranking.
    #[error("{what} row {row}, column {col} is {value}; only finite values can be ranked")]
    NotFinite {
        /// Which input holds it.
        what: &'static str,
        /// Row, from 0.
        row: usize,
        /// Column, from 0.
        col: usize,
        /// The value, as text because NaN does not equal itself.
        value: String,
    },
    /// A row whose length is not 1, where cosine and Euclidean order would disagree.
    #[error("{what} row {row} has length {length:.4}; re-ranking needs rows of unit length")]
    NotUnit {
        /// Which input holds it.
        what: &'static str,
        /// Row, from 0.
        row: usize,
        /// Its L2 norm.
        length: f32,
    },
    /// A parameter out of its range.
    #[error("{name} is {found}, allowed is {allowed}")]
    Parameter {
        /// Name of the parameter.
        name: &'static str,
        /// The value handed in, as text.
        found: String,
        /// The range, for people.
        allowed: &'static str,
    },
    /// Nothing to measure.
    #[error("no {what}")]
    Empty {
        /// What is missing.
        what: &'static str,
    },
}
