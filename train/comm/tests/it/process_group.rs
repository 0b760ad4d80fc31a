//! Collective operations between ranks that are threads.

use retort_comm::{ProcessGroup, threads};

#[test]
fn reduce_scatter_adds_in_the_ranks_order_whoever_owns_the_sum() {
    // 1e8 + 1 loses the 1 in f32: the order shows.
    let values = [1.0f32, 1e8, -1e8, 3.0];
    let expected: f32 = values.iter().sum();
    let lengths = [3usize, 0, 300_000, 1];
    let sums = threads::run(4, |group| {
        let parts = lengths.map(|n| vec![values[group.rank()]; n]).to_vec();
        group.reduce_scatter(parts).wait()
    });
    for (sum, n) in sums.iter().zip(lengths) {
        assert_eq!(sum.len(), n);
        assert!(sum.iter().all(|x| x.to_bits() == expected.to_bits()));
    }
}

#[test]
fn collectives_give_every_rank_the_same() {
    for size in [1, 2, 3] {
        let heard = threads::run(size, |group| {
            let mine = vec![group.rank() as u8; group.rank()];
            let gathered = group.all_gather(mine.clone());
            let from_0 = group.broadcast(vec![7, group.rank() as u8]);
            let collected = group.gather(mine.clone());
            assert_eq!(
                collected,
                if group.is_main() {
                    gathered.clone()
                } else {
                    Vec::new()
                }
            );
            let each = if group.is_main() {
                gathered.clone()
            } else {
                Vec::new()
            };
            assert_eq!(group.scatter(each), mine);
            assert_eq!(
                group.all_reduce_sum(group.rank() as u64 + 1),
                (size * (size + 1) / 2) as u64
            );
            assert!(group.any(group.rank() + 1 == size) && !group.any(false));
            let sizes = (0..size).collect();
            assert_eq!(group.all_gather_v(mine, sizes).wait(), gathered);
            let parts = (0..size)
                .map(|to| vec![group.rank() as u8, to as u8])
                .collect();
            let traded = group.all_to_all(parts);
            let expected: Vec<_> = (0..size)
                .map(|from| vec![from as u8, group.rank() as u8])
                .collect();
            assert_eq!(traded, expected);
            (gathered, from_0)
        });
        let all: Vec<_> = (0..size).map(|r| vec![r as u8; r]).collect();
        assert!(heard.iter().all(|h| *h == (all.clone(), vec![7, 0])));
    }
}

#[test]
fn sent_bytes_counts_a_payload_once_for_each_receiver() {
    let sent = threads::run(3, |group| {
        group.reduce_scatter(vec![vec![0.0; 10]; 3]).wait();
        group.sent_bytes()
    });
    assert_eq!(sent, [2 * 40; 3]);
    // The owner of everything neither hears it from all nor tells it to all.
    let sent = threads::run(4, |group| {
        let n = 120_000;
        let sum = group
            .reduce_scatter(vec![vec![1.0; n], vec![], vec![], vec![]])
            .wait();
        assert_eq!(sum, vec![4.0; if group.is_main() { n } else { 0 }]);
        let reduced = group.sent_bytes();
        let mine = if group.is_main() {
            (0..4 * n).map(|i| i as u8).collect()
        } else {
            Vec::new()
        };
        let all = group.all_gather_v(mine, vec![4 * n, 0, 0, 0]).wait();
        assert!(all[0].iter().enumerate().all(|(i, x)| *x == i as u8) && all[0].len() == 4 * n);
        [reduced, group.sent_bytes() - reduced]
    });
    let slice = 120_000;
    assert_eq!(sent[0], [3 * slice, 6 * slice]);
    assert_eq!(sent[1..], [[4 * slice, 3 * slice]; 3]);
    let alone = ProcessGroup::single();
    alone.barrier();
    assert_eq!(alone.sent_bytes(), 0);
}
