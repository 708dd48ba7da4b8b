//! The order of the library's rooms, read from its sources: who uses whom, and that no arrow leads up or in a circle.

use petgraph::{algo::tarjan_scc, graphmap::DiGraphMap};
use proc_macro2::{Ident, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::RandomState;
use std::path::Path;
use std::sync::LazyLock;
use syn::visit::{self, Visit};
use syn::{AttrStyle, Attribute, Item, UseTree};

/// The rooms of the library, the lowest first. A room uses itself and what stands on the lines before its own.
const ORDER: [&[&str]; 7] = [
    &["error"],
    &["equation"],
    &["inputs", "shader", "hf"],
    &["reference", "plan"],
    &["check"],
    &["gpu"],
    &["catalogue"],
];
/// At most so many modules use each other in a circle.
const CIRCLE: usize = 3;
/// So many imports are followed from a name to its definition.
const HOPS: usize = 8;

/// The line of ORDER that names a room; the root, and a room without a place, stand above all.
fn rank(room: &str) -> usize {
    ORDER.iter().position(|line| line.contains(&room)).unwrap_or(ORDER.len())
}

/// The room of a module: the name after `crate`, which is a room of its own.
fn room(module: &str) -> &str {
    module.split("::").nth(1).unwrap_or(module)
}

/// The text of every file, by its path below `src`.
type Sources = BTreeMap<String, String>;
type Segments = Vec<String>;

/// What one module says.
#[derive(Default)]
struct Module {
    file: String,
    /// The names that it defines.
    items: BTreeSet<String>,
    /// The names that it imports, each with its path; `*` for all names.
    imports: Vec<(String, Segments)>,
    /// The other paths in it.
    paths: BTreeSet<Segments>,
}

impl Module {
    fn import(&mut self, path: &[String], tree: &UseTree) {
        let to = |name: &Ident| [path, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(inner) => self.import(&to(&inner.ident), &inner.tree),
            // `a::{self}` imports a
            UseTree::Name(name) if name.ident == "self" => {
                self.imports.extend(path.last().map(|name| (name.clone(), path.to_vec())));
            }
            UseTree::Name(name) => self.imports.push((name.ident.to_string(), to(&name.ident))),
            UseTree::Rename(name) => self.imports.push((name.rename.to_string(), to(&name.ident))),
            UseTree::Glob(_) => self.imports.push(("*".into(), path.to_vec())),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(path, tree)),
        }
    }

    /// A name alone needs no arrow: its import has one.
    fn path(&mut self, path: Segments) {
        if path.len() > 1 {
            self.paths.insert(path);
        }
    }

    /// The paths in what a macro is given, which need not be Rust; in the braces of a `use` they begin `before`.
    fn tokens(&mut self, before: &[String], tokens: TokenStream) {
        let (mut path, mut colons) = (Segments::new(), 0);
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Ident(name) => {
                    if path.is_empty() || colons != 2 {
                        self.path(std::mem::replace(&mut path, before.to_vec()));
                    }
                    path.push(name.to_string());
                }
                other => {
                    if let TokenTree::Group(group) = other {
                        self.tokens(if colons == 2 { &path } else { &[] }, group.stream());
                    }
                    self.path(std::mem::take(&mut path));
                }
            }
            colons = 0;
        }
        self.path(path);
    }
}

impl Visit<'_> for Module {
    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        self.import(&[], &item.tree);
    }
    fn visit_path(&mut self, path: &syn::Path) {
        self.path(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
    fn visit_macro(&mut self, call: &syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(&[], call.tokens.clone());
    }
    /// `pub(in path)` says who may use, not what is used.
    fn visit_visibility(&mut self, _: &syn::Visibility) {}
}

fn name_of(item: &Item) -> Option<&Ident> {
    match item {
        Item::Const(item) => Some(&item.ident),
        Item::Enum(item) => Some(&item.ident),
        Item::Fn(item) => Some(&item.sig.ident),
        Item::Macro(item) => item.ident.as_ref(),
        Item::Static(item) => Some(&item.ident),
        Item::Struct(item) => Some(&item.ident),
        Item::Trait(item) => Some(&item.ident),
        Item::Type(item) => Some(&item.ident),
        Item::Union(item) => Some(&item.ident),
        _ => None,
    }
}

/// `cfg(test)` or `cfg(all(test, ..))`: what is written otherwise counts as part of the library.
fn only_in_tests(attributes: &[Attribute]) -> bool {
    let conditions = attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    let mut texts = conditions.filter_map(|attribute| Some(attribute.meta.require_list().ok()?.tokens.to_string()));
    texts.any(|text| text == "test" || text.replace(' ', "").starts_with("all(test,"))
}

/// The modules of a library by path, from `crate` on.
struct Library<'a> {
    sources: &'a Sources,
    modules: BTreeMap<String, Module>,
    /// The files that no `mod` has named so far.
    undeclared: BTreeSet<&'a str>,
    /// What is wrong with files and items, whatever they use.
    misplaced: Vec<String>,
}

