//! Validation of the user's own functions. A text passes three gates:
//!
//! 1. its tokens ([`text`](crate::equation::user::text)): comments and brackets end, nothing nests deeper than a parser's stack, no declaration
//!    takes a name of a shader file, the preamble or WGSL (a module-scope `max` would be the kernels' `max` too), and no array or zero
//!    value makes a constant evaluator write out millions of elements;
//! 2. naga, which parses and validates it alone, behind the signatures of what it may call, so that whatever else it mentions is unknown
//!    at its own line;
//! 3. a walk over naga's representation (`user/ir.rs`): only statements and expressions without effects outside the function, and loops
//!    whose counter provably reaches a constant bound. It also counts rounds and operations of a call, by which families cut the work.

#[cfg(feature = "naga")]
pub(crate) mod ir;
use crate::equation::spec::Spec;
use crate::equation::user::text::{Fault, declarations};
use crate::equation::user::{Role, text};
use crate::error::{Error, Result};
use crate::shader::files::FILES;
use crate::shader::layout::Slot;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Every name that some shader file declares for its module, and the file: what a user's text must leave alone.
pub(crate) fn declared_names() -> HashMap<String, &'static str> {
    let bindings = Slot::ALL
        .iter()
        .map(|slot| slot.name())
        .chain(["work4", "work_half"])
        .map(|name| (name.to_string(), "(preamble)"));
    let files =
        FILES.iter().flat_map(|file| declarations(file.text).into_iter().map(|name| (name.to_string(), file.path)));
    // of a name that several files declare, the first
    let mut names = HashMap::new();
    bindings.chain(files).for_each(|(name, file)| {
        names.entry(name).or_insert(file);
    });
    names
}

/// The most bytes of a text.
const MAX_BYTES: usize = 64 << 10;

/// What a call of a text costs, for cutting work into dispatches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Rounds of loops.
    pub(crate) rounds: u32,
    /// Operations, loops counted.
    pub(crate) operations: u32,
}

/// Checks the texts of a spec; the error names the file, line and column.
pub(crate) fn validate(spec: &Spec) -> Result<Cost> {
    /// Of the shader files, which do not change.
    static DECLARED: LazyLock<HashMap<String, &'static str>> = LazyLock::new(declared_names);
    let mut cost = Cost::default();
    if spec.score_mod.is_none() && spec.mask_mod.is_none() {
        return Ok(cost);
    }
    let mut taken = DECLARED.clone();
    for (role, text) in [(Role::Score, &spec.score_mod), (Role::Mask, &spec.mask_mod)] {
        let Some(text) = text else { continue };
        if text.len() > MAX_BYTES {
            let help = format!("give at most {MAX_BYTES}; large tables belong in user_data");
            return Err(Error::spec(role.name(), format!("{} bytes", text.len()), help));
        }
        let mut faultless = || -> std::result::Result<Cost, Fault> {
            let declared = text::check(text, &taken)?;
            let cost = validate_ir(text, role)?;
            taken.extend(declared.into_iter().map(|name| (name.to_string(), role.name())));
            Ok(cost)
        };
        let own = faultless().map_err(|fault| fault.error(role.name()))?;
        cost.rounds = cost.rounds.saturating_add(own.rounds);
        cost.operations = cost.operations.saturating_add(own.operations);
    }
    Ok(cost)
}

/// The texts declare nothing that the preamble of a plan does.
pub(crate) fn apart(texts: &[(&'static str, &str)], preamble: &str) -> Result<()> {
    if texts.is_empty() {
        return Ok(());
    }
    let taken = declarations(preamble).into_iter().map(|name| (name.to_string(), "(preamble)")).collect();
    texts.iter().try_for_each(|(file, text)| text::check(text, &taken).map(|_| ()).map_err(|fault| fault.error(file)))
}

#[cfg(feature = "naga")]
fn validate_ir(text: &str, role: Role) -> std::result::Result<Cost, Fault> {
    ir::validate(text, role)
}

#[cfg(not(feature = "naga"))]
fn validate_ir(_: &str, role: Role) -> std::result::Result<Cost, Fault> {
    Err(Fault {
        line: 1,
        column: 1,
        message: format!("{} cannot be validated: this build of ropewalk has no naga", role.name()),
        help: "turn on the feature `naga` (or `wgpu`, which has it)".into(),
    })
}
