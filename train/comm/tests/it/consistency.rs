//! Ranks that differ are named.

use retort_comm::consistency::ConsistencyCheck;
use retort_comm::threads;

#[test]
fn consistency_check_names_the_rank_that_differs_and_in_what() {
    let answers = threads::run(3, |group| {
        let check = |recipe| {
            ConsistencyCheck::default()
                .text("recipe", recipe)
                .number("step", 4)
        };
        check("a").run(&group).unwrap();
        let recipe = if group.rank() == 2 { "b" } else { "a" };
        check(recipe).run(&group).unwrap_err().to_string()
    });
    for answer in answers {
        assert!(
            answer.contains("rank 2 differs from rank 0 in: recipe:"),
            "{answer}"
        );
    }
}
