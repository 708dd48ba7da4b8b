//! The roofline: what each workload reached, below what the adapter's ceilings allow at its operations a byte.

use super::Line;
use crate::pictures::data::{self, Axis, Curves, Dot, Panel};
use crate::text::number;

/// A panel for each adapter.
pub fn panels(lines: &[Line]) -> Vec<Panel> {
    let mut adapters: Vec<(&str, &str)> = lines.iter().map(|l| (l.adapter.as_str(), l.driver.as_str())).collect();
    adapters.dedup();
    let of = |(adapter, driver)| {
        let own: Vec<&Line> =
            lines.iter().filter(|l| (l.adapter.as_str(), l.driver.as_str()) == (adapter, driver)).collect();
        panel(&own)
    };
    adapters.into_iter().filter_map(of).collect()
}

fn panel(lines: &[&Line]) -> Option<Panel> {
    let first = lines.first()?;
    let ceilings = first.ceilings?;
    let intensity = |line: &Line| line.flop / line.bytes.max(1) as f64;
    let ridge = ceilings.compute() / ceilings.copy_gbps;
    let at = lines.iter().map(|l| intensity(l)).filter(|x| x.is_finite() && *x > 0.0);
    let (low, high) = at.fold((ridge, ridge), |(low, high): (f64, f64), x| (low.min(x), high.max(x)));
    let (low, high) = (10f64.powf(low.log10().floor()), 10f64.powf(high.log10().ceil()));
    let roof = |x: f64| (x * ceilings.copy_gbps).min(ceilings.compute());
    let mut dots: Vec<Dot> = lines
        .iter()
        .map(|l| {
            let wrong = if l.wrong { ", WRONG" } else { "" };
            Dot { label: format!("{} {:.0} %{wrong}", l.workload, l.ceiling_percent), x: intensity(l), y: l.gflops }
        })
        .collect();
    dots.sort_by(|a, b| b.y.total_cmp(&a.y));
    Some(Panel::Curves(Curves {
        title: format!("Roofline of {}", short(&first.adapter, &first.driver)),
        x: Axis { label: "useful operations a byte that must move".into(), log: true },
        y: Axis { label: "GFLOP/s".into(), log: true },
        lines: vec![data::Line {
            label: format!("{} GB/s, {} GFLOP/s", number(ceilings.copy_gbps), number(ceilings.compute())),
            points: vec![(low, roof(low)), (ridge, roof(ridge)), (high, roof(high))],
        }],
        marks: Vec::new(),
        dots,
    }))
}

/// Adapter and driver without what they say in brackets, which titles have no room for.
fn short(adapter: &str, driver: &str) -> String {
    let plain = |text: &str| text.split(" (").next().unwrap_or_default().to_string();
    let (adapter, driver) = (plain(adapter), plain(driver));
    let driver = driver.split_whitespace().filter(|word| !adapter.contains(word)).collect::<Vec<_>>().join(" ");
    let title = format!("{adapter}, {driver}");
    title.trim_end_matches(", ").chars().take(48).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workloads::Ceilings;

    #[test]
    fn an_adapter_gets_a_panel_and_its_lines_a_dot_each() {
        let line = |workload: &str, driver: &str, flop: f64, gflops: f64| Line {
            workload: workload.into(),
            adapter: "Vulkan llvmpipe (LLVM 15.0.6, 256 bits)".into(),
            driver: driver.into(),
            ceilings: Some(Ceilings { copy_gbps: 10.0, transfer_gbps: 20.0, fma_gflops: 40.0, matrix_gflops: None }),
            flop,
            bytes: 1000,
            gflops,
            ..Line::default()
        };
        let [one, two] = ["llvmpipe Mesa 22.3.6 (LLVM 15.0.6)", "llvmpipe Mesa 26.0.0"];
        let lines = [line("p1", one, 2e5, 20.0), line("r1", one, 400.0, 3.0), line("p1", two, 2e5, 30.0)];
        let panels = panels(&lines);
        let [Panel::Curves(first), Panel::Curves(second)] = &panels[..] else { panic!("two panels") };
        assert_eq!(first.title, "Roofline of Vulkan llvmpipe, Mesa 22.3.6");
        assert_eq!((first.dots.len(), second.dots.len()), (2, 1));
        assert_eq!((first.dots[0].x, first.dots[0].y, first.dots[1].x), (200.0, 20.0, 0.4));
        assert_eq!(first.lines[0].points, [(0.1, 1.0), (4.0, 40.0), (1000.0, 40.0)]);
    }
}
