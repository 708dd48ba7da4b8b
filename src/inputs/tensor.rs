//! Host tensors: what the one-call API, the reference and the command line hand around.

use crate::equation::dtype::Dtype;
use crate::equation::dtype::blocks::Element;
use crate::error::{Error, Result};
use half::bf16;
use half::f16;

/// Element strides of a `[batch, token, head, d]` tensor whose d is contiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Strides {
    /// Elements from one sequence to the next.
    pub batch: u32,
    /// Elements from one token to the next.
    pub token: u32,
    /// Elements from one head to the next.
    pub head: u32,
}

impl Strides {
    /// Of a contiguous `[batch, len, heads, dim]`.
    pub fn bshd(len: u32, heads: u32, dim: u32) -> Self {
        let token = heads.saturating_mul(dim);
        Strides { batch: len.saturating_mul(token), token, head: dim }
    }
    /// Of a contiguous `[batch, heads, len, dim]`.
    pub fn bhsd(len: u32, heads: u32, dim: u32) -> Self {
        let head = len.saturating_mul(dim);
        Strides { batch: heads.saturating_mul(head), token: dim, head }
    }
    /// The number of elements from the first to one past the last of `[batch, len, heads, dim]`: below 2^66, so exact whatever the numbers.
    pub fn extent(&self, batch: u32, len: u32, heads: u32, dim: u32) -> u128 {
        let last = |n: u32, stride: u32| (n.max(1) as u128 - 1) * stride as u128;
        last(batch, self.batch) + last(len, self.token) + last(heads, self.head) + dim as u128
    }
    /// Whether no two rows of `[batch, len, heads, dim]` share an element: every stride steps over all that the smaller ones reach.
    pub(crate) fn disjoint(&self, batch: u32, len: u32, heads: u32, dim: u32) -> bool {
        let mut axes = [(self.batch, batch), (self.token, len), (self.head, heads)];
        axes.sort_unstable();
        let mut reach = dim as u128;
        axes.into_iter().filter(|(_, n)| *n > 1).all(|(stride, n)| {
            let free = stride as u128 >= reach;
            reach += (n as u128 - 1) * stride as u128;
            free
        })
    }
}

/// Elements in one of the storage types.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Data {
    /// binary32.
    F32(Vec<f32>),
    /// binary16.
    F16(Vec<f16>),
    /// bfloat16.
    Bf16(Vec<bf16>),
    /// Elements in blocks, of k and v alone.
    Blocks(Blocks),
}

/// Elements in blocks, as ggml, say, lays them out: bytes of whole blocks of a [`Dtype`].
///
/// ```
/// use ropewalk::{Blocks, Data, Dtype, Tensor};
/// let cache = Data::from_rows(Dtype::Q8_0, 64, &[0.5; 2 * 64]); // two rows, quantised
/// assert_eq!((cache.bytes().len(), cache.len()), (2 * 2 * 34, 2 * 64));
/// let same = Blocks::new(Dtype::Q8_0, 64, cache.bytes().to_vec())?;
/// let k = Tensor::bshd(same, [1, 2, 1, 64])?;
/// assert!((k.row(0, 1, 0).sum::<f64>() - 32.0).abs() < 0.02);
/// # Ok::<(), ropewalk::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocks {
    dtype: Dtype,
    /// Elements and bytes of a block.
    block: [u32; 2],
    bytes: Vec<u8>,
}

