//! DiLoCo: resumes, and sends fewer bytes with int8.

use std::fs;

use super::{copy_dir, lines, losses, run, weights, workplace};

#[test]
fn diloco_resumes_bit_for_bit_and_with_another_number_of_ranks() {
    let dir = workplace();
    let at = dir.path();
    for int8 in [false, true] {
        let set = format!(
            "--set train.diloco={{every=3,int8={int8}}} --set train.ema_decay=0.0 --set train.checkpoint_every=4 \
             --set train.keep_checkpoints=9"
        );
        let name = format!("run-{int8}");
        run(2, &format!("train recipe.toml --run {name} {set}"), at);
        let whole = at.join(&name);
        let saved = |step: u64| whole.join(format!("checkpoints/step-{step}"));
        // Due after 4 and 8 steps, written at the next synchronization.
        assert!(!saved(3).exists() && saved(6).exists() && saved(9).exists() && saved(12).exists());
        let sent: Vec<u64> = lines(&whole)
            .iter()
            .filter_map(|line| line["sent_bytes"].as_u64())
            .collect();
        assert_eq!(sent.len(), 4, "{sent:?}");
        for (ranks, again) in [(2, format!("same-{int8}")), (4, format!("four-{int8}"))] {
            let to = at.join(&again);
            copy_dir(&whole, &to);
            fs::remove_dir_all(to.join("checkpoints/step-12")).unwrap();
            fs::remove_dir_all(to.join("checkpoints/step-9")).unwrap();
            run(
                ranks,
                &format!("train recipe.toml --run {again} {set} --resume"),
                at,
            );
            assert_eq!(lines(&to).len(), lines(&whole).len());
            if ranks == 2 {
                assert_eq!(losses(&to), losses(&whole));
                assert_eq!(weights(&to, 12), weights(&whole, 12));
            }
        }
    }
    // Of the first synchronization, before any checkpoint was gathered.
    let sent = |name: &str| {
        let all = lines(&at.join(name));
        all.iter()
            .find_map(|line| line["sent_bytes"].as_u64())
            .unwrap()
    };
    assert!(3 * sent("run-true") < sent("run-false"));
}
