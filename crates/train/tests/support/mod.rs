//! What the comparison with PyTorch needs: the generator of values, the stored fixtures, the comparison.

pub mod compare;
pub mod fixture;
pub mod reference;
