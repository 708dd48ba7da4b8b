//! Panels on a page, by plotters: SVG text or the bytes of a PNG.

use super::data::{Axis, Curves, Heat, Panel};
use super::theme::{Colours, Theme};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, Ranged, ValueFormatter};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::FontTransform;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::ops::Range;

/// Width and height of a panel, in units that are pixels of an SVG.
const PANEL: (u32, u32) = (680, 430);
/// The width of a panel with a square matrix.
const SQUARE: u32 = 530;
/// Around a plot: title, labels of the axes, and the plot's top, right and bottom margins.
const TITLE: u32 = 48;
const LABELS: (u32, u32) = (66, 48);
const MARGINS: (u32, u32, u32, u32) = (16, 4, 8, 12);
/// The room beside a plot for the colour bar.
const BAR: u32 = 124;
/// Pixels of a PNG for one unit.
const PNG_SCALE: u32 = 2;
/// The most colours of a map; neighbours of one colour share a rectangle.
const LEVELS: f64 = 64.0;
const FONT: &str = "sans-serif";

type Area<'a, B> = DrawingArea<B, Shift>;

/// The size of a page in units: panels side by side, at most three in a row.
fn page(panels: &[Panel]) -> (u32, u32) {
    let square = |panel: &Panel| matches!(panel, Panel::Heat(heat) if heat.rows == heat.columns);
    let width = if panels.iter().all(square) { SQUARE } else { PANEL.0 };
    let columns = panels.len().clamp(1, 3);
    (width * columns as u32, PANEL.1 * panels.len().div_ceil(columns).max(1) as u32)
}

/// A picture as SVG.
pub fn svg(panels: &[Panel], theme: Theme) -> Result<String, String> {
    fonts()?;
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, page(panels)).into_drawing_area();
        Pen { scale: 1, colours: theme.colours() }.draw(&area, panels)?;
    }
    // what SVG takes for granted goes: there are many cells
    let text = text.replace(" opacity=\"1\"", "").replace(" stroke=\"none\"", "");
    // cells keep their edges sharp at any zoom, so that no seams show between them
    Ok(text.replacen(">\n", ">\n<style>rect{shape-rendering:crispEdges}</style>\n", 1))
}

/// A picture as PNG.
pub fn png(panels: &[Panel], theme: Theme) -> Result<Vec<u8>, String> {
    if cfg!(target_arch = "wasm32") {
        return Err("a browser draws no letters into pixels; ask for SVG".into());
    }
    fonts()?;
    let (width, height) = page(panels);
    let (width, height) = (width * PNG_SCALE, height * PNG_SCALE);
    let mut pixels = vec![0; (width * height * 3) as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        Pen { scale: PNG_SCALE, colours: theme.colours() }.draw(&area, panels)?;
    }
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels));
    written.map_err(|e| e.to_string())?;
    Ok(bytes)
}

#[cfg(not(target_arch = "wasm32"))]
fn fonts() -> Result<(), String> {
    plotters::style::register_font(FONT, FontStyle::Normal, dejavu::sans::regular())
        .map_err(|_| "the built-in font is broken".into())
}

/// plotters measures text by the browser's own font there.
#[cfg(target_arch = "wasm32")]
fn fonts() -> Result<(), String> {
    Ok(())
}

/// An axis that is linear or logarithmic at run time: plotters has a type for each.
#[derive(Clone)]
struct Scale {
    range: Range<f64>,
    log: bool,
}

impl Scale {
    /// 0 to 1 along the axis.
    fn share(&self, value: f64) -> f64 {
        let f = |x: f64| if self.log { x.max(f64::MIN_POSITIVE).log10() } else { x };
        (f(value) - f(self.range.start)) / (f(self.range.end) - f(self.range.start))
    }
}

impl Ranged for Scale {
    type FormatOption = plotters::coord::ranged1d::NoDefaultFormatting;
    type ValueType = f64;
    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = self.share(*value).clamp(-1.0, 2.0);
        (limit.0 as f64 + share * (limit.1 - limit.0) as f64).round() as i32
    }
    fn key_points<H: KeyPointHint>(&self, hint: H) -> Vec<f64> {
        let (low, high) = (self.range.start.min(self.range.end), self.range.start.max(self.range.end));
        let most = hint.max_num_points().max(2);
        if self.log {
            let (first, last) = (low.log10().ceil() as i32, high.log10().floor() as i32);
            let step = ((last - first) as usize / most + 1).max(1);
            return (first..=last).step_by(step).map(|e| 10f64.powi(e)).collect();
        }
        let rough = (high - low) / most as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].iter().map(|n| n * power).find(|s| *s >= rough).unwrap_or(rough);
        let (first, last) = ((low / step).ceil() as i64, (high / step + 1e-9).floor() as i64);
        (first..=last).map(|i| i as f64 * step).collect()
    }
    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Scale {
    fn format(value: &f64) -> String {
        tick(*value)
    }
}

