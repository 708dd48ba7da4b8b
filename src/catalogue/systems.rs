//! One table that maps a positional system to the terms of the equation, its source, the case that holds it and its traps.
//! `ropewalk systems`, the README's table and the page [`guide`](crate::guide) print from it.

use crate::equation::bias::{AlibiForm, Bias, KerpleKind};
use crate::equation::embed::{Columns, Denominator, Embed};
use crate::equation::factors::{Norm, NormKind, Sink, Temperature};
use crate::equation::index::{IndexMap, Outside};
use crate::equation::linear::{Decay, FeatureMap, Linear, Normalizer};
use crate::equation::mask::Mask;
use crate::equation::relative::{Relative, RelativeSide};
use crate::equation::rotary::branches::Branches;
use crate::equation::rotary::rotary::{Pairing, Rotary, XPos};
use crate::equation::rotary::scaling::{LongRope, MAX_ROTARY_DIM, RopeScaling, Yarn};
use crate::equation::spec::{Positions, Spec};
use serde::Serialize;

/// A term of the equation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Term {
    /// x + P\[m\] before the projections.
    Embed,
    /// N: a norm of q and k, each head by itself.
    Norm,
    /// tau: a temperature of the query's position.
    Temperature,
    /// A factor of each head on its scores.
    HeadScale,
    /// u: a content bias added to q.
    ContentBias,
    /// R: the rotation of q and k.
    Rotation,
    /// R_v: the rotation of values.
    ValueRotation,
    /// R_o: outputs turned back.
    OutputRotation,
    /// cap: c tanh(x / c).
    Cap,
    /// A: the query against the embedding of the relative position.
    QueryRelative,
    /// B: the key against the embedding of the relative position.
    KeyRelative,
    /// C: a table or a closed form of the relative position.
    Bias,
    /// D: a dense additive bias.
    Dense,
    /// c_i - c_j: sums of the tokens' gates.
    KeyBias,
    /// The caller's own function of a score.
    ScoreMod,
    /// The caller's own visibility.
    MaskMod,
    /// One more logit in the denominator.
    Sink,
    /// E_V: an embedding of the relative position added to values.
    ValueRelative,
    /// Attention without softmax.
    Linear,
}

impl Term {
    /// The term as the equation writes it.
    pub fn symbol(self) -> &'static str {
        match self {
            Term::Embed => "embed",
            Term::Norm => "N",
            Term::Temperature => "tau",
            Term::HeadScale => "scale_h",
            Term::ContentBias => "u",
            Term::Rotation => "R",
            Term::ValueRotation => "R_v",
            Term::OutputRotation => "R_o",
            Term::Cap => "cap",
            Term::QueryRelative => "A",
            Term::KeyRelative => "B",
            Term::Bias => "C",
            Term::Dense => "D",
            Term::KeyBias => "c",
            Term::ScoreMod => "score_mod",
            Term::MaskMod => "mask_mod",
            Term::Sink => "sink",
            Term::ValueRelative => "E_V",
            Term::Linear => "linear",
        }
    }
}

/// How far a rotation is stretched: the numbers that every length extension takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    /// Elements that rotate; even.
    pub rotary_dim: u32,
    /// The length of training in tokens.
    pub trained: u32,
    /// The extended length divided by the trained one.
    pub factor: f64,
}

/// One positional system: a row of the table.
#[derive(Debug, Clone, Copy, Serialize)]
#[non_exhaustive]
pub struct System {
    /// What commands call it.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// Other names that commands take.
    pub aliases: &'static [&'static str],
    /// The terms of the equation that it uses, in the equation's order.
    pub terms: &'static [Term],
    /// What it computes. m, n are the positions of query i and key j; q and k are projected, h is the head.
    pub formula: &'static str,
    /// What it makes of the four products of (x_i + p_m) W_q W_k^T (x_j + p_n)^T.
    pub place: &'static str,
    /// Which forms of it are covered.
    pub variants: &'static str,
    /// Where it was published.
    pub paper: &'static str,
    /// When.
    pub year: u16,
    /// Golden cases that hold it, as `folder/case`.
    pub golden: &'static [&'static str],
    /// Where implementations of it differ.
    pub traps: &'static str,
    /// What to say of it while it is not supported; `None`: it is.
    pub missing: Option<&'static str>,
    #[serde(skip)]
    spec: Option<fn() -> Spec>,
    #[serde(skip)]
    embed: Option<fn() -> Embed>,
    #[serde(skip)]
    scaling: Option<fn(Stretch) -> RopeScaling>,
}

impl System {
    /// Whether kernels and reference compute it.
    pub fn supported(&self) -> bool {
        self.missing.is_none()
    }
    /// A small spec that uses its terms; `None` for systems that act before attention.
    pub fn spec(&self) -> Option<Spec> {
        self.spec.map(|make| make())
    }
    /// What it adds to tokens before the projections; `None` for systems within attention.
    pub fn embed(&self) -> Option<Embed> {
        self.embed.map(|make| make())
    }
    /// The frequencies of a length extension; `None` for other systems.
    pub fn scaling(&self, stretch: Stretch) -> Option<RopeScaling> {
        self.scaling.map(|make| make(stretch))
    }
    /// Its terms as the equation writes them.
    pub fn symbols(&self) -> String {
        self.terms.iter().map(|t| t.symbol()).collect::<Vec<_>>().join(", ")
    }
    /// Whether this is what a person calls it: name, title or alias in any case.
    fn called(&self, name: &str) -> bool {
        [self.name, self.title].iter().chain(self.aliases).any(|n| n.eq_ignore_ascii_case(name))
    }
}

/// Every system, the oldest kind first.
pub fn systems() -> &'static [System] {
    SYSTEMS
}

/// The system of a name or an alias, in any case.
pub fn system(name: &str) -> Option<&'static System> {
    SYSTEMS.iter().find(|s| s.called(name))
}

/// The README's table: a row for each system.
pub fn markdown_table() -> String {
    let mut text = "| system | terms | variants | from |\n|---|---|---|---|".to_string();
    for s in SYSTEMS {
        let variants = s.missing.unwrap_or(s.variants);
        let author = s.paper.split(',').next().unwrap_or_default();
        text += &format!("\n| {} | {} | {variants} | {author} {} |", s.title, s.symbols(), s.year);
    }
    text
}

/// The part of docs/equation.md that describes each system.
pub fn markdown_page() -> String {
    let mut text = "| system | of the four products | terms |\n|---|---|---|\n".to_string();
    for s in SYSTEMS {
        text += &format!("| {} | {} | {} |\n", s.title, s.place, s.symbols());
    }
    for s in SYSTEMS {
        let golden = s.golden.iter().map(|g| format!("`{g}`")).collect::<Vec<_>>().join(", ");
        text += &format!("\n### {} ({})\n\n```text\n{}\n```\n\n", s.title, s.year, s.formula);
        text += &format!("- **Covered**: {}.\n- **From**: {}, {}.\n", s.missing.unwrap_or(s.variants), s.paper, s.year);
        text += &format!("- **Held by**: {golden}.\n- **Traps**: {}\n", s.traps);
    }
    text.truncate(text.trim_end().len());
    text
}

/// What rows leave out.
const ROW: System = System {
    name: "",
    title: "",
    aliases: &[],
    terms: &[],
    formula: "",
    place: "",
    variants: "",
    paper: "",
    year: 0,
    golden: &[],
    traps: "",
    missing: None,
    spec: None,
    embed: None,
    scaling: None,
};

/// A spec for demonstrations: four heads of 32, two-sided.
fn small(change: impl FnOnce(&mut Spec)) -> Spec {
    let mut spec = Spec::new(4, 4, 32);
    change(&mut spec);
    spec
}

/// A small causal spec of linear attention with a rotation.
fn linear(change: impl FnOnce(&mut Linear)) -> Spec {
    small(|spec| {
        let mut linear = Linear::new(FeatureMap::Identity);
        change(&mut linear);
        spec.linear = Some(linear);
        spec.rotary = Some(Rotary::new(Pairing::Interleaved, 32, 10_000.0));
        spec.mask = Mask::causal();
    })
}

