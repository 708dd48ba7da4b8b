//! What a compiler's listing holds: blocks, loops, instructions by kind, loads in flight. One reader a maker.

mod amd;
mod intel;
mod nvidia;

use crate::card::Maker;
use petgraph::algo::dominators::simple_fast;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// What an instruction keeps busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// f32 multiply-add, or two of them at once.
    Fma,
    /// Of the matrix units.
    Matrix,
    /// exp2, log2, reciprocals, roots.
    Special,
    /// Any other work of all lanes: arithmetic, integers, moves, comparisons.
    Valu,
    /// What the whole subgroup does once, loads of constants among it.
    Scalar,
    /// Workgroup memory.
    Shared,
    /// Of buffers, by lanes.
    Load,
    Store,
    /// Private memory: arrays that stay out of registers, and spills.
    Scratch,
    Wait,
    Barrier,
    Branch,
}

/// Which loads must have come when an instruction starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaits {
    Nothing,
    /// All but the newest.
    AllBut(usize),
    /// Those of these tokens, a bit each.
    Tokens(u32),
}

#[derive(Debug, Clone, Copy)]
struct Instruction {
    kind: Kind,
    /// Multiply-adds of a lane.
    multiply_adds: f64,
    /// Bytes that a lane moves.
    bytes: u32,
    awaits: Awaits,
    /// What a later instruction awaits of this one; every load has one.
    token: Option<u32>,
}

impl Instruction {
    fn of(kind: Kind) -> Self {
        Instruction { kind, multiply_adds: 0.0, bytes: 0, awaits: Awaits::Nothing, token: None }
    }
}

/// A listing that was read: blocks that control enters at their start alone.
struct Program {
    blocks: Vec<Block>,
    /// From a block to the labels that its last instruction may jump to.
    jumps: Vec<(usize, String)>,
    /// Blocks whose end control does not pass.
    ends: BTreeSet<usize>,
}

#[derive(Default)]
struct Block {
    label: String,
    instructions: Vec<Instruction>,
}

impl Program {
    fn new() -> Self {
        Program { blocks: vec![Block::default()], jumps: vec![], ends: BTreeSet::new() }
    }
    fn start(&mut self, label: &str) {
        self.blocks.push(Block { label: label.into(), instructions: vec![] });
    }
    fn push(&mut self, instruction: Instruction) {
        self.blocks.last_mut().into_iter().for_each(|block| block.instructions.push(instruction));
    }
    /// The instruction before was a jump to one of the labels; `passes`: or to what stands behind it.
    fn jump<'a>(&mut self, labels: impl IntoIterator<Item = &'a str>, passes: bool) {
        let last = self.blocks.len() - 1;
        self.jumps.extend(labels.into_iter().map(|label| (last, label.to_string())));
        if !passes {
            self.ends.insert(last);
        }
        self.start("");
    }

    /// Its loops: the block where each begins, its blocks, and those of them that every round goes through. Two that begin in one place are one.
    fn loops(&self) -> BTreeMap<usize, [BTreeSet<usize>; 2]> {
        let labels: HashMap<&str, usize> = self.blocks.iter().map(|block| block.label.as_str()).zip(0..).collect();
        let jumps = self.jumps.iter().filter_map(|(from, label)| Some((*from, *labels.get(label.as_str())?)));
        let passes = (1..self.blocks.len()).filter(|to| !self.ends.contains(&(to - 1))).map(|to| (to - 1, to));
        let mut graph: DiGraph<(), ()> = DiGraph::new();
        let nodes: Vec<NodeIndex> = self.blocks.iter().map(|_| graph.add_node(())).collect();
        jumps.chain(passes).for_each(|(from, to)| {
            graph.add_edge(nodes[from], nodes[to], ());
        });

        let dominators = simple_fast(&graph, nodes[0]);
        let mut loops: BTreeMap<usize, [BTreeSet<usize>; 2]> = BTreeMap::new();
        for edge in graph.edge_references() {
            let (last, first) = (edge.source(), edge.target());
            if !dominators.dominators(last).is_some_and(|mut all| all.any(|one| one == first)) {
                continue;
            }
            let above: BTreeSet<usize> =
                dominators.dominators(last).into_iter().flatten().map(NodeIndex::index).collect();
            let [body, always] = loops.entry(first.index()).or_insert_with(|| [[first.index()].into(), above.clone()]);
            always.retain(|block| above.contains(block));
            let mut open = vec![last];
            while let Some(node) = open.pop() {
                if body.insert(node.index()) {
                    open.extend(graph.neighbors_directed(node, petgraph::Incoming));
                }
            }
        }
        loops.values_mut().for_each(|[body, always]| always.retain(|block| body.contains(block)));
        loops
    }
}

