//! An NBD server over any device of 4096-byte sectors: under construction.

mod device;

pub use device::{DeviceError, Piece, SECTOR_SIZE, SectorDevice};
