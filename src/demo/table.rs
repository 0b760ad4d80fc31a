//! The demo's closing table.

use serde::Serialize;

/// One model as the edge engine runs it.
#[derive(Serialize)]
pub struct ModelRow {
    /// What it is.
    pub name: String,
    /// Parameters.
    pub parameters: u64,
    /// Updates in training.
    pub steps: u64,
    /// Seconds of training.
    pub seconds: f64,
    /// Loss on the held-out stories in nats a token.
    pub loss: f64,
    /// Decoding speed.
    pub tokens_per_second: f64,
    /// Size of the GGUF file.
    pub bytes: u64,
}

/// The table as text; `entropy` is the held-out stories' own, in nats a token.
pub fn render(rows: &[ModelRow], entropy: f64) -> String {
    let mut text = format!(
        "\n{:<33}{:>10}{:>9}{:>15}{:>10}{:>9}\n",
        "", "params", "seconds", "held-out loss", "tokens/s", "file"
    );
    for r in rows {
        text += &format!(
            "{:<33}{:>10}{:>9.1}{:>15.4}{:>10.0}{:>9}\n",
            r.name,
            r.parameters,
            r.seconds,
            r.loss,
            r.tokens_per_second,
            size(r.bytes),
        );
    }
    text += &format!(
        "{:<33}{:>10}{:>9}{:>15.4}\n",
        "the stories' entropy", "", "", entropy
    );
    text
}

/// What the table says of the teacher, from the losses of the three students.
pub fn conclusion(scratch: f64, untaught: f64, taught: f64) -> String {
    let against = |other: f64| {
        let word = if taught <= other { "less" } else { "more" };
        format!("{:.3} nats a token {word}", (taught - other).abs())
    };
    format!(
        "On stories that no model has seen, the taught student loses {} than the one trained\n\
         from scratch and {} than the same cut without a teacher, in the same time, each at its best stop.",
        against(scratch),
        against(untaught),
    )
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        _ => format!("{:.2} MB", bytes as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_each_figure() {
        let row = ModelRow {
            name: "student".into(),
            parameters: 1234,
            steps: 10,
            seconds: 1.5,
            loss: 1.25,
            tokens_per_second: 900.0,
            bytes: 123_456,
        };
        let text = render(&[row], 1.0);
        for part in ["1234", "1.5", "1.2500", "900", "123 kB", "1.0000"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_teacher_that_does_not_pay_is_said_so() {
        let text = conclusion(0.6, 0.45, 0.5);
        assert!(text.contains("0.100 nats a token less"), "{text}");
        assert!(text.contains("0.050 nats a token more"), "{text}");
    }
}