impl Blocks {
    /// Bytes of rows of `dim` elements.
    ///
    /// # Errors
    /// [`Error::Input`] for a type that has no blocks, a `dim` that is not whole blocks, and bytes that are not.
    pub fn new(dtype: Dtype, dim: u32, bytes: Vec<u8>) -> Result<Self> {
        let block = dtype.block(dim);
        if !dtype.in_blocks() {
            let help = "give q8_0, q4_0, q4_1, q5_0, q5_1, iq4_nl, int8 or f8_e4m3, or Data::from_bytes";
            return Err(Error::input("blocks", format!("of {}, which has none", dtype.name()), help));
        }
        if dim == 0 || !dim.is_multiple_of(dtype.unit()) {
            let help = format!("pad them to {}", dim.max(1).next_multiple_of(dtype.unit()));
            return Err(Error::input("blocks", format!("rows of {dim} elements in {}", dtype.name()), help));
        }
        if !bytes.len().is_multiple_of(block[1] as usize) {
            let problem = format!("{} bytes, which are no whole blocks of {}", bytes.len(), dtype.name());
            return Err(Error::input(
                "blocks",
                problem,
                format!("give {} bytes for every {} elements", block[1], block[0]),
            ));
        }
        Ok(Blocks { dtype, block, bytes })
    }
    /// The storage type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    fn of_rows(dtype: Dtype, dim: u32, values: &[f32]) -> Self {
        Blocks { dtype, block: dtype.block(dim), bytes: dtype.encoded(dim, values) }
    }
    fn len(&self) -> usize {
        self.bytes.len() / self.block[1].max(1) as usize * self.block[0] as usize
    }
    fn element(&self, i: usize) -> Element {
        let [elements, bytes] = self.block.map(|n| n.max(1) as usize);
        let start = i / elements * bytes;
        self.dtype.decoded(self.bytes.get(start..start + bytes).unwrap_or(&[]), i % elements)
    }
    fn gathered(&self, starts: impl Iterator<Item = usize>, dim: usize) -> Self {
        let [elements, bytes] = self.block.map(|n| n.max(1) as usize);
        let of_row = |start: usize| {
            let first = start / elements * bytes;
            &self.bytes[first..first + dim.div_ceil(elements) * bytes]
        };
        Blocks { bytes: starts.flat_map(of_row).copied().collect(), ..*self }
    }
}

impl From<Blocks> for Data {
    fn from(blocks: Blocks) -> Self {
        Data::Blocks(blocks)
    }
}

impl From<Vec<f32>> for Data {
    fn from(v: Vec<f32>) -> Self {
        Data::F32(v)
    }
}

impl From<Vec<f16>> for Data {
    fn from(v: Vec<f16>) -> Self {
        Data::F16(v)
    }
}

impl From<Vec<bf16>> for Data {
    fn from(v: Vec<bf16>) -> Self {
        Data::Bf16(v)
    }
}

