//! Tests of export, import, packing and quantization on whole files.

mod damage;
mod export;
mod import;
mod quantize;
mod rotate;
