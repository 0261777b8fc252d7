//! What is exported, and under which name.

use bytes::Bytes;

use crate::byte_device::{ByteDevice, Run};
use crate::command::{Command, Terms};
use crate::device::{DeviceError, SectorDevice};
use crate::proto::{ErrorCode, Refusal, TransmissionFlags};

/// What clients learn of an export, whatever its device is.
#[derive(Clone, Debug)]
pub(crate) struct ExportInfo {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) read_only: bool,
    pub(crate) size_bytes: u64,
}

impl ExportInfo {
    pub(crate) fn flags(&self, structured_replies: bool) -> TransmissionFlags {
        TransmissionFlags::new(self.read_only, structured_replies)
    }

    /// Whether a client that asks for `name` means this export. The empty name is that of the
    /// default export.
    pub(crate) fn answers_to(&self, name: &str) -> bool {
        name.is_empty() || name == self.name
    }
}

/// A device with its name, shared by all its connections.
#[derive(Debug)]
pub(crate) struct Export<D> {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) read_only: bool,
    pub(crate) device: ByteDevice<D>,
}

impl<D: SectorDevice> Export<D> {
    pub(crate) fn info(&self) -> ExportInfo {
        ExportInfo {
            name: self.name.clone(),
            description: self.description.clone(),
            read_only: self.read_only,
            size_bytes: self.device.size_bytes(),
        }
    }

    /// What a connection may ask of the export.
    pub(crate) fn terms(&self, structured_replies: bool, payload_bytes_max: u64) -> Terms {
        Terms {
            size_bytes: self.device.size_bytes(),
            read_only: self.read_only,
            structured_replies,
            payload_bytes_max,
        }
    }

    /// Carries out a command; the data are those of a READ.
    pub(crate) async fn execute(
        &self,
        command: Command,
        payload: Bytes,
    ) -> Result<Vec<Run>, DeviceError> {
        match command {
            Command::Read { range, .. } => return self.device.read(range).await,
            Command::Write { range } => self.device.write(range.offset, payload).await?,
            // These two are rare: the boxes keep every request's future small.
            Command::WriteZeroes { range, zeroing } => {
                Box::pin(self.device.zero(range, zeroing)).await?;
            }
            Command::Trim { range } => Box::pin(self.device.trim(range)).await?,
            Command::Flush => self.device.flush().await?,
            Command::Cache | Command::Disconnect => {}
        }
        Ok(Vec::new())
    }
}

/// The error that clients see for a failure of the device.
pub(crate) fn refusal(error: &DeviceError) -> Refusal {
    let code = match error {
        DeviceError::Io(_) => ErrorCode::Io,
        DeviceError::NoSpace => ErrorCode::NoSpace,
        DeviceError::ShuttingDown => ErrorCode::ShuttingDown,
    };
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    Refusal::new(code, text)
}
