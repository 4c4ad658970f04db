/// Invalid input to a metric.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// The data of a matrix does not match its shape.
    #[error("matrix of {rows} x {cols} needs {} values, found {found}", .rows.saturating_mul(*.cols))]
    Shape {
        /// Rows of the shape.
        rows: usize,
        /// Columns of the shape.
        cols: usize,
        /// Values in the data.
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
    /// The number of labels does not match the distance matrix.
    #[error(
        "distance matrix has {expected} {axis} {}, but {found} labels were given",
        if *.axis == "query" { "rows" } else { "columns" }
    )]
    Labels {
        /// `query` or `gallery`.
        axis: &'static str,
        /// Rows or columns of the distance matrix.
        expected: usize,
        /// Number of labels.
        found: usize,
    },
    /// Pictures of different sizes, or without pixels.
    #[error("a picture has {found} values, but {wanted} are needed, and at least one")]
    Pictures {
        /// Values in one picture.
        found: usize,
        /// Values in the other, or by its size.
        wanted: usize,
    },
    /// A picture smaller than the SSIM window.
    #[error("a picture of {height}×{width} is smaller than a window of 11×11")]
    Window {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
    /// A NaN or an infinity, which cannot be ranked.
    #[error("{what} row {row}, column {col} is {value}; only finite values can be ranked")]
    NotFinite {
        /// The input that holds it.
        what: &'static str,
        /// Row, from 0.
        row: usize,
        /// Column, from 0.
        col: usize,
        /// The value, as text because NaN does not equal itself.
        value: String,
    },
    /// A row that is not of unit length; cosine and Euclidean order would disagree.
    #[error("{what} row {row} has length {length:.4}; re-ranking needs rows of unit length")]
    NotUnit {
        /// The input that holds it.
        what: &'static str,
        /// Row, from 0.
        row: usize,
        /// Its L2 norm.
        length: f32,
    },
    /// A parameter out of its range.
    #[error("{name} is {found}; allowed: {allowed}")]
    Parameter {
        /// Name of the parameter.
        name: &'static str,
        /// The value, as text.
        found: String,
        /// The allowed range, as text.
        allowed: &'static str,
    },
    /// There is nothing to measure.
    #[error("no {what}")]
    Empty {
        /// What is missing.
        what: &'static str,
    },
    /// A gallery size that the data cannot stand for.
    #[error(
        "a gallery of {gallery} subjects cannot be measured on {subjects} enrolled people; 1 to {} can, and {gallery} \
         need {}",
        .subjects.saturating_sub(1), .gallery.saturating_add(1)
    )]
    Gallery {
        /// Subjects in the gallery asked for.
        gallery: usize,
        /// People who can be enrolled.
        subjects: usize,
    },
}
