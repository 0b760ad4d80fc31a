//! A teacher in int4 (or any format of GGUF), run by the edge engine: this is how a model of
//! 7 billion weights teaches where memory is short.
//!
//! Each document of a row is a sequence of its own where the student keeps to documents,
//! else each row.

use std::path::Path;
use std::sync::Arc;

use retort_data::Tokenizer;
use retort_engine::decoder::{Engine, KvType, Settings};
use retort_engine::tokenizer::{TokenType, Vocabulary};
use retort_format::gguf::Gguf;
use retort_model::TeacherLogits;
use retort_train::BatchTensors;

use super::{Teach, check_vocabulary};
use crate::error::{Error, Result};

/// A mapped teacher.
pub struct EngineTeacher {
    engine: Arc<Engine>,
}

impl EngineTeacher {
    /// Maps `path` and checks that its tokens are `student`'s.
    ///
    /// # Errors
    /// Anything wrong with the file; [`Error::Vocabulary`] with the first differing id.
    pub fn load(path: &Path, student: &Tokenizer) -> Result<Self> {
        let gguf = Gguf::open(path)?;
        let theirs = Vocabulary::from_gguf(&gguf)?;
        let token = |id: u32| {
            let unused = theirs.types.get(id as usize) == Some(&TokenType::Unused);
            let token = theirs.tokens.get(id as usize).cloned();
            token.filter(|_| !unused)
        };
        check_vocabulary(path, token, theirs.tokens.len(), student)?;
        let settings = Settings::new(None, false, KvType::F16)?;
        Ok(Self {
            engine: Arc::new(Engine::with(gguf, settings)?),
        })
    }
}

impl Teach for EngineTeacher {
    fn lesson(&self, batch: &BatchTensors) -> Result<TeacherLogits> {
        let engine = &self.engine;
        let [b, t] = batch.inputs.dims();
        let trained = engine.config().context_length;
        if t > trained {
            return Err(Error::Context { rows: t, trained });
        }
        let ids = batch.inputs.clone().into_data().convert::<i32>();
        let ids: Vec<i32> = ids.try_into_vec().expect("numbers just converted");
        let ids: Vec<u32> = ids.into_iter().map(|id| id as u32).collect();
        let starts = batch.documents.as_ref().map(|d| d.starts());
        let mut hidden = Vec::with_capacity(ids.len() * engine.config().hidden_size);
        let mut session = engine.session(t)?;
        for row in 0..b {
            let mut first = 0;
            while first < t {
                let start = |i: usize| starts.map_or(0, |starts| starts[row * t + i]);
                let end = (first + 1..t)
                    .find(|&i| start(i) != start(first))
                    .unwrap_or(t);
                session.truncate(0);
                session.hidden(&ids[row * t + first..row * t + end], &mut hidden)?;
                first = end;
            }
        }
        let (engine, width) = (engine.clone(), engine.config().hidden_size);
        Ok(TeacherLogits::Dense {
            vocabulary: engine.config().vocab_size,
            logits: Box::new(move |rows| {
                let hidden = &hidden[rows.start * width..rows.end * width];
                engine.logits(hidden).expect("the engine has just run")
            }),
        })
    }

    fn vocabulary(&self) -> usize {
        self.engine.config().vocab_size
    }
}
