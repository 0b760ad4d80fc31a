//! A recipe's `[tasks]`: evaluation tasks asked of the weights while they are trained.

use std::collections::BTreeMap;

use retort_eval::eval::{self, BurnScorer, Loaded, Options, Task};
use retort_model::Decoder;
use retort_tokenizer::Tokenizer;
use retort_train::{Evaluator, TaskMetrics, TasksConfig};

/// Ids that go through the model together.
const BATCH_TOKENS: usize = 1024;

/// The tasks, with their items.
pub struct Questions(Vec<Loaded>);

impl Questions {
    /// Finds the tasks and reads their files.
    ///
    /// # Errors
    /// A task, or a file of one, that is not there or not what it should be.
    pub fn load(tasks: &TasksConfig) -> anyhow::Result<Self> {
        let options = Options {
            dirs: tasks.data.clone(),
            limit: tasks.limit,
            shots: tasks.shots,
        };
        let load = |name: &String| anyhow::Ok(Loaded::new(Task::find(name)?, &options)?);
        Ok(Self(
            tasks.names.iter().map(load).collect::<Result<_, _>>()?,
        ))
    }
}

impl Evaluator for Questions {
    fn evaluate(
        &self,
        model: &Decoder,
        tokenizer: &Tokenizer,
    ) -> Result<TaskMetrics, Box<dyn std::error::Error + Send + Sync>> {
        let mut scorer = BurnScorer::new(model, tokenizer, None, BATCH_TOKENS)?;
        let found = eval::evaluate(&self.0, &mut scorer, &mut |_, _, _| {})?;
        let mut figures = BTreeMap::new();
        for task in &found {
            for figure in &task.figures {
                figures.insert(
                    format!("{}/{}", task.name, figure.metric.name()),
                    figure.value,
                );
            }
        }
        Ok(figures)
    }
}
