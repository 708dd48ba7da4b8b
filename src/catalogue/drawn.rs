//! Do the random cases of tests and fuzzing reach everything? Every public field and variant is named here once, without `..` and
//! without `_`: one that is new does not compile until it is drawn.

#[allow(dead_code)]
#[path = "../../tests/twin/draw.rs"]
mod draw;
#[allow(dead_code)]
#[path = "../../tests/twin/user.rs"]
mod user;

use crate::*;
use draw::{BLOCK, Case, Computed, Drawn};
use std::collections::BTreeMap;

/// How often each possibility was drawn.
#[derive(Default)]
struct Seen(BTreeMap<String, u32>);

impl Seen {
    fn possible(&mut self, what: String) -> &mut u32 {
        self.0.entry(what).or_default()
    }
    /// A condition that must have been met and not met.
    fn both(&mut self, what: &str, met: bool) {
        *self.possible(format!("{what}: {met}")) += 1;
        self.possible(format!("{what}: {}", !met));
    }
}

/// Counts the arm that a value takes, and names those that it could have taken.
macro_rules! variant {
    ($seen:expr, $value:expr, { $($pattern:pat => $name:literal),+ $(,)? }) => {
        $( $seen.possible($name.to_string()); )+
        match $value {
            $( $pattern => *$seen.possible($name.to_string()) += 1, )+
        }
    };
}

impl Seen {
    fn spec(&mut self, spec: &Spec) {
        let Spec {
            schema: _, // one
            num_heads,
            num_kv_heads,
            head_dim,
            v_head_dim,
            dtype,
            k_dtype,
            v_dtype,
            out_dtype,
            rotary,
            positions,
            softmax_scale,
            logits_soft_cap,
            soft_cap_last,
            bias,
            gated_bias,
            dense_bias,
            mask,
            kv_lens,
            norm,
            temperature,
            query_scales,
            key_bias,
            head_scale,
            head_scale_exp,
            content_bias,
            relative,
            sink,
            packed,
            score_mod,
            mask_mod,
            linear,
        } = spec;
        self.both("one query head a kv head", num_heads == num_kv_heads);
        self.both("several kv heads", *num_kv_heads > 1);
        self.both("head_dim a multiple of 4", head_dim.is_multiple_of(4));
        self.both("head_dim above 64", *head_dim > 64);
        self.both("v_head_dim", v_head_dim != head_dim);
        self.dtype("", *dtype);
        for (name, of) in [("k ", k_dtype), ("v ", v_dtype), ("out ", out_dtype)] {
            self.both(&format!("{name}dtype"), of.is_some());
        }
        self.stored("k", spec.k_storage());
        self.stored("v", spec.v_storage());
        self.both("rotary", rotary.is_some());
        rotary.iter().for_each(|rotary| self.rotary(rotary));
        variant!(self, positions, { Positions::Index => "positions index", Positions::Ids => "positions ids" });
        self.both("softmax_scale", softmax_scale.is_some());
        self.both("softmax_scale of 0", *softmax_scale == Some(0.0));
        self.both("logits_soft_cap", logits_soft_cap.is_some());
        self.both("soft_cap_last", *soft_cap_last);
        self.both("query_scales", *query_scales);
        self.both("key_bias", *key_bias);
        self.both("two biases", bias.len() > 1);
        bias.iter().for_each(|bias| self.bias(bias));
        self.both("gated_bias", *gated_bias);
        self.both("dense_bias", *dense_bias);
        let Mask { causal, alignment, window_left, window_right, chunk, dense } = mask;
        self.both("causal", *causal);
        variant!(self, alignment, { Alignment::BottomRight => "bottom right", Alignment::TopLeft => "top left" });
        self.both("window_left", window_left.is_some());
        self.both("window_right", window_right.is_some());
        self.both("chunk", chunk.is_some());
        self.both("mask", *dense);
        self.both("kv_lens", *kv_lens);
        self.both("norm", norm.is_some());
        if let Some(Norm { kind, eps, weights, after_rotation, weights_of_heads, all_heads }) = norm {
            variant!(self, kind, {
                NormKind::Rms => "norm rms",
                NormKind::L2 => "norm l2",
                NormKind::Layer => "norm layer",
            });
            self.both("norm's weights of heads", *weights_of_heads);
            self.both("norm of all heads", *all_heads);
            self.both("norm's eps of 0", *eps == 0.0);
            self.both("norm's weights", *weights);
            self.both("norm after rotation", *after_rotation);
        }
        self.both("temperature", temperature.is_some());
        if let Some(Temperature { scale, floor, offset, steps, base, per_head }) = temperature {
            self.both("temperature's scale below 0", *scale < 0.0);
            self.both("temperature's floor of 1", *floor == 1);
            self.both("temperature's offset of 1", *offset == 1);
            variant!(self, steps, { Steps::Floor => "temperature in steps", Steps::None { .. } => "temperature without steps" });
            self.both("temperature's base of 1", *base == 1.0);
            self.both("temperature of heads", *per_head);
        }
        self.both("head_scale", *head_scale);
        self.both("head_scale_exp", head_scale_exp.is_some());
        self.both("content_bias", *content_bias);
        self.both("two relative tables", relative.len() > 1);
        for Relative { side, index, per_head, query_bias, scale, own } in relative {
            self.both("a query of its own", own.is_some());
            variant!(self, side, {
                RelativeSide::Key => "A",
                RelativeSide::Query => "B",
                RelativeSide::Value => "E_V",
            });
            self.index("relative", index);
            self.both("a table for each head", *per_head);
            self.both("a bias of the query", *query_bias);
            self.both("a scale of a relative table", scale.is_some());
        }
        variant!(self, sink, { None => "no sink", Some(Sink::Zero) => "sink 0", Some(Sink::Learned) => "sinks", Some(Sink::Query) => "sinks of queries" });
        self.both("packed", *packed);
        self.both("score_mod", score_mod.is_some());
        for (text, ..) in user::SCORES {
            self.both(text, score_mod.as_deref() == Some(text));
        }
        self.both("mask_mod", mask_mod.is_some());
        for (text, ..) in user::MASKS {
            self.both(text, mask_mod.as_deref() == Some(text));
        }
        self.both("linear", linear.is_some());
        linear.iter().for_each(|linear| self.linear(linear));
    }

