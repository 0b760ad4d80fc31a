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
    /// Validation loss in nats a token.
    pub loss: f64,
    /// Decoding speed.
    pub tokens_per_second: f64,
    /// Size of the GGUF file.
    pub bytes: u64,
}

/// The table as text; `floor` is the corpus's entropy in nats a token.
pub fn render(rows: &[ModelRow], floor: f64) -> String {
    let mut text = format!(
        "\n{:<26}{:>10}{:>7}{:>8}{:>10}{:>13}{:>12}{:>10}{:>9}\n",
        "",
        "params",
        "steps",
        "seconds",
        "val loss",
        "above floor",
        "perplexity",
        "tokens/s",
        "file"
    );
    for r in rows {
        text += &format!(
            "{:<26}{:>10}{:>7}{:>8.1}{:>10.4}{:>13.4}{:>12.3}{:>10.0}{:>9}\n",
            r.name,
            r.parameters,
            r.steps,
            r.seconds,
            r.loss,
            r.loss - floor,
            r.loss.exp(),
            r.tokens_per_second,
            size(r.bytes),
        );
    }
    text += &format!(
        "{:<26}{:>10}{:>7}{:>8}{:>10.4}{:>13}{:>12.3}\n",
        "the stories' entropy",
        "",
        "",
        "",
        floor,
        "",
        floor.exp()
    );
    text
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
    fn shows_the_distance_to_the_floor() {
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
        for part in ["1234", "1.2500", "0.2500", "3.490", "123 kB", "2.718"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
