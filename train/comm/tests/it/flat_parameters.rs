//! Parameters as lists of numbers, and back.

use retort_comm::flat_parameters::{
    checksum, gradients, present, take, trained, weights, with_weights,
};

use crate::tiny::{grads, model};

#[test]
fn flat_gradients_and_weights_round_trip() {
    let model = model();
    let all = trained(&model);
    assert_eq!(all.iter().filter(|t| t.layer == Some(1)).count(), 2);
    assert_eq!(all.iter().filter(|t| t.layer.is_none()).count(), 2);
    let mut found = grads(&model);
    assert_eq!(present(&model, &found).len(), all.len());
    let taken = take(&model, &mut found, |id| id != all[0].id);
    assert_eq!(present(&model, &found), [all[0].id]);
    let given = gradients(&model, taken.clone());
    assert_eq!(take(&model, &mut { given }, |_| true), taken);

    let before = weights(&model, |_| true);
    let mut doubled = before.clone();
    doubled.values_mut().flatten().for_each(|x| *x *= 2.0);
    let sum = checksum(&model);
    let model = with_weights(model, doubled.clone());
    assert_eq!(weights(&model, |_| true), doubled);
    assert_ne!(checksum(&model), sum);
    assert_eq!(trained(&model), all);
    assert_eq!(checksum(&with_weights(model, before)), sum);
}
