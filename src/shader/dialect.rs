//! Cooperative matrices as text, in naga's dialect: the one file that knows its words. Another compiler's dialect would be another such file.

/// Rows and columns of a result, and what its elements are sums over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MatrixShape {
    pub(crate) m: u32,
    pub(crate) n: u32,
    pub(crate) k: u32,
}

impl MatrixShape {
    pub(crate) fn square(n: u32) -> Self {
        MatrixShape { m: n, n, k: n }
    }
}

/// What a matrix is in a product: f16, M x K and K x N, or the sum, f32, M x N.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Left,
    Right,
    Sum,
}

/// The first line of a module.
pub(crate) const ENABLE: &str = "enable f16; enable wgpu_cooperative_matrix; ";

/// The names of the types.
pub(crate) fn types(shape: MatrixShape) -> String {
    let MatrixShape { m, n, k } = shape;
    format!(
        "alias MatrixA = coop_mat{m}x{k}<f16, A>;\n\
         alias MatrixB = coop_mat{k}x{n}<f16, B>;\n\
         alias MatrixC = coop_mat{m}x{n}<f32, C>;\n"
    )
}

pub(crate) fn name(role: Role) -> &'static str {
    match role {
        Role::Left => "MatrixA",
        Role::Right => "MatrixB",
        Role::Sum => "MatrixC",
    }
}

/// A matrix of zeros.
pub(crate) fn zero(role: Role) -> String {
    format!("{}()", name(role))
}

/// A matrix from an array of vectors, its rows (of a right one its columns) `stride` vectors apart. Vectors are bits: their type may be another.
pub(crate) fn load(role: Role, array: &str, at: &str, stride: &str) -> String {
    let by_rows = if role == Role::Right { "" } else { "T" };
    format!("coopLoad{by_rows}<{}>(&{array}[{at}], {stride})", name(role))
}

/// Rows of a sum to an array of vectors of its type.
pub(crate) fn store(matrix: &str, array: &str, at: &str, stride: &str) -> String {
    format!("coopStoreT({matrix}, &{array}[{at}], {stride});")
}

/// left right + sum.
pub(crate) fn multiply_add(left: &str, right: &str, sum: &str) -> String {
    format!("coopMultiplyAdd({left}, {right}, {sum})")
}
