//! What stands where in the `tables` buffer: the parameters of the spec's terms, and what the host makes of them.

use crate::equation::bias::bias;
use crate::equation::index::map::Lookup;
use crate::equation::rotary::phase;
use crate::equation::spec::Spec;
use crate::error::Result;
use crate::inputs::inputs::AngleTable;
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
            layout.push(bias_name(i), bias.term().table_rows() * spec.num_heads as u64);
        }
        let of_bias = bias::parameters(&spec.bias, spec.num_heads);
        for p in spec.parameters().iter().filter(|p| of_bias.iter().all(|b| b.name != p.name)) {
            layout.push(p.name.clone(), p.len());
        }
        for lookup in lookups(spec) {
            let words = lookup.len();
            layout.push(lookup.name, words);
        }
        for (name, values) in rotation(spec) {
            layout.push(name.into(), values.len() as u64);
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
        spec.check_parameters(parameters)?;
        let terms = bias::resolve(&spec.bias, spec.num_heads, parameters)?;
        let mut packed = Vec::with_capacity(self.words as usize);
        for (name, _, words) in &self.entries {
            let term = (0..terms.len()).find(|i| *name == bias_name(*i));
            let lookup = lookups(spec).find(|lookup| *name == lookup.name);
            let values = match (term, lookup) {
                (Some(i), _) => terms.get(i).map(|term| term.packed()).unwrap_or_default(),
                (None, Some(lookup)) => lookup.rows(),
                (None, None) => {
                    let made = rotation(spec).into_iter().find(|(made, _)| made == name);
                    let given = parameters.get(name).cloned().or(made.map(|(_, v)| v)).unwrap_or_default();
                    match name == "head_scale" {
                        true => given.into_iter().map(|s| spec.head_scale_of(s) as f32).collect(),
                        false => given,
                    }
                }
            };
            if values.len() as u64 != *words {
                return Err(crate::error::Error::input(
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

/// Of a rotation that is data: the elements of every pair, and of angles that are sums the increments in turns, each as four numbers of
/// 16 bits, which f32 holds exactly.
fn rotation(spec: &Spec) -> Vec<(&'static str, Vec<f32>)> {
    let Some(rotary) = spec.rotary.as_ref().filter(|r| r.general() || r.output) else { return Vec::new() };
    let pair = |p: u32| {
        let ([a, b], [to_a, to_b]) = rotary.pair(p as usize);
        [a, b, to_a, to_b].map(|element| (element - rotary.offset as usize) as f32)
    };
    let mut all = vec![("pairs", (0..rotary.rotary_dim / 2).flat_map(pair).collect())];
    if let Some(sums) = rotary.sums() {
        let pieces = |f: &f64| {
            let inc = phase::increment(*f);
            [48, 32, 16, 0].map(|shift| (inc >> shift & 0xffff) as f32)
        };
        all.push(("turns", sums.values.iter().flat_map(pieces).collect()));
    }
    all
}

/// The entry of the i-th bias term, whose table the host may expand.
pub(crate) fn bias_name(i: usize) -> String {
    format!("bias[{i}]")
}

/// The index maps that read their row from a table.
fn lookups(spec: &Spec) -> impl Iterator<Item = Lookup> {
    let mut lookups: Vec<Lookup> = spec.index_maps().filter_map(|map| map.lookup()).collect();
    lookups.dedup_by(|a, b| a.name == b.name);
    lookups.into_iter()
}

/// What a device reads is what the map says: see `IndexMap::lookup`.
#[cfg(test)]
mod tests {
    use crate::equation::bias::t5::T5;
    use crate::equation::bias::t5_bucket;
    use crate::equation::index::IndexMap;

    /// Distances to try: all near 0, around some, and the ends of what a shader may have.
    fn around(near: i64, others: &[i64]) -> impl Iterator<Item = i64> {
        let ends = others.iter().copied().chain([i32::MAX as i64]).flat_map(|d| d - 3..=d + 3);
        let all = (0..near).chain(ends.filter(|d| (0..=i32::MAX as i64).contains(d)).collect::<Vec<_>>());
        all.flat_map(|d| [d, -d])
    }

    #[test]
    fn a_lookup_gives_the_row_of_its_map_at_every_distance() {
        let mut odd = 0;
        let few = (2..=41).flat_map(|b| [0, 1, 2, 3, 10, 37, 100, 500].map(|more| (b, b / 2 + 2 + more)));
        let many = [255, 256, 257, 1023, 4097, 65_535, 65_536].map(|b| (b, 2 * b));
        let far =
            [(5, 1 << 20), (5, 92_000), (7, 1 << 20), (21, 1 << 20), (3, 1 << 20), (65_535, 1 << 20), (65_536, 32_770)];
        for (buckets, max_position) in few.chain(many).chain(far) {
            let map = IndexMap::LogBucket { buckets, max_position };
            map.validate("index").expect("a map");
            let lookup = map.lookup().expect("of the host");
            let rows = lookup.rows();
            assert_eq!(rows.len() as u64, lookup.len());
            let device = |d: i32| {
                let row = rows[(d.clamp(-lookup.most, lookup.most) + lookup.most) as usize] as i32;
                row - (d <= lookup.far) as i32
            };
            let others = [lookup.most as i64, -(lookup.far as i64)];
            for d in around(4 * max_position.min(1000) as i64, &others) {
                // m - n = d, as far as 32 bits go
                let row = map.row([d.max(0) as i32, 0, 0, 0], [-d.min(0) as i32, 0, 0, 0], true);
                assert_eq!(Some(device(d as i32) as u32), row, "{buckets} buckets, {max_position}: distance {d}");
            }
            odd += (lookup.far > i32::MIN) as u32;
        }
        assert!(odd > 50, "{odd} maps change beyond their table");
    }

    #[test]
    fn a_table_of_buckets_ends_where_they_stay_the_same() {
        for (num_buckets, max_distance) in [(2, 2), (4, 3), (8, 40), (32, 128), (33, 100), (5, 1 << 20), (64, 33)] {
            for bidirectional in [false, true] {
                if bidirectional && (num_buckets % 2 == 1 || num_buckets < 4) {
                    continue;
                }
                let (min, max) = T5 { num_buckets, max_distance, bidirectional }.distances();
                for d in around(4 * max_distance.min(1000) as i64, &[max_distance as i64]) {
                    let bucket = |d: i32| t5_bucket(d, num_buckets, max_distance, bidirectional);
                    assert_eq!(
                        bucket((d as i32).clamp(min, max)),
                        bucket(d as i32),
                        "{num_buckets}, {max_distance}: {d}"
                    );
                }
            }
        }
    }
}
