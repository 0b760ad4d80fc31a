//! Tasks: the TOML file, its checks, and the built-in ones.

mod builtin;
mod check;
mod file;
mod forms;
mod sources;

pub use builtin::TASKS;
pub use file::Task;
pub use forms::{Cloze, Generation, MultipleChoice};
pub use sources::{Format, Join, Source};
