//! The program `skinny` from outside: what it prints, how it fails, that it can be killed.

mod bench;
mod exchange;
mod export;
mod failures;
mod help;
mod resume;
mod storage;
mod studies;
mod support;
mod sweep;
