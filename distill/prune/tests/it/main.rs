//! Students cut out of tiny parents.

mod errors;
mod fixture;
mod vocabulary;
mod weights;