impl<'a> Library<'a> {
    fn of(sources: &'a Sources) -> Self {
        let undeclared = sources.keys().map(String::as_str).collect();
        let mut library = Library { sources, modules: BTreeMap::new(), undeclared, misplaced: Vec::new() };
        library.read_file("crate".into(), "lib.rs".into(), "");
        let undeclared = library.undeclared.iter().map(|file| format!("{file}: no `mod` declares this file"));
        library.misplaced.extend(undeclared);
        let rooms: BTreeSet<&str> = sources.keys().filter_map(|file| file.split(['/', '.']).next()).collect();
        let unknown = rooms.into_iter().filter(|room| *room != "lib" && rank(room) == ORDER.len());
        library.misplaced.extend(unknown.map(|room| format!("src/{room}: give this room a place in tests/order.rs")));
        library
    }

    fn read_file(&mut self, module: String, file: String, folder: &str) {
        self.undeclared.remove(file.as_str());
        let syntax = syn::parse_file(&self.sources[&file]).unwrap_or_else(|error| panic!("{file}: {error}"));
        let is_doc = |a: &Attribute| matches!(a.style, AttrStyle::Inner(_)) && a.path().is_ident("doc");
        if module.matches("::").count() == 1 && !syntax.attrs.iter().any(is_doc) {
            self.misplaced.push(format!("{file}: the front of a room says in `//!` what the room is"));
        }
        let is_handed_on = |item: &Item| match item {
            Item::Use(_) => true,
            Item::Mod(inner) => inner.content.as_ref().is_none_or(|(_, items)| items.is_empty()),
            Item::ExternCrate(alias) => only_in_tests(&alias.attrs),
            _ => false,
        };
        for item in syntax.items.iter().filter(|item| module == "crate" && !is_handed_on(item)) {
            let name = name_of(item).map_or("an item".into(), |name| format!("`{name}`"));
            self.misplaced.push(format!("{file} defines {name}: it only hands on the names of rooms"));
        }
        self.read_items(module, &file, folder, &syntax.items);
    }

    /// Reads a module; `folder`, empty or with a slash at its end, holds the files of the modules in it.
    fn read_items(&mut self, path: String, file: &str, folder: &str, items: &[Item]) {
        // two conditions may declare a module twice
        let mut module = self.modules.remove(&path).unwrap_or_default();
        module.file = file.into();
        for item in items {
            module.items.extend(name_of(item).map(Ident::to_string));
            let Item::Mod(inner) = item else {
                module.visit_item(item);
                continue;
            };
            let (name, path) = (&inner.ident, format!("{path}::{}", inner.ident));
            let (front, folder) = (format!("{folder}{name}.rs"), format!("{folder}{name}/"));
            if only_in_tests(&inner.attrs) {
                self.undeclared.retain(|file| *file != front && !file.starts_with(&folder));
            } else if let Some((_, items)) = &inner.content {
                self.read_items(path, file, &folder, items);
            } else if !inner.attrs.iter().any(|attribute| attribute.path().is_ident("path")) {
                match [front, format!("{folder}mod.rs")].into_iter().find(|file| self.sources.contains_key(file)) {
                    Some(file) => self.read_file(path, file, &folder),
                    None => self.misplaced.push(format!("{file} declares {name}, which no file holds")),
                }
            }
        }
        self.modules.insert(path, module);
    }

    /// The modules that define what a path means in a module, with its name there; none where the library does not.
    /// A name may be that of a module and of a function: both count.
    fn definers(&self, at: &str, path: &[String], hops: usize) -> BTreeSet<(String, String)> {
        let Some((first, rest)) = path.split_first() else { return [(at.into(), String::new())].into() };
        let within = |module: &str| {
            let found = self.definers(module, rest, hops);
            // a macro may define the name
            if found.is_empty() { [(module.into(), rest[0].clone())].into() } else { found }
        };
        match first.as_str() {
            "crate" => return within("crate"),
            "self" => return within(at),
            "super" => return within(at.rsplit_once("::").map_or(at, |(parent, _)| parent)),
            _ => {}
        }
        let (child, mut found) = (format!("{at}::{first}"), BTreeSet::new());
        if self.modules.contains_key(&child) {
            found = within(&child);
            if !rest.is_empty() {
                return found;
            }
        }
        let module = &self.modules[at];
        if module.items.contains(first) {
            found.insert((at.into(), first.clone()));
        }
        let Some(hops) = hops.checked_sub(1) else { return found };
        for (_, import) in module.imports.iter().filter(|(name, _)| name == first) {
            found.extend(self.definers(at, &[import, rest].concat(), hops));
        }
        if found.is_empty() {
            for (_, glob) in module.imports.iter().filter(|(name, _)| name == "*") {
                let sources = self.definers(at, glob, hops);
                found.extend(sources.iter().flat_map(|(source, _)| self.definers(source, path, hops)));
            }
        }
        found
    }

