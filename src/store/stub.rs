//! TEMP
#![allow(missing_docs, clippy::pedantic, unused)]
use super::*;
use crate::domain::*;
use std::sync::Arc;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct StoreError;
pub struct Unrecovered;
pub struct Options {
    pub cluster: [u8; 16],
    pub rank: Rank,
    pub lock_wait: std::time::Duration,
}
impl Unrecovered {
    pub fn open(_: &std::path::Path, _: &Options) -> Result<Self, StoreError> {
        Ok(Self)
    }
    pub fn recover(self, _: Box<dyn FnOnce(StoreError) + Send>) -> Result<DiskSectors, StoreError> {
        Ok(DiskSectors(MemorySectors::automatic()))
    }
}
pub struct DiskSectors(MemorySectors);
pub struct Statistics {
    pub sectors: u64,
    pub waiting_for_space: bool,
}
impl DiskSectors {
    pub fn incarnation(&self) -> Incarnation {
        Incarnation(1)
    }
    pub fn identity(&self) -> StoreId {
        StoreId([std::process::id() as u8; 16])
    }
    pub fn birth(&self) -> Option<Birth> {
        None
    }
    pub fn record_birth(&self, _: Birth) -> Result<(), StoreError> {
        Ok(())
    }
    pub fn is_empty(&self) -> bool {
        true
    }
    pub fn statistics(&self) -> Statistics {
        Statistics {
            sectors: 0,
            waiting_for_space: false,
        }
    }
    pub fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
impl SectorsManager for DiskSectors {
    fn load(
        &self,
        t: u64,
        r: SectorRange,
        n: Option<Runs<Vote>>,
        c: &Arc<dyn Completions>,
    ) -> Option<Held> {
        self.0.load(t, r, n, c)
    }
    fn store(&self, r: Vec<StoreRequest>, c: &Arc<dyn Completions>) {
        self.0.store(r, c)
    }
}
