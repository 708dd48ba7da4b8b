//! Swin v2's continuous bias of a window (Liu et al. 2022), tabulated by the host in f64.

use crate::equation::bias::indexed::{self, OverRows};
use crate::equation::bias::term::{Given, KernelCall, Term, Values, Wanted};
use crate::equation::index::{IndexMap, MAX_SIDE};
use crate::error::{Error, Result};
use std::sync::Arc;

/// See [`Bias::LogCpb`](crate::Bias::LogCpb).
pub(crate) struct LogCpb {
    pub(crate) height: u32,
    pub(crate) width: u32,
    pub(crate) pretrained: Option<[u32; 2]>,
    pub(crate) hidden: u32,
}

impl LogCpb {
    fn map(&self) -> IndexMap {
        IndexMap::Grid { height: self.height, width: self.width, class: false }
    }
}

impl Term for LogCpb {
    fn name(&self) -> String {
        "log-cpb".into()
    }
    fn validate(&self, _: u32, field: &dyn Fn(&str) -> String) -> Result<()> {
        self.map().validate(&field("index"))?;
        let LogCpb { height, width, pretrained, hidden } = self;
        if *hidden == 0 || 4 * *height as u64 * *width as u64 * *hidden as u64 > 1 << 32 {
            let help = "give 1 or more (512 in the paper), fewer than 2^32 / (4 height width)";
            return Err(Error::spec(field("log_cpb.hidden"), format!("is {hidden}"), help));
        }
        if let Some(sides) = pretrained.filter(|sides| sides.iter().any(|n| *n < 2)) {
            let help = "give sides of 2 or more, or leave it out";
            return Err(Error::spec(field("log_cpb.pretrained"), format!("is {sides:?}"), help));
        }
        Ok(())
    }
    fn parameters(&self, heads: u32) -> Vec<Wanted> {
        vec![
            Wanted::new("cpb_w1", &[self.hidden, 2], None),
            Wanted::new("cpb_b1", &[self.hidden], None),
            Wanted::new("cpb_w2", &[heads, self.hidden], Some(0)),
        ]
    }
    fn values(&self, _: u32, given: &[Given]) -> Result<Arc<dyn Values>> {
        let offsets = log_cpb_offsets(self.height, self.width, self.pretrained);
        Ok(Arc::new(OverRows { index: self.map(), values: log_cpb(&offsets, &given[0], &given[1], &given[2]) }))
    }
    fn index(&self) -> Option<IndexMap> {
        Some(self.map())
    }
    fn table_rows(&self) -> u64 {
        self.map().rows()
    }
    fn is_of_distance(&self) -> bool {
        false
    }
    fn kernel(&self) -> KernelCall {
        indexed::kernel()
    }
}

/// Swin v2's log-spaced offsets (Liu et al. 2022, section 3.3) of a window, one for each row of [`IndexMap::Grid`]: of the row
/// offset and of the column offset, sign(c) log2(1 + |c|) / log2(8) with c = 8 delta / (side - 1). `pretrained` gives the sides of
/// the window that the model was trained with. None for a window that no index map takes: of sides above 2048.
pub fn log_cpb_offsets(height: u32, width: u32, pretrained: Option<[u32; 2]>) -> Vec<[f64; 2]> {
    if height.max(width) > MAX_SIDE {
        return Vec::new();
    }
    let [rows, columns] = pretrained.unwrap_or([height, width]);
    let axis = |size: u32, side: u32| {
        let most = size as i64 - 1;
        let spaced = move |delta: i64| {
            let c = 8.0 * delta as f64 / (side as f64 - 1.0).max(1.0);
            c.signum() * (1.0 + c.abs()).log2() / 3.0
        };
        (-most..=most).map(spaced)
    };
    axis(height, rows).flat_map(|y| axis(width, columns).map(move |x| [y, x])).collect()
}

/// 16 sigmoid(w2 relu(w1 c + b1)) of every offset c, `[num_heads, offsets]`.
fn log_cpb(offsets: &[[f64; 2]], w1: &[f32], b1: &[f32], w2: &[f32]) -> Vec<f64> {
    let unit = |[y, x]: [f64; 2], (w, b): (&[f32], &f32)| (w[0] as f64 * y + w[1] as f64 * x + *b as f64).max(0.0);
    let layer = |c: &[f64; 2]| w1.chunks_exact(2).zip(b1).map(|wb| unit(*c, wb)).collect::<Vec<f64>>();
    let hidden: Vec<Vec<f64>> = offsets.iter().map(layer).collect();
    let head = |w: &[f32]| {
        let value = |x: &Vec<f64>| 16.0 / (1.0 + (-x.iter().zip(w).map(|(x, w)| x * *w as f64).sum::<f64>()).exp());
        hidden.iter().map(value).collect::<Vec<f64>>()
    };
    w2.chunks_exact(b1.len().max(1)).flat_map(head).collect()
}
