//! Progress on standard error: bars on a terminal, in a pipe a line now and then.

use std::cell::Cell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use retort_data::Progress;
use retort_train::{Evaluation, Event, Metrics, Plan};

/// A bar of `length` steps, `what` before it and a changing message behind it.
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

/// A bar for a pass over text, and the function that moves it.
pub fn documents() -> (ProgressBar, impl Fn(Progress) + use<>) {
    const STEPS: u64 = 1000;
    let style = ProgressStyle::with_template(
        "{prefix:>12} [{bar:30}] {percent:>3}% {msg} {elapsed} (left {eta})",
    )
    .expect("a constant template")
    .progress_chars("=> ");
    let bar = ProgressBar::new(STEPS).with_style(style);
    let shown = bar.clone();
    (bar, move |progress: Progress| {
        shown.set_prefix(progress.what);
        shown.set_message(format!("{} documents", progress.documents));
        shown.set_position((progress.fraction * STEPS as f64) as u64);
    })
}

/// When a line is due where there is no bar: every half minute.
pub struct Pace {
    last: Instant,
}

impl Pace {
    /// The first half minute begins.
    pub fn new() -> Self {
        Self {
            last: Instant::now(),
        }
    }

    /// Whether a line is due; if so, the next half minute begins.
    pub fn due(&mut self) -> bool {
        let due = self.last.elapsed() >= Duration::from_secs(30);
        if due {
            self.last = Instant::now();
        }
        due
    }
}

/// An evaluation in words.
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
    /// The share of the processor's peak that a token a second is.
    share: Option<f64>,
    quiet: bool,
    last_line: Cell<Option<Instant>>,
}

impl Training {
    /// A bar from `first` to `last` step. `plan`: what the run was found to take. `quiet`: nothing is printed but
    /// the bar.
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
            last_line: Cell::new(None),
        }
    }

    /// Shows an event of the loop.
    pub fn event(&self, event: Event<'_>) {
        match event {
            Event::Step(m) => self.step(m),
            Event::Skipped(step, why) => self.line(&format!("step {step}: passed over: {why}")),
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

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn step(&self, m: &Metrics) {
        let smooth = self
            .smooth
            .get()
            .map_or(m.loss, |s| 0.95 * s + 0.05 * m.loss);
        // A batch that was passed over may have no number for a loss.
        let smooth = match smooth.is_finite() {
            true => smooth,
            false => self.smooth.get().unwrap_or(f64::NAN),
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
        // In a pipe or a log there is no bar: a line now and then instead.
        let due = self
            .last_line
            .get()
            .is_none_or(|t| t.elapsed() > Duration::from_secs(30));
        if self.bar.is_hidden() && due {
            self.last_line.set(Some(Instant::now()));
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
