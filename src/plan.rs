//! A training plan as text: parameters, tokens, memory, arithmetic, time, cost.

use retort_train::{Measured, Plan, Tokens};

/// The plan as lines.
pub fn text(plan: &Plan) -> String {
    let m = &plan.memory;
    let mut lines = vec![
        format!(
            "parameters  {} ({} without embeddings, {} trained)",
            counted(plan.parameters as f64),
            counted(plan.parameters_without_embeddings as f64),
            counted(plan.trainable_parameters as f64),
        ),
        tokens(&plan.tokens),
        format!(
            "memory      {}: weights {}, gradients {}, optimizer {}, average {}, activations {}{}{}",
            bytes(m.total_bytes),
            bytes(m.weights_bytes),
            bytes(m.gradients_bytes),
            bytes(m.optimizer_bytes),
            bytes(m.ema_bytes),
            bytes(m.activations_bytes),
            more(", rounded weights", m.rounded_bytes),
            more(", teacher", m.teacher_bytes),
        ),
    ];
    // A given pace is another machine's.
    let here = plan.told_flops_per_second.is_none();
    let free = retort_files::memory::available_bytes().filter(|&free| here && free < m.total_bytes);
    if let Some(free) = free {
        lines.push(format!(
            "            this machine has {} free: fewer rows at once (train.batch_size, with more of \
             train.accumulate) need less",
            bytes(free)
        ));
    }
    let teacher = plan.teacher.map_or(0, |teacher| teacher.flops_per_token);
    lines.push(format!(
        "arithmetic  {}FLOP, {}FLOP a token{}",
        counted(plan.flops),
        counted(plan.flops_per_token as f64),
        match teacher {
            0 => String::new(),
            each => format!(
                ", and the teacher's {}FLOP, {}FLOP a token",
                counted(each as f64 * plan.tokens.tokens as f64),
                counted(each as f64)
            ),
        }
    ));
    lines.push(time(plan));
    if let Some(measured) = &plan.measured {
        lines.push(timed(measured, plan.teacher.is_some()));
    }
    if let Some(cost) = plan.cost {
        lines.push(format!("cost        {cost:.2} for these hours"));
    }
    let notes = plan.notes.iter();
    lines.extend(notes.map(|note| format!("note        {note}")));
    lines.join("\n")
}

/// The line about tokens and steps.
pub fn tokens(tokens: &Tokens) -> String {
    format!(
        "tokens      {} in {} steps of {}{}",
        counted(tokens.tokens as f64),
        tokens.steps,
        tokens.tokens_per_step,
        tokens
            .epochs
            .map_or(String::new(), |epochs| format!(", {epochs:.2} epochs")),
    )
}

/// The line about time.
fn time(plan: &Plan) -> String {
    let Some(hours) = plan.hours else {
        return "time        not measured: the memory for a row through one layer is not there"
            .to_owned();
    };
    let (hours, steps) = (duration(hours), plan.tokens.steps_left);
    if let Some(pace) = plan.told_flops_per_second {
        let pace = counted(pace);
        return format!("time        {hours} for {steps} steps at {pace}FLOP/s, as told");
    }
    match &plan.measured {
        Some(measured) => format!(
            "time        {hours} for {steps} steps at {:.0} tokens/s",
            measured.tokens_per_second
        ),
        None => format!("time        {hours} for {steps} steps"),
    }
}

/// The line about the timed pass.
fn timed(measured: &Measured, teacher: bool) -> String {
    let m = measured;
    let whole = m.rows == m.rows_of && m.layers == m.layers_of;
    let mut what = if whole {
        "a batch, forward and backward".to_owned()
    } else {
        format!(
            "{} of {} rows through {} of {} layers, forward and backward; the rest by arithmetic",
            m.rows, m.rows_of, m.layers, m.layers_of
        )
    };
    if teacher && !m.teacher {
        what += "; the teacher did not run, and is put at the same pace";
    }
    let peak = m.peak_flops_per_second.map_or(String::new(), |peak| {
        let share = 100.0 * m.flops_per_second / peak;
        format!(", {share:.0} % of this processor's {}FLOP/s", counted(peak))
    });
    let resident = m
        .peak_resident_bytes
        .map_or(String::new(), |peak| format!(", {} resident", bytes(peak)));
    let pace = counted(m.flops_per_second);
    format!("timed       {what}: {pace}FLOP/s{peak}{resident}")
}

/// `what` and its size, unless that is 0.
fn more(what: &str, n: u64) -> String {
    match n {
        0 => String::new(),
        n => format!("{what} {}", bytes(n)),
    }
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
