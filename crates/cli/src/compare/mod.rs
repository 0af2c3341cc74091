//! Runs against each other: groups of seeds, what their differences say, as tables and pictures.

pub mod groups;
pub mod latency;
pub mod pictures;
pub mod runs;
pub mod statistics;
pub mod table;
#[cfg(test)]
mod tests;
