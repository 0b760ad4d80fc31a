//! Steps of all ranks together.

use retort_comm::flat_parameters::{take, weights, with_weights};
use retort_comm::{Zero1, threads};

use crate::tiny::{grads, model};

#[test]
fn zero1_gives_owners_the_sum_and_all_ranks_the_owners_weights() {
    let one = take(&model(), &mut grads(&model()), |_| true);
    let all = threads::run(3, |group| {
        let model = model();
        let zero1 = Zero1::new(group.clone(), &model);
        let mut reduction = zero1.reduction(&model);
        reduction.add(grads(&model), false);
        reduction.add(grads(&model), true);
        let (summed, updated) = reduction.finish().unwrap();
        let numbers = take(&model, &mut { summed }, |_| true);
        let square = |id| -> f32 {
            numbers
                .get(&id)
                .map_or(0.0, |x: &Vec<f32>| x.iter().map(|x| x * x).sum())
        };
        let summed = retort_comm::flat_parameters::gradients(&model, numbers.clone());
        let present = retort_comm::flat_parameters::present(&model, &summed);
        let squares = present.into_iter().map(square).collect();
        let norm = zero1.norm(&model, &summed, squares, 1.0);
        for (id, sum) in &numbers {
            let expected = one[id].iter().map(|x| 6.0 * x);
            assert!(
                sum.iter()
                    .zip(expected)
                    .all(|(s, e)| (s - e).abs() <= 1e-6 * e.abs())
            );
        }
        // The owner's weights become its rank.
        let mut mine = weights(&model, |id| zero1.owns(group.rank(), id));
        mine.values_mut()
            .flatten()
            .for_each(|x| *x = group.rank() as f32);
        let model = zero1.all_gather_weights(with_weights(model, mine), &updated);
        (norm, numbers.len(), weights(&model, |_| true), zero1)
    });
    assert_eq!(all.iter().map(|(_, n, ..)| n).sum::<usize>(), one.len());
    let squares = one.values().flatten().map(|x| f64::from(6.0 * x).powi(2));
    let norm = squares.sum::<f64>().sqrt();
    for (found, _, weights, _) in &all {
        assert!((found - norm).abs() < 1e-5 * norm, "{found} {norm}");
        assert_eq!(found.to_bits(), all[0].0.to_bits());
        assert_eq!(*weights, all[0].2);
    }
    for (id, values) in &all[0].2 {
        let owner = (0..3).find(|&rank| all[0].3.owns(rank, *id)).unwrap();
        assert!(values.iter().all(|x| *x == owner as f32));
    }
}