/// A loop's own instructions, without those of loops inside it; or a whole program's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// The block where it begins, as the listing has it.
    pub label: String,
    /// The loop around it, by its place in the list.
    pub within: Option<usize>,
    pub instructions: u32,
    pub fma: u32,
    /// Multiply-adds of a lane: an instruction may be two.
    pub multiply_adds: f64,
    pub matrix: u32,
    pub special: u32,
    pub valu: u32,
    pub scalar: u32,
    pub shared: u32,
    /// Bytes of workgroup memory that a lane reads and writes.
    pub shared_bytes: u32,
    pub loads: u32,
    pub load_bytes: u32,
    pub stores: u32,
    pub scratch: u32,
    pub waits: u32,
    pub barriers: u32,
    pub branches: u32,
    /// Loads of a lane that are on their way at once, at most, in the order of the listing.
    pub loads_in_flight: u32,
    /// Bytes of these.
    pub bytes_in_flight: u32,
}

impl Counts {
    fn of<'a>(blocks: impl Iterator<Item = &'a Block>) -> Self {
        let mut counts = Counts::default();
        let mut flight: VecDeque<Instruction> = VecDeque::new();
        for instruction in blocks.flat_map(|block| &block.instructions) {
            counts.add(instruction);
            match instruction.awaits {
                Awaits::Nothing => {}
                Awaits::AllBut(newest) => drop(flight.drain(..flight.len().saturating_sub(newest))),
                Awaits::Tokens(tokens) => flight.retain(|one| one.token.is_none_or(|token| tokens >> token & 1 == 0)),
            }
            if instruction.token.is_some() {
                flight.push_back(*instruction);
            }
            let loads = flight.iter().filter(|one| one.kind == Kind::Load);
            let (n, bytes) = loads.fold((0, 0), |(n, bytes), load| (n + 1, bytes + load.bytes));
            counts.loads_in_flight = counts.loads_in_flight.max(n);
            counts.bytes_in_flight = counts.bytes_in_flight.max(bytes);
        }
        counts
    }

    fn add(&mut self, instruction: &Instruction) {
        self.instructions += 1;
        self.multiply_adds += instruction.multiply_adds;
        let one = match instruction.kind {
            Kind::Fma => &mut self.fma,
            Kind::Matrix => &mut self.matrix,
            Kind::Special => &mut self.special,
            Kind::Valu => &mut self.valu,
            Kind::Scalar => &mut self.scalar,
            Kind::Shared => {
                self.shared_bytes += instruction.bytes;
                &mut self.shared
            }
            Kind::Load => {
                self.load_bytes += instruction.bytes;
                &mut self.loads
            }
            Kind::Store => &mut self.stores,
            Kind::Scratch => &mut self.scratch,
            Kind::Wait => &mut self.waits,
            Kind::Barrier => &mut self.barriers,
            Kind::Branch => &mut self.branches,
        };
        *one += 1;
    }

    /// Bytes of workgroup memory a multiply-add; none where there are no multiply-adds to speak of.
    pub fn shared_bytes_a_multiply_add(&self) -> Option<f64> {
        (self.multiply_adds >= 8.0).then(|| self.shared_bytes as f64 / self.multiply_adds)
    }
}

/// What a listing holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Contents {
    pub whole: Counts,
    /// Every loop, in the order of the listing.
    pub loops: Vec<Counts>,
    /// The same loops without what is behind a branch that a round may pass by.
    pub always: Vec<Counts>,
}

impl Contents {
    /// Reads a listing; `scratch`: the compiler says that there is private memory; `subgroup`: its lanes.
    pub fn read(maker: Maker, listing: &str, scratch: bool, subgroup: u32) -> Self {
        Self::of(&match maker {
            Maker::Amd { stores_are_counted } => amd::read(listing, stores_are_counted, scratch),
            Maker::Nvidia => nvidia::read(listing),
            Maker::Intel => intel::read(listing, subgroup),
        })
    }

