//! Checkpoints: `checkpoints/step-N/`, a Hugging Face directory (config, safetensors, tokenizer, chat template) with the
//! trainer's state beside it.
//!
//! | file | holds |
//! | --- | --- |
//! | `state.json` | [`TrainerState`]; written last, it marks the checkpoint as complete |
//! | `optimizer.bpk` | the optimizer's moments of all parameters, whichever rank owns them |
//! | `latent.safetensors` | with `[quantize]`, the weights before rounding |
//! | `projections.safetensors` | matrices that an objective trains beside the model |
//! | `ema/` | with `ema_decay`, the averaged weights, another such directory |
//! | `diloco/` | with `[train.diloco]`, the outer momentum and the other ranks' optimizers |
//!
//! A checkpoint is written aside, synced and renamed ([`BackgroundWriter`] does it while training goes on).

mod background;
mod digest;
mod diloco_state;
mod find;
mod save;
mod state;

pub use background::BackgroundWriter;
pub use diloco_state::DilocoState;
pub use find::{EMA, best, latest, list, model_directory, path};
pub use save::{CheckpointContents, Retention};
pub use state::{TrainerState, load_optimizer, load_state};