impl Data {
    /// Rounds f32 values to a storage type (to nearest, ties to even); all of them are one row: see [`Data::from_rows`].
    pub fn from_f32(dtype: Dtype, values: &[f32]) -> Self {
        Self::from_rows(dtype, u32::try_from(values.len()).unwrap_or(u32::MAX), values)
    }
    /// Rounds rows of `dim` f32 values to a storage type: to nearest, ties to even; in blocks of ggml's types to the bytes that ggml's reference
    /// quantisation gives (of iq4_nl, its form without a search). A last block that is not full is filled with zeros.
    pub fn from_rows(dtype: Dtype, dim: u32, values: &[f32]) -> Self {
        match dtype {
            Dtype::F32 => Data::F32(values.to_vec()),
            Dtype::F16 => Data::F16(values.iter().map(|x| f16::from_f32(*x)).collect()),
            Dtype::Bf16 => Data::Bf16(values.iter().map(|x| bf16::from_f32(*x)).collect()),
            _ => Data::Blocks(Blocks::of_rows(dtype, dim, values)),
        }
    }
    /// Reads little-endian bytes. Of a type in blocks what is left of the last block is left out, and int8 is one row: see [`Blocks::new`].
    pub fn from_bytes(dtype: Dtype, bytes: &[u8]) -> Self {
        let half_words = || bytes.chunks_exact(2).map(|c| u16::from_le_bytes([c[0], c[1]]));
        match dtype {
            Dtype::F32 => {
                Data::F32(bytes.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect())
            }
            Dtype::F16 => Data::F16(half_words().map(f16::from_bits).collect()),
            Dtype::Bf16 => Data::Bf16(half_words().map(bf16::from_bits).collect()),
            _ => {
                let dim = u32::try_from(bytes.len().saturating_sub(4)).unwrap_or(u32::MAX);
                let block = dtype.block(dim);
                let whole = bytes.len() / block[1].max(1) as usize * block[1] as usize;
                Data::Blocks(Blocks { dtype, block, bytes: bytes[..whole].to_vec() })
            }
        }
    }
    /// The elements as bytes in the machine's order (little-endian wherever wgpu runs).
    pub fn bytes(&self) -> &[u8] {
        match self {
            Data::F32(v) => bytemuck::cast_slice(v),
            Data::F16(v) => bytemuck::cast_slice(v),
            Data::Bf16(v) => bytemuck::cast_slice(v),
            Data::Blocks(v) => &v.bytes,
        }
    }
    /// The storage type.
    pub fn dtype(&self) -> Dtype {
        match self {
            Data::F32(_) => Dtype::F32,
            Data::F16(_) => Dtype::F16,
            Data::Bf16(_) => Dtype::Bf16,
            Data::Blocks(v) => v.dtype,
        }
    }
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Data::F32(v) => v.len(),
            Data::F16(v) => v.len(),
            Data::Bf16(v) => v.len(),
            Data::Blocks(v) => v.len(),
        }
    }
    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Element `i`, widened exactly; of types in blocks with an m, or a scale of f32, rounded to f32.
    pub fn get(&self, i: usize) -> f32 {
        match self {
            Data::F32(v) => v[i],
            Data::F16(v) => v[i].to_f32(),
            Data::Bf16(v) => v[i].to_f32(),
            Data::Blocks(v) => v.element(i).value as f32,
        }
    }
    /// Element `i`, widened exactly.
    pub fn exact(&self, i: usize) -> f64 {
        match self {
            Data::Blocks(v) => v.element(i).value,
            _ => self.get(i) as f64,
        }
    }
    /// How far a device's element may be from [`Data::exact`]: all of it where it is subnormal, what making it of a block loses.
    pub(crate) fn lost(&self, i: usize) -> f64 {
        match self {
            Data::Blocks(v) => v.element(i).lost,
            _ => match (self.get(i).abs() as f64, self.dtype().least_normal()) {
                (x, least) if x < least => x,
                _ => 0.0,
            },
        }
    }
    /// Elements that stand together: 1, or those of a block.
    pub(crate) fn unit(&self) -> u32 {
        if let Data::Blocks(v) = self { v.block[0].max(1) } else { 1 }
    }
    /// Rows of `dim` elements, one after another.
    pub(crate) fn gather(&self, starts: impl Iterator<Item = usize>, dim: usize) -> Data {
        fn rows<T: Copy>(v: &[T], starts: impl Iterator<Item = usize>, dim: usize) -> Vec<T> {
            starts.flat_map(|s| v[s..s + dim].iter().copied()).collect()
        }
        match self {
            Data::F32(v) => Data::F32(rows(v, starts, dim)),
            Data::F16(v) => Data::F16(rows(v, starts, dim)),
            Data::Bf16(v) => Data::Bf16(rows(v, starts, dim)),
            Data::Blocks(v) => Data::Blocks(v.gathered(starts, dim)),
        }
    }
    /// Every element, as [`Data::get`] gives it.
    pub fn to_f32(&self) -> Vec<f32> {
        (0..self.len()).map(|i| self.get(i)).collect()
    }
}

/// A strided view of owned elements, shape `[batch, len, heads, dim]`, d contiguous.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    data: Data,
    shape: [u32; 4],
    strides: Strides,
    offset: u32,
    /// What rounding to the storage type left off, one for each element of `data`; empty: nothing.
    residual: Vec<f32>,
}

