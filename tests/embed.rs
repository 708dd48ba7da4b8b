//! Absolute systems: helpers of positions, forms of the sinusoid, the GPU within its bound, and mutations outside it.

use ropewalk::{
    Absolute, Columns, Data, Denominator, Dtype, Embed, EmbedInputs, EmbedShape, Error, Kernel, Limits, Plan, Shape,
    Spec, Step, Target, Tensor, check, positions_from, positions_of_ids, positions_of_mask, reference,
};

fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..n).map(|_| 2.0 * next()).collect()
}

fn tensor(dtype: Dtype, shape: [u32; 4], seed: u64) -> Tensor {
    let n = shape.iter().product::<u32>() as usize;
    Tensor::bshd(Data::from_f32(dtype, &noise(n, seed)), shape).unwrap()
}

fn f32s(values: &[f64]) -> Vec<f32> {
    values.iter().map(|x| *x as f32).collect()
}

/// Sinusoidal specs of every form, and a learned one, of a width.
fn specs(dim: u32) -> Vec<Embed> {
    let mut all = vec![Embed::learned(dim, 37)];
    for columns in [Columns::Halves, Columns::Interleaved] {
        for denominator in [Denominator::Half, Denominator::HalfLessOne] {
            let mut embed = Embed::sinusoidal(dim, columns, denominator);
            if let Absolute::Sinusoidal { padding_row, .. } = &mut embed.positions {
                *padding_row = (denominator == Denominator::HalfLessOne).then_some(1);
            }
            all.push(embed);
        }
    }
    all
}

fn inputs(embed: &Embed, batch: u32, len: u32, positions: Vec<i32>) -> EmbedInputs {
    let mut inputs = EmbedInputs::new(tensor(embed.dtype, [batch, len, 1, embed.dim], 3), positions);
    if let Absolute::Learned { rows } = embed.positions {
        inputs.table = Some(tensor(embed.dtype, [1, rows, 1, embed.dim], 4));
    }
    inputs
}

#[test]
fn positions_by_index() {
    assert_eq!(positions_from(2, 3, 5, 2).unwrap(), [7, 8, 9, 7, 8, 9]);
    assert!(positions_from(1, 0, 5, 2).unwrap().is_empty());
    assert!(matches!(positions_from(1, 2, u32::MAX, 0), Err(Error::Input { field, .. }) if field == "positions"));
}

#[test]
fn positions_count_real_tokens() {
    // RoBERTa: padding on either side stands at the padding row
    let ids = [9, 8, 7, 1, 1, 1, 5, 1, 6, 4];
    assert_eq!(positions_of_ids(&ids, 2, 1, 0).unwrap(), [2, 3, 4, 1, 1, 1, 2, 1, 3, 4]);
    assert_eq!(positions_of_ids(&ids[..5], 1, 1, 7).unwrap(), [9, 10, 11, 1, 1]);
    assert_eq!(positions_of_ids(&[3, 0], 1, 0, 0).unwrap(), [1, 0]);
    assert!(positions_of_ids(&ids, 3, 1, 0).is_err());
    // OPT
    let mask = [false, false, true, true, true];
    assert_eq!(positions_of_mask(&mask, 1, 0, 2).unwrap(), [1, 1, 2, 3, 4]);
    assert_eq!(positions_of_mask(&mask, 1, 3, 2).unwrap(), [3, 4]);
    assert!(matches!(positions_of_mask(&mask, 1, 6, 2), Err(Error::Input { field, .. }) if field == "attention_mask"));
    assert!(positions_of_mask(&mask, 0, 0, 2).is_err());
}

