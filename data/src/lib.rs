//! Parquet shards to documents, token ids, and packed sequences.
