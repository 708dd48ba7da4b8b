//! What stands where in the `tables` buffer: the parameters of the spec's terms, and what the host makes of them.

use crate::bias::{self, TermData};
use crate::{AngleTable, IndexMap, Result, Spec, log_bucket};
use std::collections::BTreeMap;

/// The entries of `tables`, in words; cos and sin of an angle table stand behind them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct TableLayout {
    /// Name, first word, words.
    entries: Vec<(String, u64, u64)>,
    pub(crate) words: u64,
}

impl TableLayout {
    pub(crate) fn new(spec: &Spec) -> Self {
        let mut layout = TableLayout::default();
        for (i, bias) in spec.bias.iter().enumerate() {
            layout.push(bias_name(i), crate::plan::table_rows(bias) * spec.num_heads as u64);
        }
        let of_bias = bias::parameters(spec);
        for p in spec.parameters().iter().filter(|p| of_bias.iter().all(|b| b.name != p.name)) {
            layout.push(p.name.clone(), p.len());
        }
        for map in lookups(spec) {
            layout.push(lookup_name(&map), lookup(&map).len() as u64);
        }
        layout
    }
    fn push(&mut self, name: String, words: u64) {
        if words > 0 {
            self.entries.push((name, self.words, words));
            self.words += words;
        }
    }
    /// The first word of an entry.
    pub(crate) fn start(&self, name: &str) -> u64 {
        self.entries.iter().find(|(n, ..)| n == name).map_or(0, |(_, start, _)| *start)
    }
    /// A constant for every entry that a term names.
    pub(crate) fn constants(&self) -> impl Iterator<Item = (String, u64)> {
        let named = self.entries.iter().filter(|(name, ..)| !name.contains('['));
        named.map(|(name, start, _)| (format!("TABLE_{}", name.to_uppercase()), *start))
    }

    /// The contents of `tables`.
    pub(crate) fn pack(
        &self,
        spec: &Spec,
        parameters: &BTreeMap<String, Vec<f32>>,
        angles: Option<&AngleTable>,
    ) -> Result<Vec<f32>> {
        let terms = bias::resolve(spec, parameters)?;
        let mut packed = Vec::with_capacity(self.words as usize);
        for (name, _, words) in &self.entries {
            let term = (0..terms.len()).find(|i| *name == bias_name(*i));
            let map = lookups(spec).find(|map| *name == lookup_name(map));
            let values = match (term, map) {
                (Some(i), _) => terms.get(i).map(TermData::packed).unwrap_or_default(),
                (None, Some(map)) => lookup(&map),
                (None, None) => parameters.get(name).cloned().unwrap_or_default(),
            };
            if values.len() as u64 != *words {
                return Err(crate::Error::input(
                    name.clone(),
                    format!("{} values", values.len()),
                    format!("the plan was made for {words}"),
                ));
            }
            packed.extend(values);
        }
        if let Some(table) = angles {
            packed.extend(&table.cos);
            packed.extend(&table.sin);
        }
        Ok(packed)
    }
}

/// The entry of the i-th bias term, whose table the host may expand.
pub(crate) fn bias_name(i: usize) -> String {
    format!("bias[{i}]")
}

/// The index maps that read their row from a table.
fn lookups(spec: &Spec) -> impl Iterator<Item = IndexMap> {
    let mut maps: Vec<IndexMap> = spec.index_maps().filter(|m| matches!(m, IndexMap::LogBucket { .. })).collect();
    maps.dedup();
    maps.into_iter()
}

/// The entry of an index map's rows.
pub(crate) fn lookup_name(map: &IndexMap) -> String {
    match map {
        IndexMap::LogBucket { buckets, max_position } => format!("buckets_{buckets}_{max_position}"),
        _ => String::new(),
    }
}

/// The row of every distance m - n from -max_position to max_position, beyond which rows stay the same. Numbers below
/// 2^24, so f32 holds them exactly.
fn lookup(map: &IndexMap) -> Vec<f32> {
    match *map {
        IndexMap::LogBucket { buckets, max_position } => {
            let most = max_position as i64;
            let row = |d: i64| (log_bucket(d, buckets, max_position) + buckets as i64).clamp(0, 2 * buckets as i64 - 1);
            (-most..=most).map(|d| row(d) as f32).collect()
        }
        _ => Vec::new(),
    }
}
