//! The handshake: from a new connection to an export, one option after another.
//!
//! Bytes that follow it are read only while the client waits for its export to be opened, and are
//! part of the [`Agreement`] then. An option's data are held only up to [`OPTION_BYTES_MAX`];
//! whatever is longer is read past and refused.

use std::future::Future;
use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::device::Unavailable;
use crate::export::ExportInfo;
use crate::proto::{
    BadOption, CLIENT_FLAGS_BYTES, ClientFlags, Info, InfoRequest, OPTION_HEADER_BYTES,
    OptionHeader, OptionKind, ReplyKind, STRING_BYTES_MAX, Wanted, decode_name,
    encode_export_name_reply, encode_greeting, encode_info, encode_option_reply, encode_server,
};
use crate::read_ahead::ReadAhead;

/// An export's name and all information requests there can ever be fit into this.
const OPTION_BYTES_MAX: usize = 16 << 10;

/// Any request may begin anywhere and have any length.
const BLOCK_BYTES_MIN: u32 = 1;
/// Whole sectors need no reading before they are written.
const BLOCK_BYTES_PREFERRED: u32 = 4096;

/// What the two sides agreed on.
#[derive(Debug)]
pub(crate) struct Agreement<O> {
    /// The export, open for this client.
    pub(crate) export: O,
    pub(crate) structured_replies: bool,
    /// The first bytes of what the client sends after the handshake.
    pub(crate) ahead: BytesMut,
}

/// An export that was opened for a client.
pub(crate) trait Opened {
    fn size_bytes(&self) -> u64;
}

