//! For engines that are not Rust: the shader as text, its bindings, its step buffer, its grid.
use ropewalk::{AlibiForm, Bias, Kernel, Limits, Mask, Plan, Shape, Slot, Spec, Target};

fn main() -> ropewalk::Result<()> {
    let mut spec = Spec::new(8, 8, 64);
    spec.bias = vec![Bias::Alibi { form: AlibiForm::Relative, slopes: None, scale: 1.0 }];
    spec.mask = Mask::causal();
    let shape = Shape::new(&spec, 1, 512, 512);
    let plan = Plan::new(Kernel::Attention, &spec, &shape, &Limits::default())?;

    println!("{}", plan.wgsl(Target::Web));
    for b in plan.bindings() {
        println!("// @binding({}) {}: {}, {:?}, {} bytes", b.binding, b.name, b.wgsl_type, b.access, b.size);
    }
    println!("// step: {:?}", plan.step_layout());
    for slot in [Slot::Params, Slot::Chunk, Slot::Rotary, Slot::Heads] {
        println!("// {}: {} bytes of contents", slot.name(), plan.uniform(slot).map_or(0, |u| u.len()));
    }
    for chunk in plan.chunks() {
        println!("// dispatch {:?}", chunk.workgroups);
    }
    Ok(())
}