    fn of(program: &Program) -> Self {
        let loops: Vec<(usize, [BTreeSet<usize>; 2])> = program.loops().into_iter().collect();
        let of = |(first, [body, _]): &(usize, [BTreeSet<usize>; 2]), counted: &BTreeSet<usize>| {
            let holds = |other: &BTreeSet<usize>| other.len() > body.len() && body.is_subset(other);
            let around = loops.iter().enumerate().filter(|(_, (_, [other, _]))| holds(other));
            let inside = |block: &usize| {
                let mut smaller = loops.iter().filter(|(at, [other, _])| at != first && other.is_subset(body));
                smaller.any(|(_, [other, _])| other.contains(block))
            };
            Counts {
                label: program.blocks[*first].label.clone(),
                within: around.min_by_key(|(_, (_, [other, _]))| other.len()).map(|(place, _)| place),
                ..Counts::of(counted.iter().filter(|block| !inside(block)).map(|block| &program.blocks[*block]))
            }
        };
        let [all, always] = [0, 1].map(|which| loops.iter().map(|one| of(one, &one.1[which])).collect());
        Contents { whole: Counts::of(program.blocks.iter()), loops: all, always }
    }

    /// Loads that a lane has on their way, and their bytes: the least of the loops that load in the one with the most products; the
    /// most of the others where none of those loads; of the whole text where no loop does.
    pub fn in_flight(&self) -> (u32, u32) {
        let of = |counts: &Counts| (counts.loads_in_flight, counts.bytes_in_flight);
        let root = root(&self.loops);
        let main = (0..self.loops.len()).filter(|i| root.is_some_and(|root| below(&self.loops, *i, root)));
        let main = main.map(|i| &self.loops[i]).filter(|counts| counts.loads > 0).map(of);
        let any = || self.loops.iter().filter(|counts| counts.loads > 0).map(of).max_by_key(|(_, bytes)| *bytes);
        main.min_by_key(|(_, bytes)| *bytes).or_else(any).unwrap_or(of(&self.whole))
    }
}

/// The outermost loop with the most products in it and below it.
pub fn root(loops: &[Counts]) -> Option<usize> {
    let products = |one: &Counts| one.multiply_adds + 2048.0 * one.matrix as f64;
    let sum =
        |root: usize| -> f64 { (0..loops.len()).filter(|i| below(loops, *i, root)).map(|i| products(&loops[i])).sum() };
    let outermost = (0..loops.len()).filter(|i| loops[*i].within.is_none());
    outermost.max_by(|a, b| sum(*a).total_cmp(&sum(*b)))
}

/// Whether a loop is another one or within it.
pub fn below(loops: &[Counts], inner: usize, outer: usize) -> bool {
    let mut at = Some(inner);
    while let Some(i) = at {
        if i == outer {
            return true;
        }
        at = loops[i].within;
    }
    false
}

