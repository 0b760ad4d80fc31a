//! A recipe's `[tasks]`: evaluation on tasks during training.

use std::collections::BTreeMap;

use retort_eval::tasks::{BurnScorer, LoadOptions, LoadedTask, Task, evaluate};
use retort_model::Decoder;
use retort_tokenizer::Tokenizer;
use retort_train::{Evaluator, TaskMetrics, TasksConfig};

/// Token ids of a batch.
const BATCH_TOKENS: usize = 1024;

/// The tasks, with their items.
pub struct TaskEvaluator(Vec<LoadedTask>);

impl TaskEvaluator {
    /// Finds the tasks and reads their files.
    ///
    /// # Errors
    ///
    /// A task, or a data file of one, that does not exist or is wrong.
    pub fn load(tasks: &TasksConfig) -> anyhow::Result<Self> {
        let options = LoadOptions {
            dirs: tasks.data.clone(),
            limit: tasks.limit,
            shots: tasks.shots,
        };
        let load = |name: &String| anyhow::Ok(LoadedTask::new(Task::find(name)?, &options)?);
        Ok(Self(
            tasks.names.iter().map(load).collect::<Result<_, _>>()?,
        ))
    }
}

impl Evaluator for TaskEvaluator {
    fn evaluate(
        &self,
        model: &Decoder,
        tokenizer: &Tokenizer,
    ) -> Result<TaskMetrics, Box<dyn std::error::Error + Send + Sync>> {
        let mut scorer = BurnScorer::new(model, tokenizer, None, BATCH_TOKENS)?;
        let found = evaluate(&self.0, &mut scorer, &mut |_, _, _| {})?;
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