#[test]
fn forms_of_the_sinusoid() {
    let row = |columns, denominator, dim: u32, m: i32| {
        let embed = Embed::sinusoidal(dim, columns, denominator);
        let zero = Tensor::bshd(vec![0f32; dim as usize], [1, 1, 1, dim]).unwrap();
        reference::embed(&embed, &EmbedInputs::new(zero, vec![m])).unwrap()
    };
    let near = |got: Vec<f64>, want: &[f64]| {
        assert_eq!(got.len(), want.len());
        got.iter().zip(want).for_each(|(g, w)| assert!((g - w).abs() < 1e-12, "{got:?} {want:?}"));
    };
    let (s, c) = (f64::sin, f64::cos);
    use Columns::{Halves, Interleaved};
    use Denominator::{Half, HalfLessOne};
    near(row(Halves, Half, 4, 3), &[s(3.0), s(0.03), c(3.0), c(0.03)]);
    near(row(Interleaved, Half, 4, 3), &[s(3.0), c(3.0), s(0.03), c(0.03)]);
    near(row(Halves, HalfLessOne, 4, 3), &[s(3.0), s(3e-4), c(3.0), c(3e-4)]);
    // an odd width: one sine more, or a column of zeros
    let f = 10_000f64.powf(-2.0 / 5.0);
    near(row(Halves, Half, 5, 2), &[s(2.0), s(2.0 * f), s(2.0 * f * f), c(2.0), c(2.0 * f)]);
    near(row(Interleaved, Half, 5, 2), &[s(2.0), c(2.0), s(2.0 * f), c(2.0 * f), s(2.0 * f * f)]);
    near(row(Halves, HalfLessOne, 5, 2), &[s(2.0), s(2e-4), c(2.0), c(2e-4), 0.0]);
    near(row(Interleaved, HalfLessOne, 5, 2), &[s(2.0), c(2.0), s(2e-4), c(2e-4), 0.0]);
    near(row(Halves, Half, 2, -7), &[s(-7.0), c(-7.0)]);
}

#[test]
fn what_does_not_fit_is_named() {
    let field = |e: Error| match e {
        Error::Spec { field, .. } | Error::Input { field, .. } | Error::Limit { field, .. } => field,
        other => panic!("{other}"),
    };
    let mut embed = Embed::learned(8, 5);
    let mut given = inputs(&embed, 1, 3, vec![0, 4, 5]);
    let e = reference::embed(&embed, &given).unwrap_err();
    assert!(e.to_string().contains("token 2 stands at position 5") && e.to_string().contains("5 rows"), "{e}");
    given.positions[2] = -1;
    assert_eq!(field(reference::embed(&embed, &given).unwrap_err()), "positions");
    given.positions.pop();
    assert_eq!(field(reference::embed(&embed, &given).unwrap_err()), "positions");
    given.positions.push(4);
    assert!(reference::embed(&embed, &given).is_ok());
    given.table = None;
    assert_eq!(field(reference::embed(&embed, &given).unwrap_err()), "table");
    embed.dtype = Dtype::F16;
    assert_eq!(field(reference::embed(&embed, &given).unwrap_err()), "x");
    embed.dim = 0;
    assert_eq!(field(embed.validate().unwrap_err()), "dim");
    embed.dim = 8;
    embed.input_scale = f64::NAN;
    assert_eq!(field(embed.validate().unwrap_err()), "input_scale");
    let two = Embed::sinusoidal(2, Columns::Halves, Denominator::HalfLessOne);
    assert_eq!(field(two.validate().unwrap_err()), "positions.sinusoidal.denominator");
    let text = serde_json::to_string(&Embed::learned(8, 5)).unwrap();
    assert_eq!(Embed::from_json(&text).unwrap(), Embed::learned(8, 5));
    assert!(Embed::from_json(&text.replace("\"dim\"", "\"width\"")).is_err());

    // a step of an engine is checked too, and the kernel has a plan of its own
    let embed = Embed::learned(8, 5);
    let limits = Limits::default();
    let plan = Plan::embed(&embed, &EmbedShape::new(&embed, 1, 3), false, &limits).unwrap();
    let mut words = vec![0; plan.step_layout().words as usize];
    let step = |p| Step { q_len: 3, q_positions: p, ..Step::default() };
    assert!(plan.step_layout().write(&step(&[0, 1, 4]), &mut words).is_ok());
    assert_eq!(field(plan.step_layout().write(&step(&[0, 1, 5]), &mut words).unwrap_err()), "positions");
    let spec = Spec::new(1, 1, 8);
    let wrong = Plan::new(Kernel::Embed { in_place: false }, &spec, &Shape::new(&spec, 1, 1, 1), &limits);
    assert_eq!(field(wrong.unwrap_err()), "kernel");
}

