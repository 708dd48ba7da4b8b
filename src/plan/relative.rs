//! A, B and E_V in a kernel: gathered or multiplied.

use crate::equation::relative::RelativeSide;
use crate::plan::family::lanes;
use crate::plan::kernel::Kernel;
use crate::plan::slots::ShaderFiles;
use crate::plan::tuning::tuning::Family;
use crate::shader::compose::wgsl_f32;
use crate::shader::layout::Slot;
use std::fmt::Write;

impl<'a> ShaderFiles<'a> {
    /// `relative_terms` is the sum of A and B, `add_value_terms` adds E_V.
    pub(crate) fn relative(&mut self) {
        let (mut loads, mut terms, mut values) = (String::new(), String::new(), String::new());
        let (mut product_loads, mut query_stores, mut key_stores) = (String::new(), String::new(), String::new());
        let (mut query_multiplied, mut key_multiplied) = (String::new(), String::new());
        let (mut query_products, mut key_products) = (0, 0);
        // the query row without a bias, for the products of `main` and for those made beforehand
        let mut plain = [None; 2];
        let mut query_rows = [0; 2];
        for (i, relative) in self.spec.relative.iter().enumerate() {
            let index = self.index(&relative.index);
            let table = format!("TABLE_RELATIVE_{i}");
            let dim = match relative.own {
                Some(own) => format!("{own}u"),
                None if relative.side == RelativeSide::Value => "V_HEAD_DIM".into(),
                None => "HEAD_DIM".into(),
            };
            let row = match relative.per_head {
                true => format!("{table} + (u32(row_{i}) * params.num_heads + at.head) * {dim}"),
                false => format!("{table} + u32(row_{i}) * {dim}"),
            };
            let scale = wgsl_f32(relative.scale.unwrap_or(self.spec.scale()));
            let gathered = self.gathered.get(i).copied().unwrap_or(false);
            let rows = relative.index.rows();
            let open = format!("    let row_{i} = {index};\n    if (row_{i} >= 0) {{ ");
            match relative.side {
                RelativeSide::Key if relative.own.is_some() => {
                    self.add("equation/relative_own.wgsl", &[Slot::Dense, Slot::Tables]);
                    let _ = writeln!(terms, "{open}sum += {scale} * own_dot(at, {row}, {dim}); }}");
                }
                RelativeSide::Key => {
                    let (group, loads) = match gathered {
                        true => (1, &mut product_loads),
                        false => (0, &mut loads),
                    };
                    let which = match plain[group].filter(|_| !relative.query_bias) {
                        Some(which) => which,
                        None => {
                            let which = query_rows[group];
                            query_rows[group] += 1;
                            let _ = writeln!(loads, "    load_query_row(rows, {which}u, start);");
                            if relative.query_bias {
                                let bias = format!("TABLE_RELATIVE_BIAS_{i} + head * HEAD_DIM");
                                let _ = writeln!(loads, "    add_query_bias(rows, {which}u, {bias});");
                            } else {
                                plain[group] = Some(which);
                            }
                            which
                        }
                    };
                    if gathered {
                        let _ = writeln!(
                            terms,
                            "{open}sum += product((*rows).products + {query_products}u + u32(row_{i})); }}"
                        );
                        let bias = match relative.query_bias {
                            true => format!("TABLE_RELATIVE_BIAS_{i} + head * HEAD_DIM"),
                            false => "NO_BIAS".into(),
                        };
                        let by = multiplier(relative, &table, "head", rows, &scale, &format!("{query_products}u"));
                        let _ = writeln!(query_multiplied, "    multiply_q(m, {by}, {bias});");
                        let _ = write!(
                            query_stores,
                            "    for (var r = 0u; r < {rows}u; r++) {{\n        let at = start + {query_products}u + r;\n        \
                                 work[at] = {scale} * query_dot(rows, {which}u, {});\n    }}\n",
                            row.replace(&format!("u32(row_{i})"), "r").replace("at.head", "head")
                        );
                        query_products += rows;
                    } else {
                        let _ = writeln!(terms, "{open}sum += {scale} * query_dot(rows, {which}u, {row}); }}");
                    }
                }
                RelativeSide::Query => {
                    if gathered {
                        // of every query head that shares the kv head, where heads have tables of their own
                        let heads = if relative.per_head { self.spec.group() as u64 } else { 1 };
                        let of_head = format!("(at.head % params.group % {heads}u) * {rows}u");
                        let _ = writeln!(
                            terms,
                            "{open}sum += product(key_products(at.batch, at.head / params.group, at.j) + \
                             {key_products}u + {of_head} + u32(row_{i})); }}"
                        );
                        let offset = format!("{key_products}u + h * {rows}u");
                        let by = multiplier(relative, &table, "kv_head * params.group + h", rows, &scale, &offset);
                        let _ = writeln!(
                            key_multiplied,
                            "    for (var h = 0u; h < {heads}u; h++) {{ multiply_k(m, {by}); }}"
                        );
                        let _ = write!(
                            key_stores,
                            "    for (var n = 0u; n < {}u; n++) {{\n        let head = kv_head * params.group + n / {rows}u;\n        \
                                 let r = n % {rows}u;\n        \
                                 work[start + {key_products}u + n] = {scale} * query_dot(rows, 0u, {});\n    }}\n",
                            heads * rows,
                            row.replace(&format!("u32(row_{i})"), "r").replace("at.head", "head")
                        );
                        key_products += heads * rows;
                    } else {
                        let _ = writeln!(terms, "{open}sum += {scale} * key_dot(at, {row}); }}");
                    }
                }
                RelativeSide::Value => {
                    let _ = writeln!(values, "{open}add_value_row(o, p, {row}); }}");
                }
            }
        }
        let products = match query_products > 0 {
            true => "    (*rows).products = query_products(at.batch, head / params.group, packed);\n",
            false => "",
        };
        if query_products + key_products > 0 {
            let by_vectors = matches!(self.tuning.family, Family::Lanes | Family::Block | Family::Tile);
            self.add(if by_vectors { "equation/product_vector.wgsl" } else { "equation/product_word.wgsl" }, &[]);
        }
        if terms.is_empty() {
            self.add("equation/relative_none.wgsl", &[]);
        } else {
            self.add("equation/relative_rows.wgsl", &[Slot::Tables]);
            self.table4();
            let _ = write!(
                self.glue,
                "const QUERY_ROWS: u32 = {}u;\n\
                 fn load_query_rows(rows: ptr<function, QueryRows>, start: u32, at: ScoreAt, packed: u32) {{\n    \
                     let head = at.head;\n{loads}{products}}}\n\
                 fn relative_terms(rows: ptr<function, QueryRows>, at: ScoreAt) -> f32 {{\n    \
                     var sum = 0.0;\n{terms}    return sum;\n}}\n",
                query_rows[0].max(query_rows[1]).max(1)
            );
        }
        if query_products + key_products > 0 && self.tuning.family == Family::Lanes && lanes::multiplies(self.spec) {
            self.add("equation/relative_gathered_lanes.wgsl", &[Slot::Work]);
            let _ = write!(
                self.glue,
                "const QUERY_PRODUCTS: u32 = {query_products}u;\nconst KEY_PRODUCTS: u32 = {key_products}u;\n\
                 fn multiply_queries(m: Multiplied, head: u32) {{\n{query_multiplied}}}\n\
                 fn multiply_keys(m: Multiplied, kv_head: u32) {{\n{key_multiplied}}}\n"
            );
        } else if query_products + key_products > 0 {
            self.add("equation/relative_gathered.wgsl", &[Slot::Work]);
            let _ = write!(
                self.glue,
                "const QUERY_PRODUCTS: u32 = {query_products}u;\nconst KEY_PRODUCTS: u32 = {key_products}u;\n\
                 fn load_product_rows(rows: ptr<function, QueryRows>, start: u32, head: u32) {{\n{product_loads}}}\n\
                 fn store_query_products(rows: ptr<function, QueryRows>, head: u32, start: u32) {{\n{query_stores}}}\n\
                 fn store_key_products(rows: ptr<function, QueryRows>, kv_head: u32, start: u32) {{\n{key_stores}}}\n"
            );
        }
        if self.kernel == Kernel::Attention && self.tuning.family == Family::Rows {
            if values.is_empty() {
                self.add("equation/value_term_none.wgsl", &[]);
            } else {
                self.add("equation/value_term_rows.wgsl", &[Slot::Tables]);
                self.table4();
                let _ = write!(
                    self.glue,
                    "fn add_value_terms(o: ptr<function, OutRow>, p: f32, place: ScoreAt) {{\n    \
                         var at = place;\n    at.k_pos = k_position(at.batch, at.j);\n{values}}}\n"
                );
            }
        }
    }
}

/// The rows of a relative table as `equation/relative_gathered_lanes.wgsl` takes them.
fn multiplier(
    relative: &crate::equation::relative::Relative,
    table: &str,
    head: &str,
    rows: u64,
    scale: &str,
    offset: &str,
) -> String {
    let (start, stride) = match relative.per_head {
        true => (format!("{table} + ({head}) * HEAD_DIM"), "params.num_heads * HEAD_DIM"),
        false => (table.to_string(), "HEAD_DIM"),
    };
    format!("Multiplier({start}, {stride}, {rows}u, {scale}, {offset})")
}
