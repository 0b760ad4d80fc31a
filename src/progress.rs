//! Progress on standard error: bars on a terminal, a line every half minute in a pipe.

use std::cell::Cell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use retort_data::DocumentProgress;
use retort_train::{Evaluation, Event, Metrics, Plan};

/// A bar of `length` steps, between the text `what` and a message.
pub fn bar(what: &str, length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{prefix:>12} [{bar:30}] {pos}/{len} {msg} {elapsed} (left {eta})",
    )
    .expect("a constant template")
    .progress_chars("=> ");
    let bar = ProgressBar::new(length).with_style(style);
    bar.set_prefix(what.to_owned());
    bar
}

/// A bar for a conversion, and the function that moves it and prints notices.
pub fn conversion(what: &str) -> (ProgressBar, impl Fn(retort_convert::Progress) + use<>) {
    let bar = bar(what, 0);
    let shown = bar.clone();
    (bar, move |progress| match progress {
        retort_convert::Progress::Notice(text) => shown.suspend(|| eprintln!("note: {text}")),
        retort_convert::Progress::Weights { done, total } => {
            shown.set_length(total);
            shown.set_position(done);
        }
    })
}

/// A bar for a pass over text, and the function that moves it.
pub fn documents() -> (ProgressBar, impl Fn(DocumentProgress) + use<>) {
    const STEPS: u64 = 1000;
    let style = ProgressStyle::with_template(
        "{prefix:>12} [{bar:30}] {percent:>3}% {msg} {elapsed} (left {eta})",
    )
    .expect("a constant template")
    .progress_chars("=> ");
    let bar = ProgressBar::new(STEPS).with_style(style);
    let shown = bar.clone();
    (bar, move |progress: DocumentProgress| {
        shown.set_prefix(progress.what);
        shown.set_message(format!("{} documents", progress.documents));
        shown.set_position((progress.fraction * STEPS as f64) as u64);
    })
}

/// The pace of lines where there is no bar: one at once, then one every half minute.
#[derive(Default)]
pub struct Pace(Cell<Option<Instant>>);

impl Pace {
    /// The same, with the first line after half a minute.
    pub fn later() -> Self {
        Self(Cell::new(Some(Instant::now())))
    }

    /// Whether a line is due; if so, the next half minute begins.
    pub fn due(&self) -> bool {
        let last = self.0.get();
        let due = last.is_none_or(|last| last.elapsed() >= Duration::from_secs(30));
        if due {
            self.0.set(Some(Instant::now()));
        }
        due
    }
}

/// An evaluation as text.
pub fn figures(e: &Evaluation) -> String {
    let mut text = format!(
        "validation loss {:.4} nats/token, perplexity {:.2}",
        e.validation_loss, e.validation_perplexity
    );
    if let Some(bits) = e.validation_bits_per_byte {
        text += &format!(", {bits:.4} bits/byte");
    }
    if let Some(loss) = e.ema_validation_loss {
        text += &format!(", averaged weights {loss:.4} nats/token");
    }
    text
}

/// The bar of a training run: loss, throughput, time left.
pub struct Training {
    bar: ProgressBar,
    smooth: Cell<Option<f64>>,
    /// The share of the processor's peak FLOP/s that one token a second takes.
    share: Option<f64>,
    quiet: bool,
    pace: Pace,
}

impl Training {
    /// A bar from step `first` to `last`, with the share of the peak by `plan`; `quiet` prints no lines.
    pub fn new(what: &str, [first, last]: [u64; 2], plan: Option<&Plan>, quiet: bool) -> Self {
        let share = plan.and_then(|plan| {
            let peak = plan.measured?.peak_flops_per_second?;
            Some(plan.flops_per_token as f64 / peak)
        });
        let bar = bar(what, last);
        bar.set_position(first);
        bar.reset_eta();
        Self {
            bar,
            smooth: Cell::new(None),
            share,
            quiet,
            pace: Pace::default(),
        }
    }

    /// Shows an event of the loop.
    pub fn event(&self, event: Event<'_>) {
        match event {
            Event::Step(m) => self.step(m),
            Event::Skipped(step, why) => self.line(&format!("step {step}: skipped: {why}")),
            Event::Evaluated(e) => self.line(&format!("step {}: {}", e.step, figures(e))),
            Event::TasksEvaluated(e) => {
                let figures: Vec<String> = e
                    .tasks
                    .iter()
                    .map(|(name, v)| format!("{name} {v:.4}"))
                    .collect();
                self.line(&format!("step {}: {}", e.step, figures.join(", ")));
            }
            Event::Sampled(s) => {
                self.line(&format!("step {}: {:?} {:?}", s.step, s.prompt, s.text));
            }
            Event::Checkpoint(path) => self.line(&format!("checkpoint {}", path.display())),
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn step(&self, m: &Metrics) {
        let smooth = self
            .smooth
            .get()
            .map_or(m.loss, |s| 0.95 * s + 0.05 * m.loss);
        // The loss of a skipped batch may not be finite.
        let smooth = if smooth.is_finite() {
            smooth
        } else {
            self.smooth.get().unwrap_or(f64::NAN)
        };
        self.smooth.set(Some(smooth).filter(|s| s.is_finite()));
        self.bar.set_position(m.step);
        let share = self.share.map_or(String::new(), |share| {
            format!(", {:.0} % of peak", 100.0 * share * m.tokens_per_second)
        });
        self.bar.set_message(format!(
            "loss {smooth:.3}  {:.0} tokens/s{share} ",
            m.tokens_per_second
        ));
        if self.bar.is_hidden() && self.pace.due() {
            self.line(&format!(
                "step {}: loss {smooth:.4}, {:.0} tokens/s{share}",
                m.step, m.tokens_per_second
            ));
        }
    }

    fn line(&self, text: &str) {
        if self.quiet {
            return;
        }
        if self.bar.is_hidden() {
            eprintln!("{text}");
        } else {
            self.bar.println(text);
        }
    }
}