/// A small causal spec with a stretched rotation of 32 elements, four times 256 tokens.
fn stretched(make: fn(Stretch) -> RopeScaling) -> Spec {
    small(|spec| {
        let scaling = make(Stretch { rotary_dim: 32, trained: 256, factor: 4.0 });
        spec.rotary = Rotary::scaled(Pairing::Half, 32, 10_000.0, &scaling).ok();
        spec.mask = Mask::causal();
    })
}

/// Rows and columns of the demonstrations' windows.
const WINDOW: u32 = 7;

/// A window of patches.
fn window(class: bool) -> IndexMap {
    IndexMap::Grid { height: WINDOW, width: WINDOW, class }
}

/// One table for all heads.
fn table(side: RelativeSide, index: IndexMap) -> Relative {
    Relative::new(side, index)
}

/// A table for each head, read by q + v.
fn transformer_xl(index: IndexMap) -> Relative {
    let mut relative = table(RelativeSide::Key, index);
    (relative.per_head, relative.query_bias) = (true, true);
    relative
}

/// Content to position and position to content, scaled for three products.
fn deberta(index: IndexMap) -> Spec {
    small(|spec| {
        spec.softmax_scale = Some(1.0 / (3.0 * spec.head_dim as f64).sqrt());
        spec.relative = [RelativeSide::Key, RelativeSide::Query].map(|side| table(side, index)).to_vec();
        spec.relative.iter_mut().for_each(|r| r.per_head = true);
    })
}

/// Rotation by several positions: the stream of each of 16 pairs.
fn streamed(streams: &[u8]) -> Spec {
    small(|spec| {
        let mut rotary = Rotary::new(Pairing::Half, 32, 10_000.0);
        rotary.streams = streams.to_vec();
        (spec.rotary, spec.positions) = (Some(rotary), Positions::Ids);
    })
}

