//! The GPU side of a comparison: the reference's stages on a device, with the permitted difference of every element.

use super::compare::{Stages, add_difference, add_normed, add_probs, pairs, root_mean_square, stages};
use super::work::{EmbedProbe, Probe, Stage};
use ropewalk::{Error, Gpu, GpuOptions, Result, check};

/// An adapter under test.
pub struct Device {
    /// In one line.
    pub name: String,
    gpu: Gpu,
}

/// What a probe should give, how far off it may be, and what it gave.
pub struct Run {
    /// The reference's.
    pub value: Stages,
    /// The largest permitted |device - value|.
    pub bound: Stages,
    /// The device's.
    pub device: Stages,
}

impl Device {
    /// The best adapter, the one whose name holds the text, or (`all`) every one that opens; the complaints are of
    /// those that do not.
    pub fn open(adapter: Option<&str>, own_limits: bool) -> Result<(Vec<Device>, Vec<Error>)> {
        let mut options = GpuOptions::default();
        options.default_limits = !own_limits;
        let opened = match adapter {
            Some("all") => Gpu::all(&options),
            name => {
                options.adapter = name.map(String::from);
                vec![Gpu::open(&options)]
            }
        };
        let (mut devices, mut complaints) = (Vec::new(), Vec::new());
        for gpu in opened {
            match gpu {
                Ok(gpu) => devices.push(Device { name: gpu.describe(), gpu }),
                Err(e) => complaints.push(e),
            }
        }
        match (devices.is_empty(), complaints.pop()) {
            (true, Some(e)) => Err(e),
            (true, None) => Err(Error::NoAdapter {
                problem: "this machine shows none".into(),
                help: "install a Vulkan driver, or compare the reference alone with --reference".into(),
            }),
            (false, last) => {
                complaints.extend(last);
                Ok((devices, complaints))
            }
        }
    }

    /// Runs `embed` on the device and bounds it.
    pub fn run_embed(&self, probe: &EmbedProbe) -> Result<Run> {
        let mut run = Run { value: Stages::new(), bound: Stages::new(), device: Stages::new() };
        let bounded = check::embed(&probe.embed, &probe.inputs)?;
        run.add(Stage::Embed, &self.gpu.embed(&probe.embed, &probe.inputs)?, bounded);
        Ok(run)
    }

    /// Runs the probe's stages on the device and bounds them.
    pub fn run(&self, probe: &Probe) -> Result<Run> {
        let (spec, inputs, wanted) = (&probe.spec, &probe.inputs, stages(probe));
        let mut run = Run { value: Stages::new(), bound: Stages::new(), device: Stages::new() };
        if wanted.iter().any(|s| matches!(s, Stage::QRot | Stage::KRot)) {
            let ((q, k), (q_bounded, k_bounded)) = (self.gpu.rotate(spec, inputs)?, check::rotate(spec, inputs)?);
            run.add(Stage::QRot, &q, q_bounded);
            run.add(Stage::KRot, &k, k_bounded);
        }
        if spec.linear.is_some() {
            let (result, bounds) = (self.gpu.linear(spec, inputs)?, check::linear(spec, inputs)?);
            run.add(Stage::Out, &result.out, bounds.out);
            run.add(Stage::State, &result.state, bounds.state);
            run.add(Stage::Normalizer, &result.normalizer, bounds.normalizer);
            run.add_normed(&wanted, spec.v_head_dim);
            return Ok(run);
        }
        if wanted.contains(&Stage::Scores) {
            run.add(Stage::Scores, &self.gpu.scores(spec, inputs)?, check::scores(spec, inputs)?);
        }
        if wanted.contains(&Stage::Out) {
            let (result, (out, lse)) = (self.gpu.attention(spec, inputs)?, check::attention(spec, inputs)?);
            run.add(Stage::Out, &result.out, out);
            run.add(Stage::Lse, &result.lse, lse);
        }
        run.add_difference(probe);
        run.add_probs(&wanted);
        Ok(run)
    }
}

