//! What is exported, and under which name.

use std::sync::Arc;

use bytes::Bytes;

use crate::byte_device::{self, ByteDevice, Run};
use crate::command::{Command, Terms};
use crate::device::{DeviceError, SectorDevice, SectorExport, Unavailable};
use crate::handshake::Opened;
use crate::proto::{ErrorCode, Refusal, TransmissionFlags};
use crate::sector_locks::SectorLocks;

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

/// An export under its name.
#[derive(Debug)]
pub(crate) struct Export<E> {
    name: String,
    description: String,
    read_only: bool,
    sectors: Arc<E>,
    /// They outlive the devices of single clients: what two clients write to one sector must be
    /// kept apart, whichever device each of them has.
    locks: Arc<SectorLocks>,
}

/// An export as one client uses it.
#[derive(Debug)]
pub(crate) struct OpenExport<D> {
    device: ByteDevice<D>,
    /// As the client is told; a device that grows later is larger than this client knows.
    size_bytes: u64,
    read_only: bool,
}

impl<E: SectorExport> Export<E> {
    pub(crate) fn new(name: String, description: String, read_only: bool, sectors: Arc<E>) -> Self {
        Self {
            name,
            description,
            read_only,
            sectors,
            locks: Arc::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn info(&self) -> ExportInfo {
        ExportInfo {
            name: self.name.clone(),
            description: self.description.clone(),
            read_only: self.read_only,
            size_bytes: byte_device::size_bytes(self.sectors.sectors()),
        }
    }

    /// Opens it for one client.
    pub(crate) async fn open(&self) -> Result<OpenExport<E::Device>, Unavailable> {
        // The box keeps what opening needs out of every client's task.
        let device = Box::pin(self.sectors.open()).await?;
        let device = ByteDevice::new(device, Arc::clone(&self.locks));
        Ok(OpenExport {
            size_bytes: device.size_bytes(),
            device,
            read_only: self.read_only,
        })
    }
}

impl<D> Opened for OpenExport<D> {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
}

impl<D: SectorDevice> OpenExport<D> {
    /// What the client may ask of it.
    pub(crate) fn terms(&self, structured_replies: bool, payload_bytes_max: u64) -> Terms {
        Terms {
            size_bytes: self.size_bytes,
            read_only: self.read_only,
            structured_replies,
            payload_bytes_max,
        }
    }

    /// Returns once the device is lost to the client.
    pub(crate) fn lost(&self) -> impl Future<Output = ()> + Send {
        self.device.lost()
    }

    /// Carries out a command; the data are those of a READ. What it means for the time after this
    /// client the device hears at once.
    pub(crate) fn execute(
        &self,
        command: Command,
        payload: Bytes,
    ) -> impl Future<Output = Result<Vec<Run>, DeviceError>> {
        match command {
            Command::Write { .. } | Command::WriteZeroes { .. } | Command::Trim { .. } => {
                self.device.asked_for_change();
            }
            Command::Disconnect => self.device.said_goodbye(),
            Command::Read { .. } | Command::Flush | Command::Cache => {}
        }
        self.carry_out(command, payload)
    }

    async fn carry_out(&self, command: Command, payload: Bytes) -> Result<Vec<Run>, DeviceError> {
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
