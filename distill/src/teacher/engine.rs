//! A teacher in the edge engine: a GGUF file in int4 or any other format, for models too large to
//! run in f32.
//!
//! With document attention each document of a row is run as a sequence of its own, otherwise each
//! row is.

use std::path::Path;
use std::sync::Arc;

use retort_engine::decoder::{Engine, EngineSettings, KvType};
use retort_engine::tokenizer::{TokenType, Vocabulary};
use retort_format::gguf::Gguf;
use retort_model::TeacherLogits;
use retort_tokenizer::Tokenizer;
use retort_train::BatchTensors;

use super::Teacher;
use super::vocabulary::check_vocabulary;
use crate::error::{Error, Result};

/// A memory-mapped teacher.
pub struct EngineTeacher {
    engine: Arc<Engine>,
}

impl EngineTeacher {
    /// Maps the file `path` and checks that its tokens are the `student`'s.
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
        let settings = EngineSettings::new(None, false, KvType::F16)?;
        Ok(Self {
            engine: Arc::new(Engine::with(gguf, settings)?),
        })
    }
}

impl Teacher for EngineTeacher {
    fn logits(&self, batch: &BatchTensors) -> Result<TeacherLogits> {
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

    fn vocab_size(&self) -> usize {
        self.engine.config().vocab_size
    }
}