impl Run {
    fn add(&mut self, stage: Stage, device: &[f32], bounded: check::Bounded) {
        self.device.insert(stage, device.iter().map(|x| *x as f64).collect());
        self.value.insert(stage, bounded.value);
        self.bound.insert(stage, bounded.bound);
    }
    /// Normed rows of the device's out. With e the root mean square of a row's bounds, its own errs by e at most, so a normed x by
    /// (bound of x + |x normed| e) / (rms - e).
    fn add_normed(&mut self, wanted: &[Stage], width: u32) {
        add_normed(wanted, &mut self.value, width);
        add_normed(wanted, &mut self.device, width);
        let (Some(normed), Some(out), Some(bound)) =
            (self.value.get(&Stage::OutNormed), self.value.get(&Stage::Out), self.bound.get(&Stage::Out))
        else {
            return;
        };
        let width = width.max(1) as usize;
        let rows = normed.chunks(width).zip(out.chunks(width)).zip(bound.chunks(width));
        let of_row = |((normed, out), bound): ((&[f64], &[f64]), &[f64])| {
            let (rms, e) = (root_mean_square(out), root_mean_square(bound));
            let one = move |(x, b): (&f64, &f64)| if e < rms { (b + x.abs() * e) / (rms - e) } else { f64::INFINITY };
            normed.iter().zip(bound).map(one).collect::<Vec<_>>()
        };
        let bound = rows.flat_map(of_row).collect();
        self.bound.insert(Stage::OutNormed, bound);
    }
    /// Differences of the device's out: off by what their two elements are off by.
    fn add_difference(&mut self, probe: &Probe) {
        add_difference(probe, &mut self.value);
        add_difference(probe, &mut self.device);
        let (Some(of), Some(bound)) = (probe.difference, self.bound.get(&Stage::Out)) else { return };
        let scaled = pairs(probe, bound).map(|(x, y)| (x + of.lambda.abs() * y) * of.scale.abs()).collect();
        self.bound.insert(Stage::OutDifference, scaled);
    }
    /// Probabilities exp(s - lse) of the device's scores and lse: off by a factor exp(bound of s + bound of lse).
    fn add_probs(&mut self, wanted: &[Stage]) {
        add_probs(wanted, &mut self.value);
        add_probs(wanted, &mut self.device);
        let (Some(probs), Some(s), Some(lse)) =
            (self.value.get(&Stage::Probs), self.bound.get(&Stage::Scores), self.bound.get(&Stage::Lse))
        else {
            return;
        };
        let width = (s.len() / lse.len().max(1)).max(1);
        let off = |(i, p): (usize, &f64)| match *p {
            0.0 => 0.0,
            p => p * (s[i] + lse[i / width]).exp_m1(),
        };
        let bound = probs.iter().enumerate().map(off).collect();
        self.bound.insert(Stage::Probs, bound);
    }
}

#[cfg(test)]
mod tests {
    use super::super::work::Difference;
    use super::*;
    use ropewalk::{Inputs, Spec, Tensor};

    /// Both elements off by their whole bounds, in the directions that add up.
    #[test]
    fn the_bound_of_a_difference_is_reached() {
        let two = || Tensor::bshd(vec![1.0f32; 2], [1, 1, 2, 1]).unwrap();
        let difference = Some(Difference { lambda: 2.0, scale: -0.5 });
        let (spec, inputs) = (Spec::new(2, 2, 1), Inputs::new(two(), two(), two()));
        let probe = Probe { label: "", spec, inputs, expects: Vec::new(), difference };
        let of = |values: [f64; 2]| Stages::from([(Stage::Out, values.to_vec())]);
        let mut run = Run { value: of([3.0, 2.0]), bound: of([0.5, 1.0]), device: of([3.5, 1.0]) };
        run.add_difference(&probe);
        let found = [&run.value, &run.device, &run.bound].map(|stages| stages[&Stage::OutDifference][0]);
        assert_eq!(found, [0.5, -0.75, 1.25]);
    }
}