    /// Who uses which module's name; an empty name is the module itself.
    fn arrows(&self) -> BTreeSet<(&str, String, String)> {
        let mut arrows = BTreeSet::new();
        for (from, module) in &self.modules {
            for path in module.imports.iter().map(|(_, path)| path).chain(&module.paths) {
                let used = self.definers(from, path, HOPS).into_iter().filter(|(to, _)| to != from);
                arrows.extend(used.map(|(to, name)| (from.as_str(), to, name)));
            }
        }
        arrows
    }

    /// The arrows that lead up, or to another room of the same line, with what the room may use.
    fn forbidden(&self) -> BTreeSet<String> {
        let mut told = BTreeSet::new();
        for (from, to, name) in self.arrows() {
            let (room, used_room) = (room(from), room(&to));
            if room != used_room && rank(room) <= rank(used_room) {
                let used = format!("{}::{name}", to.trim_start_matches("crate::"));
                let lower = if rank(room) == 0 { "no room".into() } else { ORDER[..rank(room)].concat().join(", ") };
                let (file, used) = (&self.modules[from].file, used.trim_end_matches("::"));
                told.insert(format!("{file} uses {used}: {room} may use {lower}"));
            }
        }
        told
    }

    /// The circles of rooms, and those of too many modules.
    fn circles(&self) -> Vec<String> {
        let arrows = self.arrows();
        let rooms = arrows.iter().map(|(from, to, _)| (room(from), room(to)));
        let modules = arrows.iter().map(|(from, to, _)| (*from, to.as_str()));
        [circles("rooms", 1, rooms), circles("modules", CIRCLE, modules)].concat()
    }
}

/// The sets of more than `most` nodes that all reach each other.
fn circles<'a>(what: &str, most: usize, arrows: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let found = tarjan_scc(&DiGraphMap::<_, (), RandomState>::from_edges(arrows))
        .into_iter()
        .filter(|circle| circle.len() > most);
    let told = found.map(|mut circle| {
        circle.sort_unstable();
        format!("a circle of {} {what}: {}", circle.len(), circle.join(", ").replace("crate::", ""))
    });
    told.collect()
}

fn read_folder(folder: &Path, prefix: &str, sources: &mut Sources) {
    for entry in folder.read_dir().expect("src can be read") {
        let path = entry.expect("src can be read").path();
        let name = format!("{prefix}{}", path.file_name().expect("an entry has a name").display());
        if path.is_dir() {
            read_folder(&path, &format!("{name}/"), sources);
        } else if name.ends_with(".rs") {
            sources.insert(name, std::fs::read_to_string(&path).expect("a source file can be read"));
        }
    }
}

static SOURCES: LazyLock<Sources> = LazyLock::new(|| {
    let mut sources = Sources::new();
    read_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut sources);
    sources
});
static LIBRARY: LazyLock<Library> = LazyLock::new(|| Library::of(&SOURCES));

/// A library of a few lines.
fn small<const N: usize>(files: [(&str, &str); N]) -> Sources {
    files.map(|(file, text)| (file.into(), text.into())).into()
}