/// Why there was no agreement.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("the socket failed")]
    Socket(#[from] io::Error),
    #[error("the client sets flags that were not offered")]
    ClientFlags,
    #[error("the client is out of step: an option does not begin as options do")]
    Magic,
    #[error("the client asked for the unknown export {0:?} in a way that allows no reply")]
    UnknownExport(String),
    #[error("the client asked for an export in a way that allows no reply")]
    ExportName(#[from] BadOption),
    #[error("the client cannot have its export, and asked for it in a way that allows no reply")]
    Unavailable(#[from] Unavailable),
    #[error("the client left before its export was open")]
    LeftTooEarly,
}

/// What the server offers.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) exports: Vec<ExportInfo>,
    /// The largest READ or WRITE that is recommended to clients.
    pub(crate) payload_bytes_max: u32,
}

/// What follows an option.
enum Next {
    AnotherOption,
    Open(Choice),
    Close,
}

/// The export that a client chose.
struct Choice {
    /// By its place among the exports.
    place: usize,
    how: How,
}

/// How an export is chosen, and with it how the client is answered.
#[derive(Copy, Clone)]
enum How {
    ExportName,
    Go(Wanted),
}

/// Negotiates with the client; `None` when it chose to leave without an export. `open` is called
/// with an export's place when the client has chosen it, and dropped when the client leaves first.
pub(crate) async fn negotiate<S, O, F>(
    stream: &mut S,
    offer: &Offer,
    mut open: impl FnMut(usize) -> F,
) -> Result<Option<Agreement<O>>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    O: Opened,
    F: Future<Output = Result<O, Unavailable>>,
{
    let mut client = ReadAhead::new(stream);
    let mut out = BytesMut::new();
    encode_greeting(&mut out);
    client.stream().write_all_buf(&mut out).await?;
    let mut flags = [0; CLIENT_FLAGS_BYTES];
    client.read_exact(&mut flags).await?;
    let client_flags = ClientFlags::decode(flags).ok_or(HandshakeError::ClientFlags)?;
    let mut negotiation = Negotiation {
        offer,
        client_flags,
        structured_replies: false,
    };
    loop {
        let mut header = [0; OPTION_HEADER_BYTES];
        if client.read(&mut header[..1]).await? == 0 {
            return Ok(None);
        }
        client.read_exact(&mut header[1..]).await?;
        let header = OptionHeader::decode(&header).ok_or(HandshakeError::Magic)?;
        let next = match read_data(&mut client, header.length).await? {
            Some(data) => negotiation.answer(header.kind, &data, &mut out)?,
            None => refuse_oversize(header.kind, &mut out)?,
        };
        let mut opened = None;
        if let Next::Open(choice) = &next {
            let opening = client.unless_closed(open(choice.place)).await?;
            match opening.ok_or(HandshakeError::LeftTooEarly)? {
                Ok(export) => {
                    negotiation.accept(choice, export.size_bytes(), &mut out);
                    opened = Some(export);
                }
                Err(unavailable) => refuse_export(choice.how, unavailable, &mut out)?,
            }
        }
        client.stream().write_all_buf(&mut out).await?;
        if matches!(next, Next::Close) {
            return Ok(None);
        }
        if let Some(export) = opened {
            return Ok(Some(Agreement {
                export,
                structured_replies: negotiation.structured_replies,
                ahead: client.into_ahead(),
            }));
        }
    }
}

/// The data of an option, or `None` after reading past data that are too long.
async fn read_data<S>(stream: &mut S, length: u32) -> Result<Option<Vec<u8>>, HandshakeError>
where
    S: AsyncRead + Unpin,
{
    if let Some(length) = usize::try_from(length)
        .ok()
        .filter(|n| *n <= OPTION_BYTES_MAX)
    {
        let mut data = vec![0; length];
        stream.read_exact(&mut data).await?;
        return Ok(Some(data));
    }
    let skipped = tokio::io::copy(&mut stream.take(length.into()), &mut tokio::io::sink()).await?;
    if skipped < u64::from(length) {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(None)
}

fn refuse_oversize(kind: OptionKind, out: &mut BytesMut) -> Result<Next, HandshakeError> {
    let reply = match kind {
        OptionKind::ExportName => return Err(BadOption::NameTooLong.into()),
        OptionKind::Other(_) => ReplyKind::Unsupported,
        _ => ReplyKind::TooBig,
    };
    encode_option_reply(out, kind, reply, b"the option's data are too long");
    Ok(Next::AnotherOption)
}

/// The export exists, so that it is not "unknown": it is refused to this client, and the text says
/// why.
fn refuse_export(
    how: How,
    unavailable: Unavailable,
    out: &mut BytesMut,
) -> Result<(), HandshakeError> {
    match how {
        How::ExportName => Err(unavailable.into()),
        How::Go(_) => {
            let text = printable(&unavailable.0);
            encode_option_reply(out, OptionKind::Go, ReplyKind::Policy, text.as_bytes());
            Ok(())
        }
    }
}

/// The text as far as the protocol has a place for it.
fn printable(text: &str) -> String {
    let mut end = text.len().min(STRING_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace('\0', " ")
}

/// One client's negotiation: pure, from an option to replies.
struct Negotiation<'a> {
    offer: &'a Offer,
    client_flags: ClientFlags,
    structured_replies: bool,
}

impl Negotiation<'_> {
    fn answer(
        &mut self,
        kind: OptionKind,
        data: &[u8],
        out: &mut BytesMut,
    ) -> Result<Next, HandshakeError> {
        match kind {
            OptionKind::ExportName => return self.export_name(data),
            OptionKind::Abort => {
                encode_option_reply(out, kind, ReplyKind::Ack, b"");
                return Ok(Next::Close);
            }
            OptionKind::Info | OptionKind::Go => return Ok(self.info(kind, data, out)),
            OptionKind::List | OptionKind::StructuredReply if !data.is_empty() => {
                encode_option_reply(out, kind, ReplyKind::Invalid, b"the option takes no data");
            }
            OptionKind::List => {
                for export in &self.offer.exports {
                    encode_server(out, &export.name, &export.description);
                }
                encode_option_reply(out, kind, ReplyKind::Ack, b"");
            }
            OptionKind::StructuredReply => {
                self.structured_replies = true;
                encode_option_reply(out, kind, ReplyKind::Ack, b"");
            }
            OptionKind::Other(_) => {
                let text = b"this server does not know the option";
                encode_option_reply(out, kind, ReplyKind::Unsupported, text);
            }
        }
        Ok(Next::AnotherOption)
    }

    fn export_name(&self, data: &[u8]) -> Result<Next, HandshakeError> {
        let name = decode_name(data)?;
        let Some(place) = self.find(name) else {
            return Err(HandshakeError::UnknownExport(name.to_owned()));
        };
        let how = How::ExportName;
        Ok(Next::Open(Choice { place, how }))
    }

    /// Answers a client that gets the export of its choice.
    fn accept(&self, choice: &Choice, size_bytes: u64, out: &mut BytesMut) {
        let export = &self.offer.exports[choice.place];
        match choice.how {
            How::ExportName => {
                let flags = export.flags(self.structured_replies);
                encode_export_name_reply(out, size_bytes, flags, self.client_flags.no_zeroes);
            }
            How::Go(wanted) => {
                self.describe(OptionKind::Go, export, size_bytes, wanted, out);
                encode_option_reply(out, OptionKind::Go, ReplyKind::Ack, b"");
            }
        }
    }

    fn info(&self, kind: OptionKind, data: &[u8], out: &mut BytesMut) -> Next {
        let request = match InfoRequest::decode(data) {
            Ok(request) => request,
            Err(error) => {
                encode_option_reply(out, kind, ReplyKind::Invalid, error.to_string().as_bytes());
                return Next::AnotherOption;
            }
        };
        let Some(place) = self.find(request.name) else {
            let text = b"there is no export of that name; LIST names those there are";
            encode_option_reply(out, kind, ReplyKind::Unknown, text);
            return Next::AnotherOption;
        };
        if kind == OptionKind::Go {
            let how = How::Go(request.wanted);
            return Next::Open(Choice { place, how });
        }
        let export = &self.offer.exports[place];
        self.describe(kind, export, export.size_bytes, request.wanted, out);
        encode_option_reply(out, kind, ReplyKind::Ack, b"");
        Next::AnotherOption
    }

    fn describe(
        &self,
        kind: OptionKind,
        export: &ExportInfo,
        size_bytes: u64,
        wanted: Wanted,
        out: &mut BytesMut,
    ) {
        let flags = export.flags(self.structured_replies);
        encode_info(out, kind, Info::Export { size_bytes, flags });
        if wanted.name {
            encode_info(out, kind, Info::Name(&export.name));
        }
        if wanted.description {
            encode_info(out, kind, Info::Description(&export.description));
        }
        if wanted.block_size {
            let sizes = Info::BlockSize {
                minimum: BLOCK_BYTES_MIN,
                preferred: BLOCK_BYTES_PREFERRED,
                payload_max: self.offer.payload_bytes_max,
            };
            encode_info(out, kind, sizes);
        }
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.offer
            .exports
            .iter()
            .position(|export| export.answers_to(name))
    }
}
