//! Documents to token ids in bounded chunks: while one chunk is tokenized on all threads the next
//! is read, so that memory stays at two chunks whatever the shards' size.

use std::path::PathBuf;

use crate::documents::{Document, Shard};
use crate::error::Result;
use crate::tokenizer::Tokenizer;

/// A chunk ends at this many documents …
const CHUNK_DOCUMENTS: usize = 4096;
/// … or this many bytes of text.
const CHUNK_BYTES: usize = 8 << 20;

/// How far a pass over the documents has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Documents done.
    pub done: u64,
    /// Documents in all, as the shards' footers say; documents with null text count here only.
    pub total: u64,
}

/// Rows of all shards, from their footers.
///
/// # Errors
///
/// As for opening each shard.
pub(crate) fn total_rows(paths: &[PathBuf]) -> Result<u64> {
    paths.iter().try_fold(0u64, |sum, path| {
        Ok(sum.saturating_add(Shard::open(path)?.rows()))
    })
}

/// Gives `each` every document with its ids (none without a tokenizer), in order; `after_chunk` is
/// called with the number of documents done.
pub(crate) fn encode_all(
    mut documents: impl Iterator<Item = Result<Document>> + Send,
    tokenizer: Option<&Tokenizer>,
    mut each: impl FnMut(&Document, &[u32]),
    mut after_chunk: impl FnMut(u64),
) -> Result<()> {
    let mut done = 0;
    let mut chunk = read_chunk(&mut documents)?;
    while !chunk.is_empty() {
        let (next, ids) = rayon::join(
            || read_chunk(&mut documents),
            || match tokenizer {
                Some(tokenizer) => {
                    let texts: Vec<&str> = chunk.iter().map(|d| d.text.as_str()).collect();
                    tokenizer.encode_batch(&texts)
                }
                None => Ok(vec![Vec::new(); chunk.len()]),
            },
        );
        for (document, ids) in chunk.iter().zip(ids?) {
            each(document, &ids);
        }
        done += chunk.len() as u64;
        after_chunk(done);
        chunk = next?;
    }
    Ok(())
}

fn read_chunk(documents: &mut impl Iterator<Item = Result<Document>>) -> Result<Vec<Document>> {
    let mut chunk = Vec::new();
    let mut bytes = 0;
    while chunk.len() < CHUNK_DOCUMENTS && bytes < CHUNK_BYTES {
        let Some(document) = documents.next() else {
            break;
        };
        let document = document?;
        bytes += document.text.len();
        chunk.push(document);
    }
    Ok(chunk)
}