    /// Of q and x.
    fn dtype(&mut self, of: &str, dtype: Dtype) {
        for one in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
            *self.possible(format!("{of}{}", one.name())) += (one == dtype) as u32;
        }
    }
    /// Of k and v, which may be any.
    fn stored(&mut self, of: &str, dtype: Dtype) {
        for one in Dtype::ALL {
            *self.possible(format!("{of} in {}", one.name())) += (one == dtype) as u32;
        }
    }

    fn rotary(&mut self, rotary: &Rotary) {
        let Rotary {
            pairing,
            rotary_dim,
            offset,
            frequencies,
            attention_factor,
            angle,
            streams,
            pairs,
            xpos,
            values,
            output,
            branches,
            keys_rotated,
        } = rotary;
        variant!(self, branches, {
            None => "one branch",
            Some(Branches::Clipped { window: _ }) => "distances clipped",
            Some(Branches::Grouped { window: _, group: _ }) => "positions grouped",
        });
        self.both("outputs turn back", *output);
        variant!(self, pairing, {
            Pairing::Half => "half",
            Pairing::Interleaved => "interleaved",
            Pairing::InterleavedInHalfOut => "interleaved in, half out",
            Pairing::HalfOfHalves => "half of halves",
            Pairing::Listed => "pairs listed",
        });
        self.both("pairs", !pairs.is_empty());
        self.both("pairs in whole vectors", rotary_dim.is_multiple_of(8));
        self.both("offset", *offset > 0);
        variant!(self, frequencies, {
            Frequencies::Theta(_) => "theta",
            Frequencies::InvFreq(_) => "inv_freq",
            Frequencies::Sums(_) => "sums",
        });
        if let Frequencies::Sums(Sums { heads, streams, two_angles, values: _ }) = frequencies {
            self.both("frequencies of heads", *heads > 1);
            self.both("several streams in a sum", *streams > 1);
            self.both("two angles", *two_angles);
        }
        self.both("attention_factor", *attention_factor != 1.0);
        variant!(self, angle, {
            Angle::Exact => "angle exact",
            Angle::Float32 => "angle float32",
            Angle::Table => "angle table",
        });
        variant!(self, streams.iter().max(), {
            None | Some(0) => "one stream",
            Some(1) => "two streams",
            Some(2) => "three streams",
            Some(3..) => "four streams",
        });
        self.both("xpos", xpos.is_some());
        if let Some(XPos { scale_base, centre }) = xpos {
            self.both("xpos grows", *scale_base < 0.0);
            self.both("xpos' centre below 0", *centre < 0);
        }
        self.both("values rotate", *values);
        self.both("keys_rotated", *keys_rotated);
    }

    fn bias(&mut self, bias: &Bias) {
        variant!(self, bias, {
            Bias::Table { min: _, max: _ } => "bias table",
            Bias::T5 { num_buckets: _, max_distance: _, bidirectional: true } => "t5 of both sides",
            Bias::T5 { num_buckets: _, max_distance: _, bidirectional: false } => "t5 of one side",
            Bias::Alibi { form: AlibiForm::Relative, slopes: _, scale: _ } => "alibi relative",
            Bias::Alibi { form: AlibiForm::Symmetric, slopes: _, scale: _ } => "alibi symmetric",
            Bias::Alibi { form: AlibiForm::KeyPosition, slopes: _, scale: _ } => "alibi key",
            Bias::Alibi { form: AlibiForm::KeyFromEnd, slopes: _, scale: _ } => "alibi key from end",
            Bias::Indexed { index: _ } => "bias indexed",
            Bias::LogCpb { height: _, width: _, pretrained: None, hidden: _ } => "log_cpb",
            Bias::LogCpb { height: _, width: _, pretrained: Some(_), hidden: _ } => "log_cpb of another window",
            Bias::Fire { hidden: _, eps: _ } => "fire",
            Bias::Kerple { kind: KerpleKind::Log, eps: _ } => "kerple log",
            Bias::Kerple { kind: KerpleKind::Power, eps: _ } => "kerple power",
        });
        if let Bias::Alibi { form: _, slopes, scale } = bias {
            self.both("slopes", slopes.is_some());
            self.both("scale of slopes", *scale != 1.0);
        }
        if let Bias::Indexed { index } = bias {
            self.index("bias", index);
        }
    }

    fn index(&mut self, of: &str, index: &IndexMap) {
        let mut both = |what: &str, met: bool| self.both(&format!("{of}: {what}"), met);
        let (mut distance, mut buckets, mut grid, mut segment) = (false, false, false, false);
        match index {
            IndexMap::Distance { min: _, max: _, outside, stream, reversed } => {
                distance = true;
                let zero = match outside {
                    Outside::Clip => false,
                    Outside::Zero => true,
                };
                both("zero outside", zero);
                both("a stream of its own", *stream > 0);
                both("reversed", *reversed);
            }
            IndexMap::LogBucket { buckets: n, max_position: _ } => {
                buckets = true;
                both("odd buckets", !n.is_multiple_of(2));
            }
            IndexMap::Grid { height: _, width: _, class } => {
                grid = true;
                both("class", *class);
            }
            IndexMap::Segment => segment = true,
        }
        for (what, is) in [("distance", distance), ("buckets", buckets), ("grid", grid), ("segment", segment)] {
            both(what, is);
        }
    }

    fn linear(&mut self, linear: &Linear) {
        let Linear { features, rotate_features, normalizer, decay, delta, initial_state } = linear;
        variant!(self, features, {
            FeatureMap::Identity => "phi identity",
            FeatureMap::Elu => "phi elu",
            FeatureMap::Relu => "phi relu",
            FeatureMap::Softmax { count: _, eps: _ } => "phi softmax",
        });
        self.both("rotate_features", *rotate_features);
        self.both("normalizer", normalizer.is_some());
        if let Some(Normalizer { eps, eps_feature }) = normalizer {
            self.both("normalizer's eps", *eps > 0.0);
            self.both("normalizer's eps_feature", *eps_feature > 0.0);
        }
        variant!(self, decay, {
            None => "no decay",
            Some(Decay::Retention) => "retention",
            Some(Decay::Heads(_)) => "decay of heads",
            Some(Decay::Token) => "decay of tokens",
            Some(Decay::Feature) => "decay of features",
        });
        self.both("delta", *delta);
        self.both("initial_state", *initial_state);
    }

    fn scaling(&mut self, scaling: &RopeScaling) {
        variant!(self, scaling, {
            RopeScaling::Default => "no scaling",
            RopeScaling::Linear { factor: _ } => "linear",
            RopeScaling::Ntk { factor: _ } => "ntk",
            RopeScaling::Dynamic { factor: _, max_position_embeddings: _, seq_len: _ } => "dynamic",
            RopeScaling::Yarn(_) => "yarn",
            RopeScaling::LongRope(_) => "longrope",
            RopeScaling::Llama3 {
                factor: _,
                low_freq_factor: _,
                high_freq_factor: _,
                original_max_position_embeddings: _,
            } => "llama3",
            RopeScaling::Proportional { partial_rotary_factor: _, factor: _ } => "proportional",
        });
        if let RopeScaling::Yarn(yarn) = scaling {
            let Yarn {
                factor,
                original_max_position_embeddings: _,
                beta_fast,
                beta_slow,
                truncate,
                mscale,
                mscale_all_dim,
                attention_factor,
            } = yarn;
            self.both("yarn shortens", *factor < 1.0);
            self.both("beta_fast", beta_fast.is_some());
            self.both("beta_slow", beta_slow.is_some());
            variant!(self, truncate, { None => "truncate", Some(true) => "truncated", Some(false) => "not truncated" });
            self.both("mscales", mscale.is_some() && mscale_all_dim.is_some());
            self.both("yarn's attention_factor", attention_factor.is_some());
        }
        if let RopeScaling::LongRope(long) = scaling {
            let LongRope {
                short_factor: _,
                long_factor: _,
                original_max_position_embeddings,
                max_position_embeddings,
                factor,
                attention_factor,
                seq_len,
            } = long;
            self.both("longrope's max_position_embeddings", max_position_embeddings.is_some());
            self.both("longrope's factor", factor.is_some());
            self.both("longrope's attention_factor", attention_factor.is_some());
            self.both("longrope beyond L", seq_len.is_some_and(|n| n > *original_max_position_embeddings));
        }
    }

    fn embed(&mut self, embed: &Embed) {
        let Embed { schema: _, dim, dtype, positions, input_scale, position_scale } = embed;
        self.both("embed: an odd width", !dim.is_multiple_of(2));
        self.dtype("embed: ", *dtype);
        variant!(self, positions, {
            Absolute::Sinusoidal { columns: Columns::Halves, denominator: _, base: _, padding_row: _ } => "sine halves",
            Absolute::Sinusoidal { columns: Columns::Interleaved, denominator: _, base: _, padding_row: _ } => "sines in turn",
            Absolute::Learned { rows: _ } => "learned",
        });
        if let Absolute::Sinusoidal { columns: _, denominator, base: _, padding_row } = positions {
            variant!(self, denominator, { Denominator::Half => "d/2", Denominator::HalfLessOne => "d/2 - 1" });
            self.both("padding_row", padding_row.is_some());
        }
        self.both("input_scale", *input_scale != 1.0);
        self.both("position_scale", *position_scale != 1.0);
    }

    fn inputs(&mut self, inputs: &Inputs) {
        let Inputs {
            q,
            k,
            v: _,
            placement,
            kv_len,
            kv_lens,
            q_positions,
            k_positions,
            q_segments,
            k_segments,
            cu_seqlens_q,
            cu_seqlens_k,
            parameters,
            attn_bias,
            gates,
            query_scales: _,
            query_sinks: _,
            key_bias: _,
            relative_queries: _,
            mask,
            angle_table,
            score_mod,
            mask_mod,
            user_data,
            initial_state,
            initial_normalizer,
            decay,
            beta,
        } = inputs;
        let [batch, q_len, heads, dim] = q.shape();
        self.both("several sequences", batch > 1);
        self.both("more queries than keys", q_len > k.shape()[1]);
        self.both("one query", q_len == 1);
        self.both("keys beyond a tile", k.shape()[1] > 64);
        self.both("a residual", (0..q.data().len()).any(|i| q.residual(i) != 0.0));
        self.both("gaps", q.strides() != Strides::bshd(q_len, heads, dim));
        self.both("an offset", q.offset() > 0);
        let odd = |x: &f64| !x.is_finite();
        self.both(
            "a row of q that is not finite",
            (0..batch).any(|b| (0..q_len).any(|t| q.row(b, t, 0).any(|x| odd(&x)))),
        );
        self.both("kv_len", kv_len.is_some());
        self.both("no keys in use", *kv_len == Some(0));
        self.both("lengths", kv_lens.is_some());
        self.both("ids", q_positions.is_some() && k_positions.is_some());
        self.both("segments", q_segments.is_some() && k_segments.is_some());
        self.both("cu_seqlens", cu_seqlens_q.is_some() && cu_seqlens_k.is_some());
        variant!(self, placement, {
            None => "tensors of keys",
            Some(Placement::Slots(_)) => "slots",
            Some(Placement::Pages { .. }) => "pages",
        });
        self.both("parameters", !parameters.is_empty());
        self.both("D", attn_bias.is_some());
        self.both("-inf in D", attn_bias.as_ref().is_some_and(|d| d.data().contains(&f32::NEG_INFINITY)));
        self.both("gates", gates.is_some());
        self.both("bits of a mask", mask.is_some());
        self.both("cos and sin", angle_table.is_some());
        self.both("closures", score_mod.is_some() || mask_mod.is_some());
        self.both("user_data", !user_data.is_empty());
        self.both("a state", initial_state.is_some());
        self.both("a state's normalizer", initial_normalizer.is_some());
        self.both("decays", decay.is_some());
        self.both("betas", beta.is_some());
    }
}

#[test]
fn random_cases_reach_every_field_and_variant() {
    let mut seen = Seen::default();
    for block in 0..6_000 {
        match draw::drawn(block) {
            Drawn::Attention { spec, scaling } => {
                seen.spec(&spec);
                scaling.iter().for_each(|(scaling, _)| seen.scaling(scaling));
            }
            Drawn::Embed(embed) => seen.embed(&embed),
        }
    }
    for seed in 0..4_000 {
        let Case { computed, .. } = draw::case(seed * BLOCK);
        match computed {
            Computed::Attention { inputs, .. } => seen.inputs(&inputs),
            Computed::Embed { inputs, .. } => seen.both("embed: a table", inputs.table.is_some()),
        }
    }
    let rare: Vec<_> = seen.0.iter().filter(|(_, n)| **n < 5).collect();
    assert!(rare.is_empty(), "drawn too seldom: {rare:?}");
    assert!(seen.0.len() > 250, "{} possibilities", seen.0.len());
}