/// Each of these errors must leave the bound of some element.
#[test]
fn mutations_leave_the_bound() {
    for embed in specs(24) {
        let right = inputs(&embed, 2, 9, positions_from(2, 9, 3, 2).unwrap());
        let bounded = check::embed(&embed, &right).unwrap();
        let fails = |values: &[f64]| bounded.worst(&f32s(values)).failures > 0;
        assert!(!fails(&bounded.value), "{embed:?}");

        let mut moved = right.clone();
        moved.positions = positions_from(2, 9, 4, 2).unwrap();
        assert!(fails(&reference::embed(&embed, &moved).unwrap()), "offset by one: {embed:?}");

        let mut wrong = embed.clone();
        wrong.position_scale = -1.0;
        assert!(fails(&reference::embed(&wrong, &right).unwrap()), "sign of P: {embed:?}");
        (wrong.position_scale, wrong.input_scale) = (1.0, 1.00001);
        assert!(fails(&reference::embed(&wrong, &right).unwrap()), "scale of x: {embed:?}");

        if let Absolute::Sinusoidal { columns, denominator, .. } = embed.positions {
            let mut backwards = right.clone();
            backwards.positions.iter_mut().for_each(|m| *m = -*m);
            assert!(fails(&reference::embed(&embed, &backwards).unwrap()), "sign of the sine: {embed:?}");
            let other = match columns {
                Columns::Halves => Columns::Interleaved,
                _ => Columns::Halves,
            };
            assert!(fails(&reference::embed(&Embed::sinusoidal(24, other, denominator), &right).unwrap()), "columns");
            let other = match denominator {
                Denominator::Half => Denominator::HalfLessOne,
                _ => Denominator::Half,
            };
            assert!(fails(&reference::embed(&Embed::sinusoidal(24, columns, other), &right).unwrap()), "denominator");
        }
    }
}

#[test]
fn text_without_a_gpu() {
    let embed = Embed::sinusoidal(10, Columns::Interleaved, Denominator::HalfLessOne);
    let plan = Plan::embed(&embed, &EmbedShape::new(&embed, 2, 3), true, &Limits::default()).unwrap();
    let text = plan.wgsl(Target::Native);
    assert!(text.contains("const SINES: u32 = 5u;") && text.contains("fn wave_of_column"));
    let bound: Vec<&str> = plan.bindings().iter().map(|b| b.name).collect();
    assert_eq!(bound, ["out", "dense", "step", "params", "chunk"]);
    assert_eq!(embed.pack_increments().len(), 10);
    assert_eq!(plan.binding(ropewalk::Slot::Dense).unwrap().size, 40);
}

#[cfg(feature = "wgpu")]
mod gpu {
    use super::*;
    use ropewalk::{Buffers, Gpu, GpuOptions, Pipeline, Slot, wgpu};

    fn gpu() -> Gpu {
        let mut options = GpuOptions::default();
        options.default_limits = true;
        Gpu::open(&options).expect("an adapter; install mesa-vulkan-drivers for a software one")
    }

