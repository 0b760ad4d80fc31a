use super::threads::ranks;
use super::*;

#[test]
fn sums_are_made_in_the_ranks_order_whoever_owns_them() {
    // 1e8 + 1 loses the 1 in f32: the order shows.
    let values = [1.0f32, 1e8, -1e8, 3.0];
    let expected: f32 = values.iter().sum();
    let lengths = [3usize, 0, 300_000, 1];
    let sums = ranks(4, |world| {
        let parts = lengths.map(|n| vec![values[world.rank()]; n]).to_vec();
        world.reduce(parts).wait()
    });
    for (sum, n) in sums.iter().zip(lengths) {
        assert_eq!(sum.len(), n);
        assert!(sum.iter().all(|x| x.to_bits() == expected.to_bits()));
    }
}

#[test]
fn everybody_hears_the_same() {
    for size in [1, 2, 3] {
        let heard = ranks(size, |world| {
            let mine = vec![world.rank() as u8; world.rank()];
            let gathered = world.gather(mine.clone());
            let from_0 = world.broadcast(vec![7, world.rank() as u8]);
            let collected = world.collect(mine.clone());
            assert_eq!(
                collected,
                if world.leads() {
                    gathered.clone()
                } else {
                    Vec::new()
                }
            );
            let each = if world.leads() {
                gathered.clone()
            } else {
                Vec::new()
            };
            assert_eq!(world.scatter(each), mine);
            assert_eq!(
                world.count(world.rank() as u64 + 1),
                (size * (size + 1) / 2) as u64
            );
            assert!(world.any(world.rank() + 1 == size) && !world.any(false));
            let sizes = (0..size).collect();
            assert_eq!(world.spread(mine, sizes).wait(), gathered);
            let parts = (0..size)
                .map(|to| vec![world.rank() as u8, to as u8])
                .collect();
            let traded = world.trade(parts);
            let expected: Vec<_> = (0..size)
                .map(|from| vec![from as u8, world.rank() as u8])
                .collect();
            assert_eq!(traded, expected);
            (gathered, from_0)
        });
        let all: Vec<_> = (0..size).map(|r| vec![r as u8; r]).collect();
        assert!(heard.iter().all(|h| *h == (all.clone(), vec![7, 0])));
    }
}

#[test]
fn sent_bytes_are_counted_once_for_each_that_gets_them() {
    let sent = ranks(3, |world| {
        world.reduce(vec![vec![0.0; 10]; 3]).wait();
        world.sent()
    });
    assert_eq!(sent, [2 * 40; 3]);
    // The owner of everything neither hears it from all nor tells it to all.
    let sent = ranks(4, |world| {
        let n = 120_000;
        let sum = world
            .reduce(vec![vec![1.0; n], vec![], vec![], vec![]])
            .wait();
        assert_eq!(sum, vec![4.0; if world.leads() { n } else { 0 }]);
        let reduced = world.sent();
        let mine = if world.leads() {
            (0..4 * n).map(|i| i as u8).collect()
        } else {
            Vec::new()
        };
        let all = world.spread(mine, vec![4 * n, 0, 0, 0]).wait();
        assert!(all[0].iter().enumerate().all(|(i, x)| *x == i as u8) && all[0].len() == 4 * n);
        [reduced, world.sent() - reduced]
    });
    let slice = 120_000;
    assert_eq!(sent[0], [3 * slice, 6 * slice]);
    assert_eq!(sent[1..], [[4 * slice, 3 * slice]; 3]);
    let alone = World::alone();
    alone.meet();
    assert_eq!(alone.sent(), 0);
}