/// The digits at the start of a text.
fn number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(bytes: u32, token: u32) -> Instruction {
        Instruction { bytes, token: Some(token), ..Instruction::of(Kind::Load) }
    }
    fn awaiting(awaits: Awaits) -> Instruction {
        Instruction { awaits, ..Instruction::of(Kind::Valu) }
    }
    fn program(blocks: &[(&str, &[Instruction], Option<&str>)]) -> Program {
        let mut program = Program::new();
        for (label, instructions, jump) in blocks {
            program.start(label);
            instructions.iter().for_each(|one| program.push(*one));
            if jump.is_some() {
                program.jump(*jump, true);
            }
        }
        program
    }

    #[test]
    fn own_instructions_of_nested_loops() {
        let fma = Instruction { multiply_adds: 2.0, ..Instruction::of(Kind::Fma) };
        let shared = Instruction { bytes: 16, ..Instruction::of(Kind::Shared) };
        let branch = Instruction::of(Kind::Branch);
        let contents = Contents::of(&program(&[
            ("a", &[fma], None),
            ("b", &[shared, branch], Some("e")),
            ("c", &[fma; 4], Some("c")),
            ("d", &[branch], Some("b")),
            ("e", &[fma], None),
        ]));
        let [outer, inner] = contents.loops.as_slice() else { panic!("{:?}", contents.loops) };
        assert_eq!((outer.label.as_str(), outer.within, outer.instructions), ("b", None, 3));
        assert_eq!((outer.shared_bytes, outer.branches, outer.shared_bytes_a_multiply_add()), (16, 2, None));
        assert_eq!((inner.label.as_str(), inner.within, inner.fma, inner.multiply_adds), ("c", Some(0), 4, 8.0));
        assert_eq!((contents.whole.instructions, contents.whole.fma), (9, 6));
    }

    #[test]
    fn what_a_round_may_pass_by_is_counted_apart() {
        let (fma, branch) = (Instruction::of(Kind::Fma), Instruction::of(Kind::Branch));
        let contents = Contents::of(&program(&[
            ("a", &[fma], None),
            ("b", &[fma, branch], Some("d")),
            ("c", &[fma; 5], None),
            ("d", &[fma, branch], Some("b")),
        ]));
        let [[all], [always]] = [contents.loops.as_slice(), contents.always.as_slice()] else { panic!("one loop") };
        assert_eq!((all.fma, always.fma, always.branches, always.label.as_str()), (7, 2, 2, "b"));
    }

    #[test]
    fn a_loop_with_a_continue_is_one() {
        let one = [Instruction::of(Kind::Valu)];
        let contents = Contents::of(&program(&[("a", &one, None), ("b", &one, Some("a")), ("c", &one, Some("a"))]));
        let [only] = contents.loops.as_slice() else { panic!("{:?}", contents.loops) };
        assert_eq!((only.label.as_str(), only.instructions), ("a", 3));
    }

    /// What a loop leaves for stands before or behind it in listings, and is not of it.
    #[test]
    fn a_loop_is_what_leads_back() {
        let one = [Instruction::of(Kind::Valu)];
        let mut text = Program::new();
        for (label, jump, passes) in [("a", "c", false), ("b", "z", false), ("c", "e", true), ("d", "c", false)] {
            text.start(label);
            one.iter().for_each(|one| text.push(*one));
            text.jump([jump], passes);
        }
        text.start("e");
        text.jump(["b"], true);
        text.start("f");
        text.jump(["c"], false);
        let loops = Contents::of(&text).loops;
        assert_eq!(loops.iter().map(|one| (one.label.as_str(), one.instructions)).collect::<Vec<_>>(), [("c", 2)]);
    }

    #[test]
    fn flights_end_where_they_are_awaited() {
        let flight = |all: &[Instruction]| {
            let contents = Contents::of(&program(&[("a", all, None)]));
            contents.in_flight()
        };
        assert_eq!(flight(&[load(16, 0), load(16, 0), awaiting(Awaits::AllBut(0)), load(4, 0)]), (2, 32));
        assert_eq!(flight(&[load(16, 0), load(16, 0), awaiting(Awaits::AllBut(1)), load(4, 0), load(4, 0)]), (3, 32));
        let tokens = [load(8, 0), load(8, 1), awaiting(Awaits::Tokens(0b01)), load(8, 2), load(8, 2)];
        assert_eq!(flight(&tokens), (3, 24));
        let stored = Instruction { token: Some(0), ..Instruction::of(Kind::Store) };
        assert_eq!(flight(&[load(8, 0), stored, awaiting(Awaits::AllBut(1)), load(8, 0)]), (1, 8));
    }

    #[test]
    fn the_figure_of_a_text() {
        let many = [load(16, 0); 3];
        let end = awaiting(Awaits::AllBut(0));
        let [one, two] = [1, 2].map(|n| [[load(4, 0)].repeat(n), vec![end]].concat());
        let fma = Instruction { multiply_adds: 8.0, ..Instruction::of(Kind::Fma) };
        let of = |blocks: &[(&str, &[Instruction], Option<&str>)]| Contents::of(&program(blocks)).in_flight();
        // of two loops without products the better one
        assert_eq!(of(&[("a", &many, None), ("b", &one, Some("b")), ("c", &two, Some("c"))]), (2, 8));
        // the least of what the main loop holds, whatever others do
        let main: [(&str, &[Instruction], Option<&str>); 6] = [
            ("a", &many, Some("a")),
            ("b", &[end], None),
            ("c", &two, Some("c")),
            ("d", &one, Some("d")),
            ("e", &[fma], Some("e")),
            ("f", &[end], Some("b")),
        ];
        assert_eq!(of(&main), (1, 4));
        assert_eq!(of(&[("a", &many, None), ("b", &[end], Some("b"))]), (3, 48));
    }
}