/// A tick's label: plain numbers of readable length, powers of ten as such.
fn tick(value: f64) -> String {
    let size = value.abs();
    match size {
        0.0 => "0".into(),
        s if !(2e-3..1e5).contains(&s) => {
            let power = (s.log10() + 1e-9).floor();
            let times = value / 10f64.powf(power);
            let raised: String = power.to_string().chars().map(superscript).collect();
            if (times - 1.0).abs() < 1e-6 { format!("10{raised}") } else { format!("{times:.1} × 10{raised}") }
        }
        s if s >= 1e4 => {
            let n = value.round() as i64;
            format!("{} {:03}", n / 1000, (n % 1000).abs())
        }
        _ => {
            let text = format!("{value:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_string()
        }
    }
}

/// A digit or minus sign, raised.
fn superscript(c: char) -> char {
    let raised = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    c.to_digit(10).and_then(|d| raised.get(d as usize).copied()).unwrap_or('⁻')
}

/// What draws: colours, and pixels for one unit.
struct Pen {
    scale: u32,
    colours: Colours,
}

impl Pen {
    fn px(&self, units: u32) -> u32 {
        units * self.scale
    }

    fn at(&self, x: u32, y: u32) -> (i32, i32) {
        (self.px(x) as i32, self.px(y) as i32)
    }

    fn text(&self, size: u32, colour: RGBColor, place: Pos) -> TextStyle<'static> {
        TextStyle { font: (FONT, self.px(size)).into_font(), color: colour.to_backend_color(), pos: place }
    }

    fn draw<B: DrawingBackend>(&self, page: &Area<B>, panels: &[Panel]) -> Result<(), String> {
        page.fill(&self.colours.background).map_err(words)?;
        let columns = panels.len().clamp(1, 3);
        let areas = page.split_evenly((panels.len().div_ceil(columns).max(1), columns));
        for (area, panel) in areas.iter().zip(panels) {
            match panel {
                Panel::Heat(heat) => self.heat(area, heat)?,
                Panel::Curves(curves) => self.curves(area, curves)?,
            }
        }
        page.present().map_err(words)
    }

    /// The title; what is left of the panel is cut into plot and side.
    fn frame<'a, B: DrawingBackend>(
        &self,
        area: &Area<'a, B>,
        title: &str,
        side: u32,
    ) -> Result<(Area<'a, B>, Area<'a, B>), String> {
        let style = self.text(22, self.colours.text, Pos::new(HPos::Left, VPos::Top));
        area.draw_text(title, &style, self.at(20, 14)).map_err(words)?;
        let (_, below) = area.split_vertically(self.px(TITLE));
        let width = below.dim_in_pixel().0;
        Ok(below.split_horizontally(width.saturating_sub(side)))
    }

    fn chart<'a, B: DrawingBackend>(
        &self,
        area: &'a Area<B>,
        x: Scale,
        y: Scale,
    ) -> Result<ChartContext<'a, B, Cartesian2d<Scale, Scale>>, String> {
        ChartBuilder::on(area)
            .margin_left(self.px(MARGINS.0))
            .margin_top(self.px(MARGINS.1))
            .margin_right(self.px(MARGINS.2))
            .margin_bottom(self.px(MARGINS.3))
            .x_label_area_size(self.px(LABELS.1))
            .y_label_area_size(self.px(LABELS.0))
            .build_cartesian_2d(x, y)
            .map_err(words)
    }

    fn mesh<B: DrawingBackend>(
        &self,
        chart: &mut ChartContext<B, Cartesian2d<Scale, Scale>>,
        x: &Axis,
        y: &Axis,
        grid: bool,
    ) -> Result<(), String> {
        let grid = self.colours.grid.mix(if grid { 1.0 } else { 0.0 }).stroke_width(self.scale);
        chart
            .configure_mesh()
            .x_labels(8)
            .y_labels(8)
            .max_light_lines(0)
            .bold_line_style(grid)
            .light_line_style(TRANSPARENT)
            .axis_style(self.colours.quiet.stroke_width(self.scale))
            .label_style(self.text(15, self.colours.quiet, Pos::default()))
            .axis_desc_style(self.text(16, self.colours.text, Pos::default()))
            .x_desc(&x.label)
            .y_desc(&y.label)
            .draw()
            .map_err(words)
    }

    fn heat<B: DrawingBackend>(&self, area: &Area<B>, heat: &Heat) -> Result<(), String> {
        let (width, height) = area.dim_in_pixel();
        let side = match heat.rows == heat.columns {
            // cells as wide as they are high
            true => {
                let plot = height.saturating_sub(self.px(TITLE + LABELS.1 + MARGINS.1 + MARGINS.3));
                width.saturating_sub(plot + self.px(LABELS.0 + MARGINS.0 + MARGINS.2))
            }
            false => self.px(BAR),
        };
        let (plot, side) = self.frame(area, &heat.title, side)?;
        let (low, high) = limits(heat.values.iter().copied());
        // 0 in the middle of a signed map
        let (low, high) = if heat.signed { (-high.max(-low), high.max(-low)) } else { (low, high) };
        let map = self.colours.map(heat.signed);
        let level = |v: f64| ((v - low) / (high - low) * (LEVELS - 1.0)).round();
        let colour = |level: f64| map.get_color(level / (LEVELS - 1.0));

        // an index is the middle of its cell; position 0 stands on top
        let x = Scale { range: -0.5..heat.columns as f64 - 0.5, log: false };
        let y = Scale { range: heat.rows as f64 - 0.5..-0.5, log: false };
        let mut chart = self.chart(&plot, x, y)?;
        let cells = rectangles(heat, level).into_iter().map(|c| {
            let corners = [(c.x as f64 - 0.5, c.y as f64 - 0.5), ((c.x + c.w) as f64 - 0.5, (c.y + c.h) as f64 - 0.5)];
            Rectangle::new(corners, colour(c.level).filled())
        });
        chart.draw_series(cells).map_err(words)?;
        self.mesh(&mut chart, &heat.x, &heat.y, false)?;
        self.bar(&side, &heat.value, low, high, &colour)
    }

    /// The colour bar: values upwards, its label beside it.
    fn bar<B: DrawingBackend>(
        &self,
        side: &Area<B>,
        label: &str,
        low: f64,
        high: f64,
        colour: &dyn Fn(f64) -> RGBColor,
    ) -> Result<(), String> {
        let (left, right, top) = (self.px(14) as i32, self.px(32) as i32, self.px(MARGINS.1) as i32);
        let bottom = side.dim_in_pixel().1 as i32 - self.px(LABELS.1 + MARGINS.3) as i32;
        let y = |share: f64| bottom - ((bottom - top) as f64 * share).round() as i32;
        for step in 0..LEVELS as i32 {
            let edge = |s: i32| y(s as f64 / LEVELS);
            let cell = Rectangle::new([(left, edge(step + 1)), (right, edge(step))], colour(step as f64).filled());
            side.draw(&cell).map_err(words)?;
        }
        let scale = Scale { range: low..high, log: false };
        let quiet = self.colours.quiet.stroke_width(self.scale);
        let style = self.text(15, self.colours.quiet, Pos::new(HPos::Left, VPos::Center));
        for value in scale.key_points(7) {
            let at = y(scale.share(value));
            side.draw(&PathElement::new([(right, at), (right + self.px(5) as i32, at)], quiet)).map_err(words)?;
            side.draw_text(&tick(value), &style, (right + self.px(9) as i32, at)).map_err(words)?;
        }
        let style = TextStyle::from((FONT, self.px(16)).into_font().transform(FontTransform::Rotate270))
            .color(&self.colours.text)
            .pos(Pos::new(HPos::Center, VPos::Top));
        side.draw_text(label, &style, (self.px(92) as i32, (top + bottom) / 2)).map_err(words)
    }

    fn curves<B: DrawingBackend>(&self, area: &Area<B>, curves: &Curves) -> Result<(), String> {
        let style = self.text(16, self.colours.text, Pos::new(HPos::Left, VPos::Center));
        let width = |label: &str| area.estimate_text_size(label, &style).map(|(width, _)| width).unwrap_or_default();
        let labels = curves.lines.iter().map(|l| &l.label).chain(curves.dots.iter().map(|d| &d.label));
        let legend = labels.map(|label| width(label)).max().unwrap_or_default() + self.px(60);
        let (plot, side) = self.frame(area, &curves.title, legend)?;
        let dots = || curves.dots.iter().map(|d| (d.x, d.y));
        let points = || curves.lines.iter().flat_map(|l| l.points.iter().copied()).chain(dots());
        let shown = |axis: &Axis, v: f64| !axis.log || v > 0.0;
        let x = limits(points().map(|p| p.0).filter(|v| shown(&curves.x, *v)));
        let y = limits(points().map(|p| p.1).filter(|v| shown(&curves.y, *v)));
        let y = match curves.y.log {
            true => (10f64.powf((y.0.log10() - 0.3).floor()), 10f64.powf(y.1.log10().ceil())),
            false => (y.0.min(0.0), y.1 * 1.02),
        };
        let x = Scale { range: x.0..x.1, log: curves.x.log };
        let y = Scale { range: y.0..y.1, log: curves.y.log };
        let mut chart = self.chart(&plot, x.clone(), y.clone())?;
        self.mesh(&mut chart, &curves.x, &curves.y, true)?;

        let quiet = self.colours.quiet.stroke_width(self.scale);
        for mark in &curves.marks {
            let (from, to, place, at) = match (mark.x, mark.y) {
                (Some(v), _) => {
                    ((v, y.range.start), (v, y.range.end), Pos::new(HPos::Right, VPos::Bottom), (v, y.range.end))
                }
                (_, Some(v)) => {
                    ((x.range.start, v), (x.range.end, v), Pos::new(HPos::Right, VPos::Top), (x.range.end, v))
                }
                (None, None) => continue,
            };
            let dash = DashedLineSeries::new([from, to], self.px(3), self.px(4), quiet);
            chart.draw_series(dash).map_err(words)?;
            // beside its line: along a vertical one, below the end of a horizontal one
            let font = (FONT, self.px(14)).into_font();
            let (font, shift) = match mark.x {
                Some(_) => (font.transform(FontTransform::Rotate270), (-(self.px(3) as i32), self.px(4) as i32)),
                None => (font, (-(self.px(6) as i32), self.px(5) as i32)),
            };
            let style = TextStyle::from(font).color(&self.colours.quiet).pos(place);
            let label = EmptyElement::at(at) + Text::new(mark.label.clone(), shift, style);
            chart.draw_series([label]).map_err(words)?;
        }
        for (i, line) in curves.lines.iter().enumerate() {
            let points = line.points.iter().copied().filter(|p| shown(&curves.x, p.0) && shown(&curves.y, p.1));
            let points: Vec<(f64, f64)> = points.collect();
            match self.dash(i) {
                None => chart.draw_series(LineSeries::new(points, self.stroke(i))).map(|_| ()).map_err(words)?,
                Some((on, off)) => chart
                    .draw_series(DashedLineSeries::new(points, on, off, self.stroke(i)))
                    .map(|_| ())
                    .map_err(words)?,
            }
        }
        // the legend stands beside the plot, where it covers nothing
        for (i, line) in curves.lines.iter().enumerate() {
            let y = self.px(16 + 24 * i as u32) as i32;
            let sample = [(self.px(6) as i32, y), (self.px(34) as i32, y)];
            match self.dash(i) {
                None => side.draw(&PathElement::new(sample, self.stroke(i))).map_err(words)?,
                Some((on, off)) => {
                    side.draw(&DashedPathElement::new(sample, on, off, self.stroke(i))).map_err(words)?
                }
            }
            side.draw_text(&line.label, &style, (self.px(40) as i32, y)).map_err(words)?;
        }
        // dots that lie on each other stay apart in the legend
        for (i, dot) in curves.dots.iter().enumerate() {
            let (size, style_of_dot) = self.dot(i);
            chart.draw_series([Circle::new((dot.x, dot.y), size, style_of_dot)]).map_err(words)?;
            let y = self.px(16 + 24 * (curves.lines.len() + i) as u32) as i32;
            side.draw(&Circle::new((self.px(20) as i32, y), size, style_of_dot)).map_err(words)?;
            side.draw_text(&dot.label, &style, (self.px(40) as i32, y)).map_err(words)?;
        }
        Ok(())
    }

    /// The n-th dot's size and style: a colour each, filled, then open, then small.
    fn dot(&self, n: usize) -> (u32, ShapeStyle) {
        let style = self.stroke(n + 1);
        match (n + 1) / self.colours.lines.len() % 3 {
            0 => (self.px(6), style.filled()),
            1 => (self.px(6), style),
            _ => (self.px(3), style.filled()),
        }
    }

    /// The n-th curve's colour.
    fn stroke(&self, n: usize) -> ShapeStyle {
        let lines = &self.colours.lines;
        lines.iter().cycle().nth(n % lines.len()).unwrap_or(&self.colours.text).stroke_width(2 * self.scale)
    }

    /// The n-th curve's dashes; `None`: drawn through. Neighbours differ in more than colour.
    fn dash(&self, n: usize) -> Option<(u32, u32)> {
        match n % 4 {
            0 => None,
            1 => Some((self.px(9), self.px(4))),
            2 => Some((self.px(3), self.px(3))),
            _ => Some((self.px(16), self.px(5))),
        }
    }
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The smallest and largest finite number, apart from each other.
fn limits(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let finite = values.filter(|v| v.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    match (low.is_finite(), low < high) {
        (true, true) => (low, high),
        (true, false) => (low - 0.5, low + 0.5),
        (false, _) => (0.0, 1.0),
    }
}

/// Cells of one level.
#[derive(Clone, Copy, PartialEq)]
struct Cell {
    x: usize,
    y: usize,
    w: usize,
    h: usize,
    level: f64,
}

/// Equal neighbours joined, along rows and then down the columns; hidden cells left out.
fn rectangles(heat: &Heat, level: impl Fn(f64) -> f64) -> Vec<Cell> {
    let mut done: Vec<Cell> = Vec::new();
    let mut open: Vec<Cell> = Vec::new();
    for (y, row) in heat.values.chunks(heat.columns.max(1)).enumerate() {
        let mut runs: Vec<Cell> = Vec::new();
        for (x, value) in row.iter().enumerate().filter(|(_, v)| v.is_finite()) {
            let level = level(*value);
            match runs.last_mut() {
                Some(run) if run.level == level && run.x + run.w == x => run.w += 1,
                _ => runs.push(Cell { x, y, w: 1, h: 1, level }),
            }
        }
        for run in &mut runs {
            let above = |c: &&Cell| (c.x, c.w, c.level) == (run.x, run.w, run.level);
            if let Some(c) = open.iter().find(above) {
                (run.y, run.h) = (c.y, c.h + 1);
            }
        }
        let continued = |c: &&Cell| !runs.iter().any(|r| (r.x, r.w, r.level, r.y) == (c.x, c.w, c.level, c.y));
        done.extend(open.iter().filter(continued).copied());
        open = runs;
    }
    done.extend(open);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rectangles_cover_each_visible_cell_once() {
        let axis = || Axis { label: String::new(), log: false };
        let values = [0.0, 0.0, 1.0, 0.0, 0.0, 1.0, f64::NAN, 0.0, 0.0];
        let heat = Heat {
            title: String::new(),
            x: axis(),
            y: axis(),
            value: String::new(),
            columns: 3,
            rows: 3,
            values: values.to_vec(),
            signed: false,
        };
        let cells = rectangles(&heat, |v| v);
        assert_eq!(cells.len(), 3);
        for (i, value) in values.iter().enumerate() {
            let (x, y) = (i % 3, i / 3);
            let over: Vec<&Cell> =
                cells.iter().filter(|c| (c.x..c.x + c.w).contains(&x) && (c.y..c.y + c.h).contains(&y)).collect();
            match value.is_nan() {
                true => assert!(over.is_empty()),
                false => assert!(over.len() == 1 && over[0].level == *value, "{x} {y}"),
            }
        }
    }

    #[test]
    fn ticks_are_short() {
        let cases = [
            (0.0, "0"),
            (0.25, "0.25"),
            (-3.0, "-3"),
            (4096.0, "4096"),
            (65536.0, "65 536"),
            (1e6, "10⁶"),
            (2.5e7, "2.5 × 10⁷"),
        ];
        for (value, text) in cases {
            assert_eq!(tick(value), text);
        }
        assert_eq!(tick(1e-9), "10⁻⁹");
    }
}