impl Tensor {
    /// Any strides and a first element; every element of the shape must lie in `data`.
    pub fn strided(data: impl Into<Data>, shape: [u32; 4], strides: Strides, offset: u32) -> Result<Self> {
        let tensor = Tensor { data: data.into(), shape, strides, offset, residual: Vec::new() };
        tensor.check_extent("tensor")?;
        Ok(tensor)
    }
    /// Every element lies in the data: [`Tensor::data_mut`] may have made them fewer.
    pub(crate) fn check_extent(&self, name: &str) -> Result<()> {
        let Tensor { data, shape, strides, offset, .. } = self;
        let [batch, len, heads, dim] = *shape;
        let end = *offset as u128 + strides.extent(batch, len, heads, dim);
        if shape.contains(&0) {
            return Err(Error::input(name, format!("shape {shape:?} is empty"), "give at least one element"));
        }
        let unit = data.unit();
        if unit > 1
            && ![strides.batch, strides.token, strides.head, *offset, dim].iter().all(|n| n.is_multiple_of(unit))
        {
            return Err(Error::input(
                name,
                format!("{strides:?} from {offset} in {}, whose blocks have {unit} elements", data.dtype().name()),
                "let the first element, strides and rows be whole blocks",
            ));
        }
        if end > data.len() as u128 || end > u32::MAX as u128 {
            return Err(Error::input(
                name,
                format!("shape {shape:?} with {strides:?} from {offset} ends at element {end} of {}", data.len()),
                "give data for every element (fewer than 2^32)",
            ));
        }
        Ok(())
    }
    /// Contiguous `[batch, len, heads, dim]`.
    pub fn bshd(data: impl Into<Data>, shape: [u32; 4]) -> Result<Self> {
        let [_, len, heads, dim] = shape;
        exact(data.into(), shape).and_then(|d| Self::strided(d, shape, Strides::bshd(len, heads, dim), 0))
    }
    /// Contiguous `[batch, heads, len, dim]`, the layout that torch hands around.
    pub fn bhsd(data: impl Into<Data>, shape: [u32; 4]) -> Result<Self> {
        let [batch, heads, len, dim] = shape;
        exact(data.into(), shape)
            .and_then(|d| Self::strided(d, [batch, len, heads, dim], Strides::bhsd(len, heads, dim), 0))
    }
    /// The tensor that was meant before its elements were rounded to storage: `residual` holds what is missing from each element of
    /// [`Tensor::data`]. The reference computes with the sums, in f64; a GPU reads the elements alone, and
    /// [`check`](crate::check) counts the difference.
    ///
    /// ```
    /// use ropewalk::Tensor;
    /// let third = 1.0 / 3.0f64;
    /// let rounded = third as f32;
    /// let tensor = Tensor::bshd(vec![rounded], [1; 4])?.with_residual(vec![(third - rounded as f64) as f32])?;
    /// assert!((tensor.row(0, 0, 0).sum::<f64>() - third).abs() < 1e-15);
    /// # Ok::<(), ropewalk::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Input`] where there are not as many as elements.
    pub fn with_residual(mut self, residual: Vec<f32>) -> Result<Self> {
        if residual.len() != self.data.len() {
            let problem = format!("{} values for {} elements", residual.len(), self.data.len());
            return Err(Error::input("residual", problem, "give one for each element"));
        }
        self.residual = residual;
        Ok(self)
    }
    /// What is missing from an element of [`Tensor::data`].
    pub(crate) fn residual(&self, i: usize) -> f64 {
        self.residual.get(i).copied().unwrap_or(0.0) as f64
    }
    /// The elements.
    pub fn data(&self) -> &Data {
        &self.data
    }
    /// The elements, to change in place. Calls refuse a tensor that was left with fewer of them than its shape takes.
    pub fn data_mut(&mut self) -> &mut Data {
        &mut self.data
    }
    /// `[batch, len, heads, dim]`.
    pub fn shape(&self) -> [u32; 4] {
        self.shape
    }
    /// Element strides.
    pub fn strides(&self) -> Strides {
        self.strides
    }
    /// The first element.
    pub fn offset(&self) -> u32 {
        self.offset
    }
    /// The storage type.
    pub fn dtype(&self) -> Dtype {
        self.data.dtype()
    }
    /// Index into [`Tensor::data`] of the first element of a row.
    pub fn row_start(&self, batch: u32, token: u32, head: u32) -> usize {
        let s = &self.strides;
        self.offset as usize
            + batch as usize * s.batch as usize
            + token as usize * s.token as usize
            + head as usize * s.head as usize
    }
    /// How far each element that a device reads may be from the row's: its residual, and what [`Data::lost`] says.
    pub(crate) fn lost(&self, batch: u32, token: u32, head: u32) -> impl Iterator<Item = f64> + '_ {
        let start = self.row_start(batch, token, head);
        (start..start + self.shape[3] as usize).map(move |i| self.residual(i).abs() + self.data.lost(i))
    }
    /// Tokens of the first batch entry, in this order, contiguous.
    pub(crate) fn taken(&self, tokens: &[u32]) -> Result<Tensor> {
        self.check_extent("tensor")?;
        let [_, _, heads, dim] = self.shape;
        let starts = || tokens.iter().flat_map(|t| (0..heads).map(|h| self.row_start(0, *t, h)));
        let data = self.data.gather(starts(), dim as usize);
        let tensor = Tensor::bshd(data, [1, tokens.len() as u32, heads, dim])?;
        if self.residual.is_empty() {
            return Ok(tensor);
        }
        let of_row = |start: usize| self.residual.iter().skip(start).take(dim as usize).copied();
        tensor.with_residual(starts().flat_map(of_row).collect())
    }
    /// One head of one token, widened exactly, with its residual.
    pub fn row(&self, batch: u32, token: u32, head: u32) -> impl Iterator<Item = f64> + '_ {
        let start = self.row_start(batch, token, head);
        (start..start + self.shape[3] as usize).map(|i| self.data.exact(i) + self.residual(i))
    }
}

