//! Under construction.
use super::Settings;

/// Who is connected.
#[derive(Debug)]
pub struct Connections;

impl Connections {
    /// None.
    pub fn new(_settings: &Settings) -> Self {
        Self
    }

    /// Authenticated clients.
    pub fn clients(&self) -> usize {
        todo!()
    }

    /// Returns once no client is connected.
    pub async fn clients_gone(&self) {
        todo!()
    }
}