#[track_caller]
fn none(faults: impl IntoIterator<Item = String>) {
    let faults = Vec::from_iter(faults);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_file_and_room_has_its_place() {
    none(LIBRARY.misplaced.clone());
    for room in ORDER.concat() {
        assert!(LIBRARY.modules.contains_key(&format!("crate::{room}")), "ORDER names {room}, which is no room");
    }
}

#[test]
fn arrows_go_one_way() {
    assert!(LIBRARY.arrows().len() > 500, "too few arrows for the whole library");
    none(LIBRARY.forbidden());
}

#[test]
fn rooms_form_no_circle_and_modules_none_of_more_than_three() {
    none(LIBRARY.circles());
}

#[test]
fn arrows_added_by_hand_are_found() {
    let added = [
        ("use crate::gpu::device::Gpu;", "gpu::device::Gpu"),
        ("use super::super::plan::kernel::Kernel;", "plan::kernel::Kernel"),
        ("fn expression() { crate::check::report::verify(); }", "check::report::verify"),
        ("fn handed_on(_: &crate::Plan) {}", "plan::plan::Plan"),
        ("fn in_a_macro() { assert!(crate::plan::limits::Limits::default() == x); }", "plan::limits::Limits"),
        ("fn in_a_block() { use crate::catalogue::case::*; }", "catalogue::case"),
        ("use crate::{check::{self as bounds}};", "check"),
        ("fn renamed() { vec![[bounds::Worst::of()]]; }", "check::bound::Worst"),
        ("macro_rules! m { () => { use $crate::{Turn, hf::read::Stack}; } }", "gpu::turn::Turn"),
        ("struct Field(Vec<<u8 as crate::inputs::shape::Shape>::Of>);", "inputs::shape::Shape"),
        ("use crate::*;", "crate"),
    ];
    let mut sources = SOURCES.clone();
    let file = sources.get_mut("equation/factors.rs").expect("the library has factors");
    added.iter().for_each(|(text, _)| *file += text);
    let used = added.iter().map(|(_, used)| *used).chain(["hf::read::Stack"]);
    let want = used.map(|used| format!("equation/factors.rs uses {used}: equation may use error"));
    assert_eq!(&Library::of(&sources).forbidden() - &LIBRARY.forbidden(), want.collect());
}

#[test]
fn both_layouts_of_a_room_are_understood() {
    let sources = small([
        ("lib.rs", "mod error; mod equation; #[cfg(test)] mod drawn; pub use equation::Bias as Term;"),
        ("error.rs", "//! Errors.\n pub struct Error; #[cfg(all(test, unix))] mod tests { use crate::equation::*; }"),
        ("equation/mod.rs", "//! Terms.\n mod bias; mod spec; pub use self::{spec::*, bias::*};"),
        ("equation/bias.rs", "mod slope; pub use slope::Slope as Bias;"),
        ("equation/bias/slope.rs", "pub struct Slope(super::super::super::error::Error);"),
        ("equation/spec.rs", "pub struct Spec(crate::Term);"),
    ]);
    let library = Library::of(&sources);
    none(library.misplaced.clone());
    let arrows = library.arrows();
    let within = arrows.iter().filter(|(from, ..)| *from != "crate");
    let told = within.map(|(from, to, name)| format!("{from} uses {to} {name}").replace("crate::", ""));
    let want = [
        "equation uses equation::bias ",
        "equation uses equation::spec ",
        "equation::bias uses equation::bias::slope Slope",
        "equation::bias::slope uses error Error",
        "equation::spec uses equation::bias::slope Slope",
    ];
    assert_eq!(Vec::from_iter(told), want);
}

#[test]
fn what_is_out_of_place_is_named() {
    let cases = [
        ("lib.rs", "mod error; pub struct Plan;", "lib.rs defines `Plan`: it only hands on the names of rooms"),
        ("error.rs", "pub struct Error;", "error.rs: the front of a room says in `//!` what the room is"),
        ("error.rs", "//! Errors.\n mod codes;", "error.rs declares codes, which no file holds"),
        ("error/codes.rs", "", "error/codes.rs: no `mod` declares this file"),
        ("attic.rs", "//! What is left.", "src/attic: give this room a place in tests/order.rs"),
    ];
    for (file, text, want) in cases {
        let mut sources = small([("lib.rs", "mod error;"), ("error.rs", "//! Errors.")]);
        sources.insert(file.into(), text.into());
        assert_eq!(Library::of(&sources).misplaced.last().map(String::as_str), Some(want));
    }
}

#[test]
fn circles_are_found() {
    let rooms = small([
        ("lib.rs", "mod error; mod equation; pub use equation::Spec;"),
        ("error.rs", "pub struct Error(crate::Spec);"),
        ("equation.rs", "pub struct Spec(crate::error::Error);"),
    ]);
    assert_eq!(Library::of(&rooms).circles(), ["a circle of 2 rooms: equation, error"]);
    for (back, found) in [("a", vec![]), ("d", vec!["a circle of 4 modules: error::a, error::b, error::c, error::d"])] {
        let modules = "mod a { use super::b::B; } mod b { use super::c::C; } mod d { fn f() { super::a::f(); } }";
        let text = format!("{modules} mod c {{ use super::{back}::f; }}");
        assert_eq!(Library::of(&small([("lib.rs", "mod error;"), ("error.rs", &text)])).circles(), found);
    }
}
