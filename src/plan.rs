//! A run's plan in words.

use retort_train::Plan;

/// Lines for a person.
pub fn text(plan: &Plan) -> String {
    let m = &plan.memory;
    let mut lines = vec![
        format!(
            "parameters  {} ({} without embeddings, {} trained)",
            counted(plan.parameters as f64),
            counted(plan.parameters_without_embeddings as f64),
            counted(plan.trainable_parameters as f64),
        ),
        format!(
            "tokens      {} in {} steps of {}{}",
            counted(plan.tokens as f64),
            plan.steps,
            plan.tokens_per_step,
            plan.epochs
                .map_or(String::new(), |epochs| format!(", {epochs:.2} epochs")),
        ),
        format!(
            "memory      {}: weights {}, gradients {}, optimizer {}, average {}, activations {}{}",
            bytes(m.total_bytes),
            bytes(m.weights_bytes),
            bytes(m.gradients_bytes),
            bytes(m.optimizer_bytes),
            bytes(m.ema_bytes),
            bytes(m.activations_bytes),
            match m.rounded_bytes {
                0 => String::new(),
                rounded => format!(", rounded weights {}", bytes(rounded)),
            },
        ),
        format!(
            "arithmetic  {}FLOP, {}FLOP a token",
            counted(plan.flops),
            counted(plan.flops_per_token as f64),
        ),
    ];
    lines.push(match (&plan.measured, plan.hours) {
        (Some(measured), Some(hours)) => format!(
            "time        {} for {} steps at {:.0} tokens/s ({}FLOP/s{}, forward and backward timed \
             once{})",
            duration(hours),
            plan.steps_left,
            measured.tokens_per_second,
            counted(measured.flops_per_second),
            measured
                .peak_flops_per_second
                .map_or(String::new(), |peak| format!(
                    ", {:.0} % of this processor's {}FLOP/s",
                    100.0 * measured.flops_per_second / peak,
                    counted(peak)
                )),
            measured
                .peak_resident_bytes
                .map_or(String::new(), |peak| format!(", {} resident", bytes(peak))),
        ),
        _ => "time        not measured: the memory for it is not there; fewer rows at once (train.batch_size, with more \
              of train.accumulate) need less"
            .to_owned(),
    });
    if let Some(cost) = plan.cost {
        lines.push(format!("cost        {cost:.2} for these hours"));
    }
    lines.join("\n")
}

/// `950`, `1.20 M`, `3.00 G`.
fn counted(n: f64) -> String {
    let units = ["", "k", "M", "G", "T", "P", "E", "Z"];
    let mut n = n;
    let mut unit = 0;
    while n >= 999.5 && unit + 1 < units.len() {
        n /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{n:.0} "),
        _ => format!("{n:.2} {}", units[unit]),
    }
    .trim_end()
    .to_owned()
}

fn bytes(n: u64) -> String {
    match n {
        0 => "0".to_owned(),
        n => format!("{:.1} MB", n as f64 / 1e6),
    }
}

fn duration(hours: f64) -> String {
    if hours < 1.0 / 60.0 {
        format!("{:.0} seconds", hours * 3600.0)
    } else if hours < 1.0 {
        format!("{:.1} minutes", hours * 60.0)
    } else {
        format!("{hours:.1} hours")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!(counted(950.0), "950");
        assert_eq!(counted(1_200_000.0), "1.20 M");
        assert_eq!(counted(999_999.0), "1.00 M");
        assert_eq!(bytes(1_500_000), "1.5 MB");
        assert_eq!(duration(0.01), "36 seconds");
        assert_eq!(duration(0.5), "30.0 minutes");
        assert_eq!(duration(2.25), "2.2 hours");
    }
}