    #[test]
    fn every_form_within_its_bound() {
        let gpu = gpu();
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
            for dim in [4, 7, 33, 260] {
                for mut embed in specs(dim) {
                    embed.dtype = dtype;
                    (embed.input_scale, embed.position_scale) = (5.5, if dim == 7 { 0.3 } else { 1.0 });
                    let positions: Vec<i32> = match embed.positions {
                        Absolute::Learned { .. } => (0..10).map(|i| (i * 13) % 37).collect(),
                        _ => vec![0, 1, 2, -1, 100, 131_072, i32::MAX, i32::MIN, 1_000_000, -7],
                    };
                    let given = inputs(&embed, 2, 5, positions);
                    let worst = check::embed(&embed, &given).unwrap().worst(&gpu.embed(&embed, &given).unwrap());
                    assert!(worst.failures == 0 && worst.unbounded == 0 && worst.elements > 0, "{embed:?}: {worst:?}");
                }
            }
        }
    }

    #[test]
    fn cut_by_the_binding_limit_and_by_work() {
        let gpu = gpu();
        let mut limits = *gpu.limits();
        (limits.max_binding_size, limits.max_workgroups) = (4096, 3);
        for embed in specs(24) {
            let given = inputs(&embed, 3, 70, (0..210).map(|i| i % 37).collect());
            let whole = gpu.embed(&embed, &given).unwrap();
            let (cut, stats) = pollster::block_on(gpu.with_limits(limits).embed_async(&embed, &given)).unwrap();
            assert_eq!(whole, cut);
            assert!(stats.parts > 3 && stats.dispatches > stats.parts, "{stats:?}");
        }
    }

    /// As x lies, gathered in parts, and in place: the same bits, and nothing around the rows changes.
    #[test]
    fn strided_rows_in_one_call() {
        let gpu = gpu();
        for mut embed in specs(9) {
            embed.dtype = Dtype::F16;
            let mut given = inputs(&embed, 1, 1, vec![0]);
            let strides = ropewalk::Strides { batch: 500, token: 12, head: 9 };
            let data = Data::from_f32(Dtype::F16, &noise(1050, 5));
            given.x = Tensor::strided(data, [2, 40, 1, 9], strides, 5).unwrap();
            given.positions = (0..80).map(|i| i % 37).collect();
            let whole = gpu.embed(&embed, &given).unwrap();
            let mut limits = *gpu.limits();
            limits.max_binding_size = 700;
            let small = gpu.with_limits(limits);
            let (cut, stats) = pollster::block_on(small.embed_async(&embed, &given)).unwrap();
            assert!(cut == whole && stats.parts > 2, "{stats:?}");
            let mut after = given.clone();
            assert!(matches!(small.embed_in_place(&embed, &mut after), Err(Error::Limit { .. })) && after == given);
            gpu.embed_in_place(&embed, &mut after).unwrap();
            let mut want = given.x.data().to_f32();
            for (row, values) in whole.chunks(9).enumerate() {
                let at = given.x.row_start(row as u32 / 40, row as u32 % 40, 0);
                want[at..at + 9].copy_from_slice(values);
            }
            assert_eq!(after.x.data().to_f32(), want, "{embed:?}");
        }
    }

    /// As an engine binds it: in place, at odd offsets, over part of the planned length.
    #[test]
    fn in_place_at_an_offset() {
        let gpu = gpu();
        let (device, queue) = (gpu.device(), gpu.queue());
        let _turn = ropewalk::turn(device);
        for dtype in [Dtype::F32, Dtype::Bf16] {
            let mut embed = Embed::sinusoidal(9, Columns::Halves, Denominator::Half);
            embed.dtype = dtype;
            let given = inputs(&embed, 1, 4, vec![5, 6, 7, 8]);
            let mut shape = EmbedShape::new(&embed, 1, 6);
            shape.aligned = false;
            let plan = Plan::embed(&embed, &shape, true, gpu.limits()).unwrap();
            let make = |bytes: &[u8]| {
                let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
                let size = (bytes.len() as u64).next_multiple_of(4);
                let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
                let buffer = device.create_buffer(&descriptor);
                queue.write_buffer(&buffer, 0, &[bytes, &[0; 4][..size as usize - bytes.len()]].concat());
                buffer
            };
            let room = Data::from_f32(dtype, &[vec![7.0; 3], given.x.data().to_f32(), vec![7.0; 21]].concat());
            let out = make(room.bytes());
            let dense = make(bytemuck::cast_slice(&embed.pack_increments()));
            let mut words = vec![0; plan.step_layout().words as usize];
            let step = Step { q_len: 4, q_positions: &given.positions, ..Step::default() };
            plan.step_layout().write(&step, &mut words).unwrap();
            let step = make(bytemuck::cast_slice(&words));
            let buffers = Buffers::new()
                .with(Slot::Out, &out, 3 * dtype.size() as u64)
                .with(Slot::Dense, &dense, 0)
                .with(Slot::Step, &step, 0);
            let dispatch = Pipeline::new(device, &plan).unwrap().bind(device, &buffers).unwrap();
            let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            let descriptor = wgpu::BufferDescriptor { label: None, size: out.size(), usage, mapped_at_creation: false };
            let staging = device.create_buffer(&descriptor);
            let mut encoder = device.create_command_encoder(&Default::default());
            dispatch.encode(&mut encoder.begin_compute_pass(&Default::default()));
            encoder.copy_buffer_to_buffer(&out, 0, &staging, 0, out.size());
            queue.submit([encoder.finish()]);
            let all = Data::from_bytes(dtype, &gpu.read_back(&staging).unwrap()).to_f32();
            let worst = check::embed(&embed, &given).unwrap().worst(&all[3..39]);
            assert_eq!(worst.failures, 0, "{worst:?}");
            assert!(all[..3].iter().chain(&all[39..60]).all(|x| *x == 7.0), "neighbours stay");
        }
    }
}