static SYSTEMS: &[System] = &[
    System {
        name: "sinusoidal",
        title: "sinusoidal",
        aliases: &["absolute", "vaswani"],
        terms: &[Term::Embed],
        formula: "x_i + P[m], P[m, 2p] = sin(m f_p), P[m, 2p + 1] = cos(m f_p), f_p = 10000^(-2p / d)",
        place: "all four, before the projections",
        variants: "halves, interleaved; exponent 2p / d or p / (d/2 - 1); offsets, padding-aware positions",
        paper: "Vaswani et al., Attention Is All You Need",
        year: 2017,
        golden: &[
            "01_sinusoidal/marian_halves",
            "01_sinusoidal/speecht5_interleaved",
            "01_sinusoidal/m2m100_t2t_padding",
        ],
        traps: "Marian writes all sines, then all cosines, with exponent 2p / d; M2M100, XGLM and Whisper do with \
                p / (d/2 - 1); SpeechT5 interleaves. XGLM starts at position 2, M2M100 counts only what is no padding.",
        embed: Some(|| Embed::sinusoidal(64, Columns::Interleaved, Denominator::Half)),
        ..ROW
    },
    System {
        name: "learned",
        title: "learned absolute",
        aliases: &["bert", "gpt2", "gpt-2", "roberta", "opt"],
        terms: &[Term::Embed],
        formula: "x_i + P[m], P trained",
        place: "all four, before the projections",
        variants: "offsets and padding-aware positions of BERT, GPT-2, RoBERTa, OPT",
        paper: "Gehring et al., Convolutional Sequence to Sequence Learning",
        year: 2017,
        golden: &[
            "02_learned/bert",
            "02_learned/gpt2_past",
            "02_learned/roberta_padding",
            "02_learned/opt_left_padding",
        ],
        traps: "RoBERTa counts what is no padding from padding_idx + 1; OPT adds 2. A position beyond the table is an \
                error, not a clamp.",
        embed: Some(|| Embed::learned(64, 512)),
        ..ROW
    },
    System {
        name: "shaw",
        title: "Shaw",
        aliases: &["relative-key", "speecht5", "vits", "wav2vec2-bert", "opennmt"],
        terms: &[Term::QueryRelative, Term::ValueRelative],
        formula: "A_i = <q_i, E_K[r]> / sqrt(d), o_i = sum_j p(i,j) (v_j + E_V[r]), r = clip(n - m)",
        place: "content-content and content-position, with an embedding of the distance for the position's key",
        variants: "both signs of the index; clipped, unclipped, zero outside; keys, keys and values",
        paper: "Shaw et al., Self-Attention with Relative Position Representations",
        year: 2018,
        golden: &[
            "03_shaw/onmt_shaw_key_value",
            "03_shaw/speecht5_relative_key",
            "03_shaw/vits_windowed_key_value",
            "03_shaw/wav2vec2_bert_relative_key",
        ],
        traps: "The index is m - n in SpeechT5, n - m in Wav2Vec2-BERT, OpenNMT and VITS. SpeechT5 clips to -c .. c - 1; \
                VITS gives zero outside the window; OpenNMT has one table for keys and values.",
        spec: Some(|| {
            small(|spec| {
                let index = IndexMap::distance(-16, 16);
                spec.relative = vec![table(RelativeSide::Key, index), table(RelativeSide::Value, index)];
            })
        }),
        ..ROW
    },
    System {
        name: "bert-relative",
        title: "BERT relative_key_query",
        aliases: &["relative-key-query", "relative_key_query", "relative_key"],
        terms: &[Term::QueryRelative, Term::KeyRelative],
        formula: "A_i = <q_i, E[r]> / sqrt(d), B_j = <k_j, E[r]> / sqrt(d), r = m - n",
        place: "content-content, content-position and position-content, with one table for both",
        variants: "relative_key (A), relative_key_query (A and B)",
        paper: "Huang et al., Improve Transformer Models with Better Relative Position Embeddings",
        year: 2020,
        golden: &["03_shaw/bert_relative_key", "03_shaw/bert_relative_key_query"],
        traps: "The distance is never clipped; A and B are added before the division by sqrt(d).",
        spec: Some(|| {
            small(|spec| {
                let index = IndexMap::reversed(-63, 63);
                spec.relative = vec![table(RelativeSide::Key, index), table(RelativeSide::Query, index)];
            })
        }),
        ..ROW
    },
    System {
        name: "transformer-xl",
        title: "Transformer-XL",
        aliases: &["transfo-xl", "transfo_xl", "xl"],
        terms: &[Term::ContentBias, Term::QueryRelative],
        formula: "(<q_i + u, k_j> + <q_i + v, W_r S[m - n]>) / sqrt(d), S sinusoidal",
        place: "all four: the position's key is a sinusoid of the distance, its query the vectors u and v",
        variants: "memory; clamp_len",
        paper: "Dai et al., Transformer-XL: Attentive Language Models beyond a Fixed-Length Context",
        year: 2019,
        golden: &["04_transformer_xl/transfo_xl_memory", "04_transformer_xl/transfo_xl_no_memory"],
        traps: "u goes with content, v with position. The row of r is kv_len - 1 - distance; clamp_len clamps the \
                distance inside the sinusoid, not the index. A mask of 1 hides.",
        spec: Some(|| {
            small(|spec| {
                spec.content_bias = true;
                spec.relative = vec![transformer_xl(IndexMap::reversed(0, 127))];
                spec.mask = Mask::causal();
            })
        }),
        ..ROW
    },
    System {
        name: "xlnet",
        title: "XLNet",
        aliases: &[],
        terms: &[Term::ContentBias, Term::QueryRelative],
        formula: "(<q_i + u, k_j> + <q_i + v, W_r S[m - n]> + <q_i + w, E_s[same segment]>) / sqrt(d)",
        place: "Transformer-XL's, and one more content-position product for the segment",
        variants: "uni- and bidirectional; memory; segments",
        paper: "Yang et al., XLNet: Generalized Autoregressive Pretraining for Language Understanding",
        year: 2019,
        golden: &["04_transformer_xl/xlnet_bi_memory_segments", "04_transformer_xl/xlnet_uni_memory"],
        traps: "The row of r is kv_len - distance, of kv_len + q_len rows; S has all sines, then all cosines. A mask of 1 \
                hides.",
        spec: Some(|| {
            small(|spec| {
                spec.content_bias = true;
                spec.relative = vec![transformer_xl(IndexMap::reversed(-64, 64)), transformer_xl(IndexMap::Segment)];
            })
        }),
        ..ROW
    },
    System {
        name: "conformer",
        title: "Conformer",
        aliases: &["wav2vec2-conformer", "fastspeech2"],
        terms: &[Term::ContentBias, Term::QueryRelative],
        formula: "(<q_i + u, k_j> + <q_i + v, W_r S[m - n]>) / sqrt(d), S sinusoidal",
        place: "Transformer-XL's, two-sided",
        variants: "FastSpeech 2 Conformer, Wav2Vec2 Conformer",
        paper: "Gulati et al., Conformer: Convolution-augmented Transformer for Speech Recognition",
        year: 2020,
        golden: &["04_transformer_xl/fastspeech2_conformer", "04_transformer_xl/wav2vec2_conformer_relative"],
        traps: "The row of r is len - 1 - distance, of 2 len - 1 rows; sines and cosines interleave.",
        spec: Some(|| {
            small(|spec| {
                spec.content_bias = true;
                spec.relative = vec![transformer_xl(IndexMap::reversed(-63, 63))];
            })
        }),
        ..ROW
    },
    System {
        name: "t5",
        title: "T5, mT5, UMT5",
        aliases: &["mt5", "umt5", "pix2struct"],
        terms: &[Term::Bias],
        formula: "<q_i, k_j> + table[bucket(n - m), h]",
        place: "content-content; position-position becomes a number learned for each bucket of distances",
        variants: "one- and two-sided; any number of buckets, any distance; with cache; a table for each layer (UMT5)",
        paper: "Raffel et al., Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
        year: 2020,
        golden: &["05_t5/t5_encoder_bidirectional", "05_t5/t5_decoder_cache", "05_t5/umt5_decoder_per_layer"],
        traps: "No 1 / sqrt(d). Distances on a bucket's edge (16, 32, 64 of 32 / 128) belong to the upper bucket, which a \
                logarithm that is low by one unit misses: the table is made by the host.",
        spec: Some(|| {
            small(|spec| {
                spec.softmax_scale = Some(1.0);
                spec.bias = vec![Bias::T5 { num_buckets: 32, max_distance: 128, bidirectional: true }];
            })
        }),
        ..ROW
    },
    System {
        name: "mpnet",
        title: "MPNet",
        aliases: &[],
        terms: &[Term::Bias],
        formula: "<q_i, k_j> / sqrt(d) + table[bucket(n - m), h]",
        place: "as T5",
        variants: "T5's buckets, two-sided",
        paper: "Song et al., MPNet: Masked and Permuted Pre-training for Language Understanding",
        year: 2020,
        golden: &["10_other/mpnet"],
        traps: "T5's bias, but with 1 / sqrt(d).",
        spec: Some(|| {
            small(|spec| spec.bias = vec![Bias::T5 { num_buckets: 32, max_distance: 128, bidirectional: true }])
        }),
        ..ROW
    },
    System {
        name: "deberta",
        title: "DeBERTa v1",
        aliases: &["deberta-v1"],
        terms: &[Term::QueryRelative, Term::KeyRelative],
        formula: "(<q_i, k_j> + <q_i, E_K[r]> + <k_j, E_Q[r]>) / sqrt(3 d), r = clip(m - n + span, 0, 2 span - 1)",
        place: "content-content, content-position and position-content; position-position is dropped",
        variants: "c2p, p2c, both",
        paper: "He et al., DeBERTa: Decoding-enhanced BERT with Disentangled Attention",
        year: 2021,
        golden: &["06_deberta/v1_c2p_p2c", "06_deberta/v1_c2p_only"],
        traps: "The scale is 1 / sqrt(d (1 + terms)). The code reads the same row for c2p and p2c, where the paper writes \
                delta(j, i). span = min(len, max_relative_positions), and the middle rows of the table are used.",
        spec: Some(|| deberta(IndexMap::reversed(-32, 31))),
        ..ROW
    },
    System {
        name: "deberta-v2",
        title: "DeBERTa v2, v3",
        aliases: &["deberta-v3"],
        terms: &[Term::QueryRelative, Term::KeyRelative],
        formula: "(<q_i, k_j> + <q_i, E_K[r]> + <k_j, E_Q[r]>) / sqrt(3 d), r = clip(bucket(m - n) + span, 0, 2 span - 1)",
        place: "as DeBERTa v1",
        variants: "logarithmic buckets; projections of its own or shared with content",
        paper: "He et al., DeBERTaV3: Improving DeBERTa using ELECTRA-Style Pre-Training",
        year: 2021,
        golden: &["06_deberta/v2_separate_proj_buckets_padding", "06_deberta/v3_share_key_buckets"],
        traps: "The bucket is the identity up to half the buckets, then a logarithm rounded up (T5's is cut off). v3 \
                projects the table with the content's projections.",
        spec: Some(|| deberta(IndexMap::LogBucket { buckets: 16, max_position: 64 })),
        ..ROW
    },
    System {
        name: "alibi",
        title: "ALiBi",
        aliases: &["bloom", "mpt", "falcon"],
        terms: &[Term::Bias],
        formula: "<q_i, k_j> / sqrt(d) + slope_h (n - m), slope_h = 2^(-8 h / H), h = 1 .. H",
        place: "content-content; position-position becomes a line in the distance",
        variants: "any number of heads; relative, absolute key (BLOOM, MPT), two-sided, scaled (Falcon)",
        paper: "Press et al., Train Short, Test Long: Attention with Linear Biases Enables Input Length Extrapolation",
        year: 2022,
        golden: &["09_alibi/bloom_6_heads_left_padding", "09_alibi/mpt_6_heads", "09_alibi/falcon_4_heads"],
        traps: "BLOOM and Falcon add slope * n, MPT slope * (n - last): rows differ by a constant, outputs do not. Falcon \
                divides the bias by sqrt(d) too. Head counts that are no power of two take every other slope of the next.",
        spec: Some(|| {
            small(|spec| {
                spec.bias = vec![Bias::Alibi { form: AlibiForm::Relative, slopes: None, scale: 1.0 }];
                spec.mask = Mask::causal();
            })
        }),
        ..ROW
    },
    System {
        name: "kerple",
        title: "KERPLE",
        aliases: &[],
        terms: &[Term::Bias],
        formula: "<q_i, k_j> / sqrt(d) - p_h log(1 + a_h |m - n|), or - a_h |m - n|^p_h",
        place: "content-content; position-position becomes a kernel of the distance",
        variants: "logarithmic, power",
        paper: "Chi et al., KERPLE: Kernelized Relative Positional Embedding for Length Extrapolation",
        year: 2022,
        golden: &["10_other/kerple_log", "10_other/kerple_power"],
        traps: "a and p are clamped to 0.01 from below, p of the power kernel to 2 from above, before use.",
        spec: Some(|| {
            small(|spec| {
                spec.bias = vec![Bias::Kerple { kind: KerpleKind::Log, eps: 0.01 }];
                spec.mask = Mask::causal();
            })
        }),
        ..ROW
    },
    System {
        name: "fire",
        title: "FIRE",
        aliases: &[],
        terms: &[Term::Bias],
        formula: "<q_i, k_j> / sqrt(d) + f_h(log(1 + c |m - n|) / log(1 + c max(m, L))), f a network of one hidden layer",
        place: "content-content; position-position becomes a learned function of the distance relative to the query's position",
        variants: "any width",
        paper: "Li et al., Functional Interpolation for Relative Positions Improves Long Context Transformers",
        year: 2024,
        golden: &["10_other/fire_causal", "10_other/fire_two_sided"],
        traps: "Positions count from 0 in the authors' code, from 1 in the paper; eps is added to the denominator's logarithm; L is a length times a learned multiplier.",
        spec: Some(|| {
            small(|spec| {
                spec.bias = vec![Bias::Fire { hidden: 32, eps: 1e-6 }];
                spec.mask = Mask::causal();
            })
        }),
        ..ROW
    },
    System {
        name: "swin",
        title: "Swin",
        aliases: &[],
        terms: &[Term::Bias],
        formula: "<q_i, k_j> / sqrt(d) + table[r, h], r the offset of two patches in a window of w x w",
        place: "content-content; position-position becomes a number learned for each offset in two dimensions",
        variants: "any window; shifted windows",
        paper: "Liu et al., Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
        year: 2021,
        golden: &["10_other/swin_window7", "10_other/swin_window4_shifted"],
        traps: "A shifted window's mask is a finite -100: a table over segments.",
        spec: Some(|| {
            small(|spec| {
                spec.bias = vec![Bias::Indexed { index: window(false) }];
                spec.positions = Positions::Ids;
            })
        }),
        ..ROW
    },
    System {
        name: "swin-v2",
        title: "Swin v2",
        aliases: &["swinv2", "log-cpb"],
        terms: &[Term::Norm, Term::HeadScale, Term::Bias],
        formula: "scale_h <q_i / |q_i|, k_j / |k_j|> + 16 sigmoid(MLP(log offset))[r, h], scale_h = exp(min(logit_h, ln 100))",
        place: "content-content of unit vectors; position-position becomes a small network of the offset",
        variants: "any window; shifted windows",
        paper: "Liu et al., Swin Transformer V2: Scaling Up Capacity and Resolution",
        year: 2022,
        golden: &["10_other/swinv2_window5", "10_other/swinv2_window4_shifted"],
        traps: "No 1 / sqrt(d). transformers' port adds a shifted window's -100 twice, the authors' code once.",
        spec: Some(|| {
            small(|spec| {
                (spec.norm, spec.head_scale, spec.softmax_scale) =
                    (Some(Norm::new(NormKind::L2, 1e-12)), true, Some(1.0));
                let (height, width) = (WINDOW, WINDOW);
                spec.bias = vec![Bias::LogCpb { height, width, pretrained: None, hidden: 16 }];
                spec.positions = Positions::Ids;
            })
        }),
        ..ROW
    },
    System {
        name: "beit",
        title: "BEiT",
        aliases: &[],
        terms: &[Term::Bias],
        formula: "<q_i, k_j> / sqrt(d) + table[r, h], r the offset of two patches, or one of three rows for the class token",
        place: "as Swin, with rows for the class token",
        variants: "any grid; class token",
        paper: "Bao et al., BEiT: BERT Pre-Training of Image Transformers",
        year: 2022,
        golden: &["10_other/beit_5x5"],
        traps: "The last three rows are class to patch, patch to class, class to class, in this order.",
        spec: Some(|| {
            small(|spec| {
                spec.bias = vec![Bias::Indexed { index: window(true) }];
                spec.positions = Positions::Ids;
            })
        }),
        ..ROW
    },
    System {
        name: "sam",
        title: "SAM, ViTDet, MViT v2",
        aliases: &["vitdet", "mvit", "mvitv2"],
        terms: &[Term::QueryRelative],
        formula: "<q_i, k_j> / sqrt(d) + <q_i, E_rows[row distance]> + <q_i, E_columns[column distance]>",
        place: "content-content and content-position, once for rows and once for columns",
        variants: "any grid, also not square; pooled keys and class tokens (MViT v2)",
        paper: "Li et al., MViTv2: Improved Multiscale Vision Transformers for Classification and Detection",
        year: 2022,
        golden: &[
            "10_other/sam_decomposed_6x6",
            "10_other/vitdet_decomposed_5x8",
            "14_vision/mvitv2_pooled_class_token",
        ],
        traps: "The relative terms take q without 1 / sqrt(d).",
        spec: Some(|| {
            small(|spec| {
                let along = |stream| {
                    let (min, max) = (1 - WINDOW as i32, WINDOW as i32 - 1);
                    IndexMap::Distance { min, max, outside: Outside::Clip, stream, reversed: true }
                };
                spec.relative = vec![table(RelativeSide::Key, along(0)), table(RelativeSide::Key, along(1))];
                spec.relative.iter_mut().for_each(|r| r.scale = Some(1.0));
                spec.positions = Positions::Ids;
            })
        }),
        ..ROW
    },
    System {
        name: "wavlm",
        title: "WavLM",
        aliases: &["gated"],
        terms: &[Term::Bias],
        formula: "<q_i, k_j> / sqrt(d) + gate_h(x_i) table[bucket(n - m), h]",
        place: "as T5, with a gate that the query's content sets",
        variants: "the gate of each query and head is an input",
        paper: "Chen et al., WavLM: Large-Scale Self-Supervised Pre-Training for Full Stack Speech Processing",
        year: 2022,
        golden: &["10_other/wavlm_gated_bias"],
        traps: "T5's buckets with 1 / sqrt(d); the gate multiplies the bias, not the score.",
        spec: Some(|| {
            small(|spec| {
                spec.bias = vec![Bias::T5 { num_buckets: 320, max_distance: 800, bidirectional: true }];
                spec.gated_bias = true;
            })
        }),
        ..ROW
    },
    System {
        name: "rope",
        title: "RoPE",
        aliases: &["rotary", "roformer", "llama", "extrapolation", "default"],
        terms: &[Term::Rotation],
        formula: "<R(m) q_i, R(n) k_j> / sqrt(d), pair p turned by m f_p, f_p = theta^(-2p / d)",
        place: "content-content, turned so that it depends on m - n",
        variants: "half, interleaved, interleaved in and half out; partial, offset (MLA); rotated values",
        paper: "Su et al., RoFormer: Enhanced Transformer with Rotary Position Embedding",
        year: 2021,
        golden: &[
            "07_rope/llama_gqa_causal_decode",
            "07_rope/gptj_partial_interleaved",
            "07_rope/deepseek_v3_mla_interleaved",
            "07_rope/roformer_bidirectional",
        ],
        traps: "Pairs are (p, p + d/2) or (2p, 2p + 1); mixing them up gives fluent nonsense. The first rotary_dim \
                elements turn, but in MLA the last. The exponent divides by rotary_dim, not by head_dim.",
        spec: Some(|| stretched(|_| RopeScaling::Default)),
        scaling: Some(|_| RopeScaling::Default),
        ..ROW
    },
    System {
        name: "xpos",
        title: "xPos",
        aliases: &[],
        terms: &[Term::Rotation],
        formula: "<R(m) q_i z_p^m, R(n) k_j z_p^(-n)> / sqrt(d), z_p = ((2p / d + 0.4) / 1.4)^(1 / base)",
        place: "as RoPE, with an exponential decay in m - n for each pair",
        variants: "any base, any centre",
        paper: "Sun et al., A Length-Extrapolatable Transformer",
        year: 2022,
        golden: &["10_other/xpos_torchscale", "10_other/xpos_x_transformers_decode"],
        traps: "Positions count from a centre, which scores do not show; causal only, since the factor grows without end \
                for keys after the query.",
        spec: Some(|| {
            small(|spec| {
                let mut rotary = Rotary::new(Pairing::Interleaved, 32, 10_000.0);
                rotary.xpos = Some(XPos::new(512.0, 0));
                (spec.rotary, spec.mask) = (Some(rotary), Mask::causal());
            })
        }),
        ..ROW
    },
    System {
        name: "m-rope",
        title: "M-RoPE",
        aliases: &["mrope", "qwen2-vl", "qwen3-vl"],
        terms: &[Term::Rotation],
        formula: "as RoPE, pair p turned by m_s f_p, where its section s is time, height or width",
        place: "as RoPE, with three positions",
        variants: "contiguous (Qwen2-VL, GLM-4V) and interleaved sections (Qwen3-VL, Ernie 4.5 VL)",
        paper: "Wang et al., Qwen2-VL: Enhancing Vision-Language Model's Perception of the World at Any Resolution",
        year: 2024,
        golden: &[
            "07_rope/qwen2_vl_mrope",
            "07_rope/qwen3_vl_interleaved_mrope",
            "07_rope/ernie4_5_vl_mrope_interleaved",
        ],
        traps: "Causality goes by index while positions repeat. Qwen3-VL repeats t, h, w and leaves the tail to t; Ernie \
                alternates h and w, then t.",
        spec: Some(|| streamed(&[0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2])),
        ..ROW
    },
    System {
        name: "rope-2d",
        title: "2-D RoPE",
        aliases: &["pixtral", "eva-02", "dinov3"],
        terms: &[Term::Rotation],
        formula: "as RoPE, pair p turned by row f_p or column f_p",
        place: "as RoPE, with two positions",
        variants: "Pixtral, Qwen2-VL vision, Llama 4 vision, DINOv3, EVA-02, Gemma 4 vision",
        paper: "Fang et al., EVA-02: A Visual Representation for Neon Genesis",
        year: 2023,
        golden: &["07_rope/pixtral_2d", "07_rope/qwen2_vl_vision_2d", "10_other/eva02_5x6", "10_other/dinov3_6x6"],
        traps: "Pixtral gives rows the even and columns the odd frequencies; Qwen2-VL gives both the same; Gemma 4 turns \
                each half of the head by itself; Llama 4 counts from 1, columns first, and leaves the class token; DINOv3's \
                coordinates lie between -1 and 1.",
        spec: Some(|| streamed(&[0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1])),
        ..ROW
    },
    System {
        name: "linear",
        title: "position interpolation",
        aliases: &["pi", "linear-interpolation", "interpolation"],
        terms: &[Term::Rotation],
        formula: "as RoPE, f_p / s",
        place: "as RoPE",
        variants: "any factor",
        paper: "Chen et al., Extending Context Window of Large Language Models via Positional Interpolation",
        year: 2023,
        golden: &["08_rope_scaling/linear_factor4_d128", "08_rope_scaling/gemma3_global_linear8_d256"],
        traps: "Gemma 3 scales its global layers only.",
        spec: Some(|| stretched(|s| RopeScaling::Linear { factor: s.factor })),
        scaling: Some(|s| RopeScaling::Linear { factor: s.factor }),
        ..ROW
    },
    System {
        name: "ntk",
        title: "NTK-aware",
        aliases: &[],
        terms: &[Term::Rotation],
        formula: "as RoPE, theta' = theta s^(d / (d - 2))",
        place: "as RoPE",
        variants: "any factor",
        paper: "bloc97, NTK-Aware Scaled RoPE (r/LocalLLaMA)",
        year: 2023,
        golden: &["08_rope_scaling/ntk_aware_fixed_base_factor8_d128"],
        traps: "The last pair is divided by s exactly, the first is left: the exponent is d / (d - 2), not 1.",
        spec: Some(|| stretched(|s| RopeScaling::Ntk { factor: s.factor })),
        scaling: Some(|s| RopeScaling::Ntk { factor: s.factor }),
        ..ROW
    },
    System {
        name: "dynamic",
        title: "dynamic NTK",
        aliases: &["dynamic-ntk"],
        terms: &[Term::Rotation],
        formula: "as RoPE, theta' = theta (s n / L - (s - 1))^(d / (d - 2)), n = max(length, L)",
        place: "as RoPE",
        variants: "any factor and length",
        paper: "emozilla, Dynamically Scaled RoPE (r/LocalLLaMA)",
        year: 2023,
        golden: &[
            "08_rope_scaling/dynamic_ntk_factor2_d128_seq4097",
            "08_rope_scaling/dynamic_ntk_factor2_d128_seq16384",
        ],
        traps: "The frequencies change with the length, so keys cached at another length are rotated wrongly.",
        spec: Some(|| stretched(dynamic)),
        scaling: Some(dynamic),
        ..ROW
    },
    System {
        name: "yarn",
        title: "YaRN",
        aliases: &[],
        terms: &[Term::Rotation],
        formula: "as RoPE, f_p ((1 - ramp_p) + ramp_p / s), and cos, sin times 0.1 ln s + 1",
        place: "as RoPE; scores carry the square of the factor",
        variants: "truncate, mscale, attention factor; DeepSeek's softmax scale",
        paper: "Peng et al., YaRN: Efficient Context Window Extension of Large Language Models",
        year: 2023,
        golden: &[
            "08_rope_scaling/yarn_qwen2_5",
            "08_rope_scaling/yarn_deepseek_v3",
            "08_rope_scaling/yarn_gpt_oss_no_truncate",
        ],
        traps: "It does not depend on the current length. DeepSeek (mscale = mscale_all_dim) has a factor of 1 and \
                multiplies the softmax scale by mscale^2 instead; GPT-OSS does not round the ramp's ends.",
        spec: Some(|| stretched(|s| RopeScaling::Yarn(Yarn::new(s.factor, s.trained)))),
        scaling: Some(|s| RopeScaling::Yarn(Yarn::new(s.factor, s.trained))),
        ..ROW
    },
    System {
        name: "longrope",
        title: "LongRoPE",
        aliases: &["su", "phi3", "phi-3"],
        terms: &[Term::Rotation],
        formula: "as RoPE, f_p / e_p, and cos, sin times sqrt(1 + ln s / ln L)",
        place: "as RoPE; scores carry the square of the factor",
        variants: "short and long factors",
        paper: "Ding et al., LongRoPE: Extending LLM Context Window Beyond 2 Million Tokens",
        year: 2024,
        golden: &["08_rope_scaling/longrope_phi3_mini_like_seq4097", "07_rope/phi3_longrope_long"],
        traps: "Beyond the original length all positions of a call, the first ones too, turn by the long factors.",
        spec: Some(|| stretched(longrope)),
        scaling: Some(longrope),
        ..ROW
    },
    System {
        name: "llama3",
        title: "Llama 3.1",
        aliases: &["llama-3", "llama3.1", "llama-3.1"],
        terms: &[Term::Rotation],
        formula: "as RoPE, f_p for short wavelengths, f_p / s for long ones, a blend between",
        place: "as RoPE",
        variants: "any factors, low = high (Llama 4) included",
        paper: "Grattafiori et al., The Llama 3 Herd of Models",
        year: 2024,
        golden: &["08_rope_scaling/llama3_1_8b"],
        traps: "low = high divides by zero where the blend is computed before it is chosen.",
        spec: Some(|| stretched(llama3)),
        scaling: Some(llama3),
        ..ROW
    },
    System {
        name: "proportional",
        title: "proportional RoPE",
        aliases: &["p-rope", "gemma4", "gemma-4"],
        terms: &[Term::Rotation],
        formula: "as RoPE, f_p for the first quarter of the pairs, 0 for the others",
        place: "as RoPE; pairs that do not turn are content-content",
        variants: "any share, any factor",
        paper: "Barbero et al., Round and Round We Go! What makes Rotary Positional Encodings useful?",
        year: 2024,
        golden: &["08_rope_scaling/proportional_quarter_d256", "07_rope/gemma4_global_proportional"],
        traps: "Unlike a partial rotation its exponent divides by head_dim, and the pairs span the whole head.",
        spec: Some(|| stretched(|_| RopeScaling::Proportional { partial_rotary_factor: 0.25, factor: None })),
        scaling: Some(|_| RopeScaling::Proportional { partial_rotary_factor: 0.25, factor: None }),
        ..ROW
    },
    System {
        name: "llama4",
        title: "Llama 4 temperature",
        aliases: &["llama-4", "irope", "temperature"],
        terms: &[Term::Norm, Term::Temperature, Term::Rotation],
        formula: "tau_i = 1 + scale ln(1 + floor((m + 1) / floor_scale)) on layers without rotation",
        place: "content-content, sharpened as the query's position grows",
        variants: "temperature; l2 norm after the rotation; chunked mask",
        paper: "Meta, Llama 4 (model card and published code)",
        year: 2025,
        golden: &["07_rope/llama4_text_nope_temperature", "07_rope/llama4_text_chunked"],
        traps: "Layers that rotate have the norm and the chunks, layers that do not have the temperature.",
        spec: Some(|| {
            small(|spec| {
                let mut norm = Norm::new(NormKind::Rms, 1e-6);
                norm.after_rotation = true;
                spec.norm = Some(norm);
                spec.temperature = Some(Temperature::new(0.1, 8192));
                spec.rotary = Some(Rotary::new(Pairing::Interleaved, 32, 500_000.0));
                spec.mask = Mask::causal();
            })
        }),
        ..ROW
    },
    System {
        name: "qk-norm",
        title: "QK norm",
        aliases: &["qwen3", "gemma3", "gemma-3"],
        terms: &[Term::Norm, Term::Rotation],
        formula: "<R(m) N q_i, R(n) N k_j> scale, N x = w x / sqrt(mean(x^2) + eps)",
        place: "content-content of normed vectors",
        variants: "RMS with weights before the rotation, l2 after it; a layer norm, weights of each head, a norm over all heads",
        paper: "Henry et al., Query-Key Normalization for Transformers",
        year: 2020,
        golden: &[
            "07_rope/gemma3_local_layer",
            "07_rope/gemma3_global_layer",
            "15_language/olmo2_norm_all_heads",
            "15_language/cohere_layer_norm_heads",
            "16_biology/esmc_layer_norm_rope",
        ],
        traps: "Henry et al. norm by l2 and learn the scale; RMS with weights is later models'. Gemma 3's weights are 1 + w; \
                Gemma scales by query_pre_attn_scalar^(-1/2).",
        spec: Some(|| {
            small(|spec| {
                let mut norm = Norm::new(NormKind::Rms, 1e-6);
                norm.weights = true;
                spec.norm = Some(norm);
                spec.rotary = Some(Rotary::new(Pairing::Half, 32, 1_000_000.0));
                spec.mask = Mask::causal();
            })
        }),
        ..ROW
    },
    System {
        name: "sink",
        title: "attention sink",
        aliases: &["gpt-oss", "sinks", "smooth-softmax"],
        terms: &[Term::Rotation, Term::Sink],
        formula: "lse_i = log(exp(sink_h) + sum_j exp(s(i,j)))",
        place: "one more column, without content or position",
        variants: "learned for each head (GPT-OSS), zero (smooth softmax), of each query and head (Inkling 2)",
        paper: "OpenAI, gpt-oss-120b & gpt-oss-20b Model Card",
        year: 2025,
        golden: &[
            "07_rope/gpt_oss_sinks_full",
            "07_rope/gpt_oss_sinks_sliding",
            "12_ort/gqa_smooth_softmax",
            "15_language/inkling2_query_sinks",
        ],
        traps: "The sink is neither scaled nor rotated, and counts once however the keys are split.",
        spec: Some(|| {
            small(|spec| {
                spec.rotary = Some(Rotary::new(Pairing::Half, 32, 150_000.0));
                (spec.sink, spec.mask) = (Some(Sink::Learned), Mask::causal());
            })
        }),
        ..ROW
    },
    System {
        name: "linear-attention",
        title: "linear attention with RoPE",
        aliases: &["roformer-linear"],
        terms: &[Term::Rotation, Term::Linear],
        formula: "o_i = sum_j <R(m) phi(q_i), R(n) phi(k_j)> v_j / sum_j <phi(q_i), phi(k_j)>",
        place: "content-content, turned in the numerator only; no softmax",
        variants: "causal, bidirectional; elu and relu features; initial state, state output",
        paper: "Su et al., RoFormer: Enhanced Transformer with Rotary Position Embedding, section 3.3",
        year: 2021,
        golden: &[
            "11_linear_attention/roformer_linear",
            "11_linear_attention/roformer_linear_causal",
            "13_diffusion/sana_video_linear_rope",
        ],
        traps: "The denominator is not rotated, so weights may be negative and need not add up to 1.",
        spec: Some(|| {
            linear(|linear| {
                (linear.features, linear.rotate_features) = (FeatureMap::Elu, true);
                linear.normalizer = Some(Normalizer::new(1e-6, 0.0));
            })
        }),
        ..ROW
    },
    System {
        name: "performer",
        title: "Performer with RoPE",
        aliases: &[],
        terms: &[Term::Rotation, Term::Linear],
        formula: "o_i = <phi(R(m) q_i), sum_j phi(R(n) k_j) v_j> / <phi(R(m) q_i), sum_j phi(R(n) k_j)>",
        place: "content-content, turned before the feature map; no softmax",
        variants: "causal, bidirectional",
        paper: "Choromanski et al., Rethinking Attention with Performers",
        year: 2021,
        golden: &["11_linear_attention/performer_rotary", "11_linear_attention/performer_rotary_causal"],
        traps: "It rotates before the feature map, RoFormer after it.",
        spec: Some(|| {
            linear(|linear| {
                linear.features = FeatureMap::Softmax { count: 64, eps: 1e-4 };
                linear.normalizer = Some(Normalizer::new(0.0, 0.0));
            })
        }),
        ..ROW
    },
    System {
        name: "retention",
        title: "retention",
        aliases: &["retnet"],
        terms: &[Term::Rotation, Term::Linear],
        formula: "o_i = scale sum_(j <= i) gamma_h^(i - j) <R(m) q_i, R(n) k_j> v_j",
        place: "content-content, turned, times a power of the distance; no softmax",
        variants: "a decay for each head; initial state, state output; without a rotation",
        paper: "Sun et al., Retentive Network: A Successor to Transformer for Large Language Models",
        year: 2023,
        golden: &["11_linear_attention/retnet_rotated", "11_linear_attention/retention"],
        traps: "gamma_h = 1 - 2^(-5 - h) with h from 0. There is no denominator. RetNet's frequencies are theta^(-p / (d/2 - 1)), \
                and a norm of each head stands behind; fla's function is the part behind the rotation.",
        spec: Some(|| linear(|linear| linear.decay = Some(Decay::Retention))),
        ..ROW
    },
    System {
        name: "rerope",
        title: "ReRoPE",
        aliases: &["rectified-rope"],
        terms: &[Term::Temperature, Term::Rotation],
        formula: "<R(m) q_i, R(n) k_j> where m - n < w, else <R(w) q_i, k_j>",
        place: "content-content, turned by a distance that stays at a window",
        variants: "with or without a factor of q that grows with ln(m + 1); one pass",
        paper: "Su, ReRoPE, kexue.fm/archives/9708",
        year: 2023,
        golden: &["15_language/rerope"],
        traps: "The window is a distance, not a number of keys. Leaky ReRoPE, whose far distances grow slower, is not here.",
        spec: Some(|| {
            small(|spec| {
                let mut rotary = Rotary::new(Pairing::Half, 32, 10_000.0);
                rotary.branches = Some(Branches::Clipped { window: 64 });
                (spec.rotary, spec.mask) = (Some(rotary), Mask::causal());
                spec.temperature = Some(Temperature::log_n(128));
            })
        }),
        ..ROW
    },
    System {
        name: "self-extend",
        title: "Self-Extend",
        aliases: &["grouped-attention", "selfextend"],
        terms: &[Term::Rotation],
        formula: "<R(m) q_i, R(n) k_j> where m - n < w, else <R(floor(m/g) + w - floor(w/g)) q_i, R(floor(n/g)) k_j>",
        place: "content-content, turned by distances that count groups beyond a window",
        variants: "any window and group; one pass",
        paper: "Jin et al., LLM Maybe LongLM: Self-Extend LLM Context Window Without Tuning",
        year: 2024,
        golden: &["15_language/self_extend"],
        traps: "Both halves are floors by themselves: the distance of groups is no function of m - n.",
        spec: Some(|| {
            small(|spec| {
                let mut rotary = Rotary::new(Pairing::Half, 32, 10_000.0);
                rotary.branches = Some(Branches::Grouped { window: 64, group: 4 });
                (spec.rotary, spec.mask) = (Some(rotary), Mask::causal());
            })
        }),
        ..ROW
    },
    System {
        name: "delta-rule",
        title: "delta rule",
        aliases: &["deltanet", "gated-delta-net", "gated-deltanet"],
        terms: &[Term::Rotation, Term::Linear],
        formula: "S_t = Gamma_t S_(t-1) + beta_t k_t^T (v_t - k_t Gamma_t S_(t-1)), o_t = scale q_t S_t",
        place: "content-content; a key takes back what the state says of it",
        variants: "a decay for each head, token or feature, or none; initial state, state output; a rotation",
        paper: "Schlag et al., Linear Transformers Are Secretly Fast Weight Programmers; with a decay Yang et al., Gated Delta Networks, 2024",
        year: 2021,
        golden: &["12_onnx/linear_attention_delta", "12_onnx/linear_attention_gated_delta_mqa"],
        traps: "The decay acts before the key looks at the state. Models make q and k unit vectors beforehand, and may repeat them for more \
                heads of v. States grow where beta |k|^2 is above 2.",
        spec: Some(|| linear(|linear| linear.delta = true)),
        ..ROW
    },
    System {
        name: "dense",
        title: "dense bias",
        aliases: &["attn_bias", "attn-mask", "onnx", "sdpa"],
        terms: &[Term::Cap, Term::Dense],
        formula: "cap(<q_i, k_j> scale) + D[b, h, i, j]",
        place: "content-content; the rest is the caller's",
        variants: "broadcast over batch, heads, queries; soft cap before it",
        paper: "ONNX and torch, operators Attention and scaled_dot_product_attention",
        year: 2025,
        golden: &["12_sdpa/bias_and_random_mask", "12_onnx/attention_4d_attn_mask_4d_causal"],
        traps: "The cap stands before the bias. torch's is_causal aligns top-left, caches bottom-right.",
        spec: Some(|| {
            small(|spec| {
                spec.logits_soft_cap = Some(30.0);
                spec.dense_bias = true;
            })
        }),
        ..ROW
    },
    System {
        name: "score-mod",
        title: "the user's own",
        aliases: &["score_mod", "mask_mod", "mask-mod", "flexattention"],
        terms: &[Term::ScoreMod, Term::MaskMod],
        formula: "s(i,j) = score_mod(s(i,j), b, h, i, j, m, n), visible(b, h, i, j) = mask_mod(b, h, i, j)",
        place: "any function of the score and its place",
        variants: "a WGSL function as text, and a Rust closure for the reference",
        paper: "Dong et al., Flex Attention: A Programming Model for Generating Optimized Attention Kernels",
        year: 2024,
        golden: &["12_sdpa/softcap_causal"],
        traps: "Loops need constant bounds; it runs after every built-in term.",
        spec: Some(|| {
            small(|spec| {
                let alibi = "fn score_mod(s: f32, at: ScoreAt) -> f32 { return s + 0.25 * f32(distance(at)); }";
                let documents = "fn mask_mod(at: ScoreAt) -> bool { return at.i / 16u == at.j / 16u; }";
                (spec.score_mod, spec.mask_mod) = (Some(alibi.into()), Some(documents.into()));
            })
        }),
        ..ROW
    },
    System {
        name: "axial-rope",
        title: "RoPE of several axes",
        aliases: &["flux", "flux2", "wan", "qwen-image", "cosmos", "hunyuan-video", "cogvideox", "allegro", "sam2"],
        terms: &[Term::Rotation],
        formula: "<R(m) q_i, R(n) k_j> / sqrt(d), the pairs of axis s turned by m_s theta_s^(-2p / d_s)",
        place: "content-content, turned by the distance along each axis",
        variants: "one to four axes, interleaved, half over the head, half of each axis; fractions as whole numbers of a unit",
        paper: "Black Forest Labs, FLUX; Kong et al., HunyuanVideo",
        year: 2024,
        golden: &[
            "13_diffusion/flux_joint",
            "13_diffusion/flux2_four_axes",
            "13_diffusion/qwen_image_joint",
            "13_diffusion/wan_3d",
            "13_diffusion/cosmos_3d_fps",
            "13_diffusion/cogvideox_fractional",
            "13_diffusion/allegro_thirds",
            "14_vision/sam2_memory_attention",
        ],
        traps: "Each axis has frequencies of its own, from 1 down: sections of one list are m-RoPE. Text stands at 0, counts along one \
                axis, or on all axes from the largest side on. Cosmos scales theta by axis, and 24 / fps counts as a frame.",
        spec: Some(|| {
            small(|spec| {
                spec.rotary = Rotary::axes(&[(8, 1e4), (12, 1e4), (12, 1e4)], Pairing::Interleaved).ok();
                spec.positions = Positions::Ids;
            })
        }),
        ..ROW
    },
    System {
        name: "mixed-rope",
        title: "mixed RoPE",
        aliases: &["rope-mixed", "mochi", "ltx", "ltx-video"],
        terms: &[Term::Rotation],
        formula: "<R_h(m) q_i, R_h(n) k_j> / sqrt(d), pair p of head h turned by sum_s F[h, p, s] m_s",
        place: "content-content, turned by a direction of each head and pair",
        variants: "learned (RoPE-ViT, Mochi), by a rule over the whole width (LTX-Video); one to four axes",
        paper: "Heo et al., Rotary Position Embedding for Vision Transformer",
        year: 2024,
        golden: &["14_vision/rope_vit_mixed", "13_diffusion/mochi_mixed_per_head", "13_diffusion/ltx_per_head"],
        traps: "LTX-Video turns the width before heads are split, so no list of d / 2 frequencies serves all heads; its first pairs \
                may stand still.",
        spec: Some(|| {
            small(|spec| {
                let f: Vec<f64> = (0..2 * spec.num_kv_heads * 16).map(|n| 0.5f64.powi(n as i32 % 16)).collect();
                spec.rotary = Rotary::rope_mixed(Pairing::Interleaved, 2, spec.num_kv_heads, &f).ok();
                spec.positions = Positions::Ids;
            })
        }),
        ..ROW
    },
    System {
        name: "vjepa2",
        title: "V-JEPA 2",
        aliases: &["v-jepa-2"],
        terms: &[Term::Rotation],
        formula: "(a, b) -> (a cos x - b sin x, a sin y + b cos y), x and y the angles of two frequencies",
        place: "content-content; lengths change, so scores depend on absolute positions",
        variants: "three axes",
        paper: "Assran et al., V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and Planning",
        year: 2025,
        golden: &["14_vision/vjepa2_tiled"],
        traps: "Frequencies are tiled where pairs interleave: no rotation, but what checkpoints were trained with.",
        spec: Some(|| {
            small(|spec| {
                spec.rotary = Rotary::vjepa2(spec.head_dim, 1e4).ok();
                spec.positions = Positions::Ids;
            })
        }),
        ..ROW
    },
    System {
        name: "log-n",
        title: "scaling by log n",
        aliases: &["ministral", "ministral3", "mistral4", "mistral-large-4", "ssmax"],
        terms: &[Term::Temperature, Term::Rotation],
        formula: "tau_i = max(1, ln(m + 1) / ln L); base_h + scale_h ln(m + 1); 1 + beta ln(1 + floor(m / L))",
        place: "content-content, sharpened as the query's position grows",
        variants: "log n; learned for each head (Mistral Large 4); in steps from m, not m + 1 (Ministral 3, Mistral 4)",
        paper: "Su, On the scale operation of attention from the entropy invariance (kexue.fm 8823)",
        year: 2021,
        golden: &["15_language/ministral3_temperature", "15_language/mistral_large4_head_temperature"],
        traps: "Position L - 1 has tau 1 in Ministral 3, and 1 + beta ln 2 by Llama 4's formula.",
        spec: Some(|| {
            small(|spec| {
                spec.temperature = Some(Temperature::log_n(512));
                spec.rotary = Some(Rotary::new(Pairing::Half, 32, 1_000_000.0));
                spec.mask = Mask::causal();
            })
        }),
        ..ROW
    },
    System {
        name: "deepseek-v4",
        title: "outputs turned back",
        aliases: &["r_o", "rotary-output"],
        terms: &[Term::Rotation, Term::ValueRotation, Term::OutputRotation, Term::Sink],
        formula: "o_i = R(-m) sum_j p(i,j) R(n) v_j",
        place: "content-content; values enter turned by the distance",
        variants: "one kv head whose rows are key and value",
        paper: "DeepSeek, DeepSeek-V4 (model card and published code)",
        year: 2026,
        golden: &["15_language/deepseek_v4_sliding", "15_language/deepseek_v4_head512"],
        traps: "The last elements turn, interleaved. Values rotated without turning outputs back depend on absolute positions.",
        spec: Some(|| {
            small(|spec| {
                let mut rotary = Rotary::new(Pairing::Interleaved, 8, 10_000.0);
                (rotary.values, rotary.output, rotary.offset) = (true, true, spec.head_dim - 8);
                (spec.rotary, spec.sink, spec.mask) = (Some(rotary), Some(Sink::Learned), Mask::causal());
            })
        }),
        ..ROW
    },
    System {
        name: "forgetting",
        title: "forgetting attention",
        aliases: &["fox", "forgetting-transformer"],
        terms: &[Term::KeyBias],
        formula: "<q_i, k_j> / sqrt(d) + c_i - c_j, c_i = sum of log f over the tokens up to i",
        place: "content-content; a distance that the content counts",
        variants: "any gates, summed by the caller in f64; two words on devices",
        paper: "Lin et al., Forgetting Transformer: Softmax Attention with a Forget Gate",
        year: 2025,
        golden: &["15_language/forgetting_attention"],
        traps: "As a bias of keys alone, c grows with the length, and f32 differences lose their digits.",
        spec: Some(|| small(|spec| (spec.key_bias, spec.mask) = (true, Mask::causal()))),
        ..ROW
    },
    System {
        name: "inkling",
        title: "Inkling",
        aliases: &["relative-states"],
        terms: &[Term::Temperature, Term::QueryRelative],
        formula: "tau_i (<q_i, k_j> / d + <r_i, P[m - n]>), tau_i = 1 + alpha ln(max((m + 1) / floor, 1))",
        place: "content-content, and content-position by vectors of its own",
        variants: "a query of its own, of any width; distances beyond the table count 0",
        paper: "Inkling (model card and published code)",
        year: 2026,
        golden: &["15_language/inkling_relative_states"],
        traps: "The temperature multiplies the bias too: give A queries that hold it. Its logarithm has no floor.",
        spec: Some(|| {
            small(|spec| {
                let index = IndexMap::Distance { min: 0, max: 10, outside: Outside::Zero, stream: 0, reversed: true };
                let mut term = table(RelativeSide::Key, index);
                (term.scale, term.own) = (Some(1.0), Some(8));
                spec.relative = vec![term];
                (spec.temperature, spec.mask) = (Some(Temperature::smooth(0.1, 8)), Mask::causal());
            })
        }),
        ..ROW
    },
    System {
        name: "gemma-audio",
        title: "Gemma audio",
        aliases: &["gemma3n-audio", "gemma4-audio"],
        terms: &[Term::Cap, Term::QueryRelative],
        formula: "c tanh((<q_i, k_j> + <q_i, E[n - m]>) / c)",
        place: "content-content and content-position, capped together",
        variants: "the cap behind every additive term",
        paper: "Google, Gemma 3n (model card and published code)",
        year: 2025,
        golden: &["15_language/gemma4_audio_local"],
        traps: "Other models cap the content alone, before any bias.",
        spec: Some(|| {
            small(|spec| {
                let index = IndexMap::Distance { min: -4, max: 2, outside: Outside::Zero, stream: 0, reversed: false };
                let mut term = table(RelativeSide::Key, index);
                (term.scale, term.per_head) = (Some(1.0), true);
                spec.relative = vec![term];
                (spec.logits_soft_cap, spec.soft_cap_last, spec.softmax_scale) = (Some(5.0), true, Some(1.0));
            })
        }),
        ..ROW
    },
    System {
        name: "levit",
        title: "LeViT",
        aliases: &["tinyvit", "efficientformer"],
        terms: &[Term::Bias],
        formula: "<q_i, k_j> / sqrt(d) + table[h, |dy| columns + |dx|]",
        place: "content-content, and a bias of the offset's size",
        variants: "any grid, the table expanded over signed offsets",
        paper: "Graham et al., LeViT: a Vision Transformer in ConvNet's Clothing for Faster Inference",
        year: 2021,
        golden: &["14_vision/levit_attention_biases"],
        traps: "Offsets have no sign: one row serves up to four.",
        spec: Some(|| {
            small(|spec| {
                (spec.bias, spec.positions) = (vec![Bias::Indexed { index: window(false) }], Positions::Ids);
            })
        }),
        ..ROW
    },
    System {
        name: "pope",
        title: "PoPE",
        aliases: &["polar"],
        terms: &[Term::Rotation],
        formula: "sum_p softplus(q_p) softplus(k_p) cos((n - m) f_p + phase_(h,p)) / sqrt(d)",
        place: "content by magnitudes, position by angles",
        variants: "as RoPE of heads twice as long, the phases in the keys",
        paper: "Gopalakrishnan et al., Decoupling the \"What\" and \"Where\" With Polar Coordinate Positional Embeddings",
        year: 2025,
        golden: &["17_other/polar_embedding"],
        traps: "Every element has a frequency of its own: theta^(-p / d).",
        spec: Some(|| {
            small(|spec| {
                let f = (0..spec.head_dim / 2).map(|p| 1e4f64.powf(-2.0 * p as f64 / spec.head_dim as f64)).collect();
                (spec.rotary, spec.mask) = (Some(Rotary::with_inv_freq(Pairing::Half, f)), Mask::causal());
            })
        }),
        ..ROW
    },
    System {
        name: "cope",
        title: "CoPE",
        aliases: &["contextual-position"],
        terms: &[],
        formula: "<q_i, k_j + e[c(i,j)]>, c(i,j) = sum of sigmoid(<q_i, k_l>) from l = j to the last visible key",
        place: "content-position, with a position that the content counts",
        variants: "",
        paper: "Golovneva et al., Contextual Position Encoding: Learning to Count What's Important",
        year: 2024,
        golden: &["10_other/cope_causal"],
        traps: "Masked keys count 0.",
        missing: Some(
            "no: its position is a sum over scores of the row, carried from key to key; no term here carries one",
        ),
        ..ROW
    },
];

/// For a call of the extended length.
fn dynamic(s: Stretch) -> RopeScaling {
    let seq_len = Some((s.trained as f64 * s.factor) as u32);
    RopeScaling::Dynamic { factor: s.factor, max_position_embeddings: s.trained, seq_len }
}

/// Published lists are the result of a search; these, for demonstrations, leave the first eighth of the pairs and divide
/// the second half by the factor, with a geometric series between.
fn longrope(s: Stretch) -> RopeScaling {
    // of more the scaling itself says that they are too many
    let pairs = (s.rotary_dim.min(MAX_ROTARY_DIM) / 2) as usize;
    let long = (0..pairs).map(|p| s.factor.powf(((p as f64 / pairs as f64 - 0.125) / 0.375).clamp(0.0, 1.0)));
    let mut scaling = LongRope::new(vec![1.0; pairs], long.collect(), s.trained);
    scaling.factor = Some(s.factor);
    scaling.seq_len = Some((s.trained as f64 * s.factor) as u32);
    RopeScaling::LongRope(scaling)
}

/// With the factors that Llama 3.1 was published with.
fn llama3(s: Stretch) -> RopeScaling {
    RopeScaling::Llama3 {
        factor: s.factor,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: s.trained,
    }
}
