//! What every index map says of itself; each is a file beside this one.

/// What is wrong with a map, and what to give instead.
pub(crate) type Wrong = (String, &'static str);

/// An index map.
pub(crate) trait Map {
    /// A word for labels and reports.
    fn name(&self) -> &'static str;
    /// Whether its numbers are within their limits.
    fn check(&self) -> Result<(), Wrong>;
    /// Rows of the table.
    fn rows(&self) -> u64;
    /// The highest position stream that it reads.
    fn last_stream(&self) -> u8 {
        0
    }
    /// Whether it reads the tokens' segments.
    fn segments(&self) -> bool {
        false
    }
    /// The row of query positions m and key positions n (each of the streams), or none outside.
    fn row(&self, m: [i32; 4], n: [i32; 4], same_segment: bool) -> Option<u32>;
    /// How a device finds the row; none where it computes it.
    fn lookup(&self) -> Option<Lookup> {
        None
    }
    /// What a kernel calls.
    fn expression(&self) -> Expression;
}

/// A call in WGSL that gives the row at `at`, -1 for none.
pub(crate) struct Expression {
    /// The files of `shaders/` that declare what it calls.
    pub(crate) files: Vec<&'static str>,
    pub(crate) function: &'static str,
    pub(crate) arguments: Vec<Argument>,
}

/// An argument of an [`Expression`].
pub(crate) enum Argument {
    /// WGSL as it is.
    Text(String),
    /// A number of 32 bits.
    Int(i32),
    /// Where the rows of the [`Lookup`] start in `tables`.
    Rows,
}

impl Argument {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Argument::Text(text.into())
    }
}

/// n - m of a stream, saturated to 32 bits, as the shaders do.
pub(crate) fn distance(m: [i32; 4], n: [i32; 4], stream: usize) -> i64 {
    (n[stream] as i64 - m[stream] as i64).clamp(-(i32::MAX as i64), i32::MAX as i64)
}

/// How a device finds the row of a distance m - n that only the host can compute: from a table of the distances from -`most` to `most`,
/// beyond which it takes the nearer end; from `far` down the row is one less.
pub(crate) struct Lookup {
    /// Its name in `tables`.
    pub(crate) name: String,
    /// The row of a distance.
    pub(crate) row: fn(i64, [u32; 2]) -> u32,
    /// The numbers of the map that this takes.
    pub(crate) numbers: [u32; 2],
    pub(crate) most: i32,
    pub(crate) far: i32,
}

impl Lookup {
    /// Entries of the table.
    pub(crate) fn len(&self) -> u64 {
        2 * self.most as u64 + 1
    }
    /// The table. Rows are below 2^24, so f32 holds them exactly.
    pub(crate) fn rows(&self) -> Vec<f32> {
        let most = self.most as i64;
        (-most..=most).map(|d| (self.row)(d, self.numbers) as f32).collect()
    }
}
