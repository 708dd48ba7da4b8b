//! A family is one way to compute a call: its candidates, its dispatches, its files. What families share, and the calls to each.

use crate::error::Result;
use crate::plan::call::Call;
use crate::plan::family::{block, coop, decode, lanes, prepare, rows, tile, turns, wide};
use crate::plan::grid::LaidOut;
use crate::plan::kernel::Kernel;
use crate::plan::slots::ShaderFiles;
use crate::plan::tables::TableLayout;
use crate::plan::tuning::tuning::{Family, Tuning};
use crate::shader::layout::Slot;

impl<'a> ShaderFiles<'a> {
    pub(crate) fn new(call: &Call<'a>, tuning: &Tuning, carry: bool, gathered: Vec<bool>) -> Self {
        let Call { kernel, spec, .. } = *call;
        let rolled_loops = call.limits.rolled_loops;
        let tables = TableLayout::new(spec);
        let (files, slots, glue) = (Vec::new(), Vec::new(), String::new());
        let mut files = ShaderFiles {
            spec,
            tuning: *tuning,
            kernel,
            cache: call.shape.cache,
            files,
            slots,
            glue,
            tables,
            gathered,
            full_ranges: String::new(),
            subgroups: tile::takes_subgroups(call, tuning),
        };
        files.choose(call);
        if kernel == Kernel::Attention && tuning.family == Family::Rows {
            files.add("common/online_softmax.wgsl", &[]);
            files.add(if carry { "families/carry_work.wgsl" } else { "families/carry_none.wgsl" }, &[]);
            files.output();
        }
        files.add(if rolled_loops { "families/loops_rolled.wgsl" } else { "families/loops_constant.wgsl" }, &[]);
        files.slots.sort();
        files.slots.dedup();
        files
    }
    fn choose(&mut self, call: &Call) {
        let Call { kernel, spec, shape, limits, aligned, .. } = *call;
        match kernel {
            Kernel::Attention if self.tuning.family == Family::Coop => self.coop(call),
            Kernel::Attention if self.tuning.family == Family::Lanes => {
                self.lanes(aligned, prepare::Prepared::of(spec, shape))
            }
            Kernel::Attention if self.tuning.family == Family::Block => self.block(aligned),
            Kernel::Attention if self.tuning.family == Family::Tile => self.tile(aligned),
            Kernel::Attention if self.tuning.family == Family::Decode => self.decode(aligned, decode::by_lanes(limits)),
            Kernel::Attention if self.tuning.family == Family::Wide => self.wide(),
            Kernel::Attention => {
                self.add("kernel/attention.wgsl", &[Slot::Work]);
                self.scores(aligned);
                self.value_rows(aligned);
                self.values();
                self.sink();
                self.out(aligned);
            }
            Kernel::Linear => self.linear(aligned, limits.rolled_loops),
            Kernel::Scores => {
                self.add("kernel/scores.wgsl", &[Slot::Out]);
                self.scores(aligned);
            }
            Kernel::RotateQ { in_place } => {
                let placed = spec.norm.is_some_and(|n| n.placed());
                self.add(if placed { "tensor/token_query_placed.wgsl" } else { "tensor/token_query.wgsl" }, &[]);
                self.sequence();
                self.q_position();
                self.rotate_source(aligned, in_place);
            }
            // have lists of their own: see `Plan::embed` and `Plan::merge`
            Kernel::Embed { .. } | Kernel::Merge => return,
            Kernel::Append { .. } => self.append(aligned),
            Kernel::RotateK { in_place } => {
                let placed = spec.norm.is_some_and(|n| n.placed());
                self.add(if placed { "tensor/token_key_placed.wgsl" } else { "tensor/token_key.wgsl" }, &[]);
                self.sequence();
                self.k_position();
                self.kv_length();
                self.rotate_source(aligned, in_place);
            }
        }
        self.add("common/params.wgsl", &[Slot::Params, Slot::Chunk, Slot::Step]);
        self.storage(aligned);
    }
}

impl Family {
    /// Every family; what comes first is preferred where the table is silent.
    pub(crate) const ALL: [Family; 8] = [
        Family::Turns,
        Family::Wide,
        Family::Decode,
        Family::Coop,
        Family::Lanes,
        Family::Block,
        Family::Tile,
        Family::Rows,
    ];

    /// The tunings of this family that a call may take, the best guess first; none where it does not suit.
    pub(crate) fn candidates(self, call: &Call) -> Vec<Tuning> {
        if self != Family::Rows && call.spec.rows_alone() {
            return Vec::new();
        }
        match self {
            Family::Block => block::candidates(call),
            Family::Coop => coop::candidates(call),
            Family::Turns => turns::candidates(call),
            Family::Decode => decode::candidates(call),
            Family::Lanes => lanes::candidates(call),
            Family::Tile => tile::candidates(call),
            Family::Rows => vec![Tuning::of(Family::Rows)],
            Family::Wide => wide::candidates(call),
        }
    }

    pub(crate) fn lay_out(self, call: &Call, tuning: &Tuning) -> Result<LaidOut> {
        match self {
            Family::Block => block::lay_out(call, tuning),
            Family::Coop => coop::lay_out(call, tuning),
            Family::Turns => turns::lay_out(call, tuning),
            Family::Decode => decode::lay_out(call, tuning),
            Family::Lanes => lanes::lay_out(call, tuning),
            Family::Tile => tile::lay_out(call, tuning),
            Family::Rows => rows::lay_out(call),
            Family::Wide => wide::lay_out(call, tuning),
        }
    }
}