fn exact(data: Data, shape: [u32; 4]) -> Result<Data> {
    let want = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d as u64));
    match want {
        Some(n) if n == data.len() as u64 && n < u32::MAX as u64 => Ok(data),
        _ => Err(Error::input(
            "tensor",
            format!("{} elements for shape {shape:?}", data.len()),
            "give exactly one element for each index, fewer than 2^32",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::equation::embed::Embed;
    use crate::equation::spec::Spec;
    use crate::inputs::embed::EmbedInputs;
    use crate::inputs::inputs::Inputs;
    use crate::inputs::problem::Problem;
    use crate::{check, reference};

    #[test]
    fn a_tensor_that_lost_elements_is_refused_by_name() {
        let tensor = || Tensor::bshd(vec![0.5f32; 8], [1, 2, 1, 4]).expect("a tensor");
        let spec = Spec::new(1, 1, 4);
        let mut inputs = Inputs::new(tensor(), tensor(), tensor());
        *inputs.k.data_mut() = Data::F32(vec![0.5; 7]);
        let error = Problem::new(&spec, &inputs).expect_err("refused").to_string();
        assert!(error.contains("input k") && error.contains("element 8 of 7"), "{error}");
        reference::attention(&spec, &inputs).expect_err("refused");
        let mut inputs = EmbedInputs::new(Tensor::bshd(vec![0.5f32; 8], [1, 2, 1, 4]).expect("a tensor"), vec![0, 1]);
        *inputs.x.data_mut() = Data::F32(vec![]);
        inputs.table = Some(tensor());
        let error = check::embed(&Embed::learned(4, 2), &inputs).expect_err("refused").to_string();
        assert!(error.contains("input x"), "{error}");
    }
}
