//! Several keepers among one another.

mod cluster;
mod random;
