//! Ranks that train apart and synchronize.

use retort_comm::flat_parameters::{weights, with_weights};
use retort_comm::{Diloco, DilocoConfig, threads};

use crate::tiny::model;

#[test]
fn diloco_ranks_have_one_model_after_synchronizing() {
    let config = DilocoConfig {
        every: 2,
        lr: 0.7,
        momentum: 0.9,
        int8: false,
    };
    let found = threads::run(2, |group| {
        let model = model();
        let mut diloco = Diloco::new(group.clone(), config, &model, None).unwrap();
        assert!(!diloco.synchronizes_after(1, false) && diloco.synchronizes_after(1, true));
        assert!(diloco.synchronizes_after(2, false));
        let before = weights(&model, |_| true);
        let mut moved = before.clone();
        let by = [0.25, 0.75][group.rank()];
        moved.values_mut().flatten().for_each(|x| *x -= by);
        let model = diloco.synchronize(with_weights(model, moved));
        let after = weights(&model, |_| true);
        for (id, b) in &before {
            for (b, a) in b.iter().zip(&after[id]) {
                assert!((b - 0.7 * (0.5 + 0.9 * 0.5) - a).abs() < 1e-5);
            }
        }
        (after, diloco.momentum())
    });
    assert_eq!(found[0], found[1]);
}
