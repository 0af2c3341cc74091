//! One module per verb.

pub mod bench;
pub mod classifier;
pub mod compare;
pub mod data;
pub mod env;
pub mod eval;
pub mod exchange;
pub mod export;
pub mod finish;
pub mod help;
pub mod import;
pub mod inspect;
pub mod latency;
pub mod plan;
pub mod predict;
pub mod recipes;
pub mod report;
pub mod sensitivity;
pub mod slim;
pub mod source;
pub mod summary;
pub mod sweep;
pub mod train;
