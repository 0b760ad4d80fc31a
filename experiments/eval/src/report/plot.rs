//! A plot as SVG: colours, axes and legend that all plots share, drawn by plotters without any font of
//! the machine; the viewer's sans-serif sets the text.
//!
//! Axes, text and grid are drawn in one colour, the ink, which becomes `currentColor`, so that a plot
//! takes the page's colour, light or dark. Curves keep colours that are clear on both.

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use serde::Serialize;

use super::series::short;
use crate::error::{Error, Result};

/// Width and height in SVG units.
const SIZE: (u32, u32) = (860, 400);
/// The page's ink; no curve has this colour.
pub(super) const INK: RGBColor = RGBColor(1, 2, 3);
/// One per run, in turn: Okabe and Ito's, which the colour-blind can tell apart, without the
/// yellow and black that vanish on a light or dark page.
pub(super) const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
];

/// Where a plot is drawn.
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// A plot with its scales.
pub(super) type Chart<'a, 'b> =
    ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
/// The result of drawing.
pub(super) type Drawn<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A drawn plot.
#[derive(Serialize)]
pub(super) struct Plot {
    /// The name of its file.
    pub(super) file: &'static str,
    /// Its title.
    pub(super) title: &'static str,
    /// The drawing, in the page's ink and of the page's width.
    pub(super) svg: String,
}

impl Plot {
    /// Draws a plot by `draw`.
    ///
    /// # Errors
    ///
    /// [`Error::Plot`].
    pub(super) fn new(
        file: &'static str,
        title: &'static str,
        draw: impl FnOnce(&Area<'_>) -> Drawn,
    ) -> Result<Self> {
        let svg = drawing(draw).map_err(|e| Error::Plot {
            name: file,
            reason: e.to_string(),
        })?;
        Ok(Self { file, title, svg })
    }

    /// The SVG as a file of its own, with its own light and dark.
    pub(super) fn standalone(&self) -> String {
        let style = "<style>svg{color:#1f2328;background:#fff}@media(prefers-color-scheme:dark)\
                     {svg{color:#e6edf3;background:#0d1117}}</style>\n";
        match self.svg.split_once('\n') {
            Some((open, rest)) => format!("{open}\n{style}{rest}"),
            None => self.svg.clone(),
        }
    }
}

/// The SVG that `draw` draws, its ink in the page's colour.
fn drawing(draw: impl FnOnce(&Area<'_>) -> Drawn) -> Drawn<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        draw(&root)?;
        root.present()?;
    }
    let ink = format!("#{:02X}{:02X}{:02X}", INK.0, INK.1, INK.2);
    Ok(svg.replace(&format!("\"{ink}\""), "\"currentColor\""))
}

/// Draws axes and grid; `x` and `y` are their names, `of_y` formats a value of y.
pub(super) fn axes(
    chart: &mut Chart<'_, '_>,
    x: &str,
    y: &str,
    of_y: &dyn Fn(&f64) -> String,
) -> Drawn {
    let label = ("sans-serif", 15).into_font().color(&INK);
    chart
        .configure_mesh()
        .x_desc(x)
        .y_desc(y)
        .axis_desc_style(label.clone())
        .label_style(label)
        .axis_style(INK.mix(0.5))
        .bold_line_style(INK.mix(0.12))
        .light_line_style(TRANSPARENT)
        .x_labels(8)
        .y_labels(7)
        .x_label_formatter(&|x| short(*x))
        .y_label_formatter(of_y)
        .draw()?;
    Ok(())
}

/// Draws the legend, in the upper right.
pub(super) fn legend<'a, 'b: 'a>(chart: &mut Chart<'a, 'b>) -> Drawn {
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .margin(10)
        .legend_area_size(30)
        .label_font(("sans-serif", 15).into_font().color(&INK))
        .border_style(TRANSPARENT)
        .background_style(TRANSPARENT)
        .draw()?;
    Ok(())
}
