//! A TOML file read key by key, each fault with its line.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{ConfigError, ConfigFault};

/// A key that a file may have.
pub(super) struct Field {
    /// The key.
    pub(super) key: &'static str,
    /// A line that would do, for the remedy.
    pub(super) example: &'static str,
}

impl Field {
    /// The fault of a file that lacks it.
    pub(super) fn missing(&self) -> ConfigFault {
        ConfigFault::MissingKey {
            key: self.key,
            example: self.example,
        }
    }
}

/// A file that is TOML and has no key but the known ones.
pub(super) struct TomlReader<'text> {
    path: PathBuf,
    text: &'text str,
    table: DeTable<'text>,
}

impl<'text> TomlReader<'text> {
    /// Reads the text, and refuses every key that is none of `fields`.
    pub(super) fn parse(
        path: &Path,
        text: &'text str,
        fields: &[&Field],
    ) -> Result<Self, ConfigError> {
        let mut reader = Self {
            path: path.to_owned(),
            text,
            table: DeTable::new(),
        };
        match DeTable::parse(text) {
            Ok(table) => reader.table = table.into_inner(),
            Err(error) => {
                let fault = ConfigFault::Syntax {
                    message: error.message().to_owned(),
                };
                return Err(reader.error_at(error.span().unwrap_or_default(), fault));
            }
        }
        let unknown = |key: &&Spanned<_>| fields.iter().all(|field| *key.get_ref() != field.key);
        let first = reader
            .table
            .keys()
            .filter(unknown)
            .min_by_key(|key| key.span().start);
        match first {
            None => Ok(reader),
            Some(key) => {
                let known: Vec<_> = fields.iter().map(|field| field.key).collect();
                let fault = ConfigFault::UnknownKey {
                    key: key.get_ref().to_string(),
                    known: known.join(", "),
                };
                Err(reader.error(key, fault))
            }
        }
    }

    /// The value of a key that must be there.
    pub(super) fn required(&self, field: &Field) -> Result<&Spanned<DeValue<'text>>, ConfigError> {
        let value = self.table.get(field.key);
        value.ok_or_else(|| self.error_at(0..0, field.missing()))
    }

    /// A text that must be there.
    pub(super) fn string(&self, field: &Field) -> Result<Spanned<&str>, ConfigError> {
        self.as_string(field, self.required(field)?)
    }

    /// A path that must be there.
    pub(super) fn path(&self, field: &Field) -> Result<Spanned<&str>, ConfigError> {
        self.as_path(field, self.required(field)?)
    }

    /// A path, if it is there.
    pub(super) fn optional_path(
        &self,
        field: &Field,
    ) -> Result<Option<Spanned<&str>>, ConfigError> {
        let value = self.table.get(field.key);
        value.map(|value| self.as_path(field, value)).transpose()
    }

    /// The line of a value, from 1 on.
    pub(super) fn line<T>(&self, place: &Spanned<T>) -> usize {
        self.line_at(place.span().start)
    }

    /// This fault, at the line of this value.
    pub(super) fn error<T>(&self, place: &Spanned<T>, fault: ConfigFault) -> ConfigError {
        self.error_at(place.span(), fault)
    }

    /// The fault of a value that has not the type of its key.
    pub(super) fn wrong_type(&self, field: &Field, value: &Spanned<DeValue>) -> ConfigError {
        let fault = ConfigFault::WrongType {
            key: field.key,
            found: value.get_ref().type_str(),
            example: field.example,
        };
        self.error(value, fault)
    }

    fn as_string<'a>(
        &self,
        field: &Field,
        value: &'a Spanned<DeValue<'text>>,
    ) -> Result<Spanned<&'a str>, ConfigError> {
        match value.get_ref().as_str() {
            Some(text) => Ok(Spanned::new(value.span(), text)),
            None => Err(self.wrong_type(field, value)),
        }
    }

    fn as_path<'a>(
        &self,
        field: &Field,
        value: &'a Spanned<DeValue<'text>>,
    ) -> Result<Spanned<&'a str>, ConfigError> {
        let text = self.as_string(field, value)?;
        if text.get_ref().is_empty() {
            let fault = ConfigFault::EmptyPath {
                key: field.key,
                example: field.example,
            };
            return Err(self.error(&text, fault));
        }
        Ok(text)
    }

    fn error_at(&self, span: Range<usize>, fault: ConfigFault) -> ConfigError {
        ConfigError {
            file: self.path.clone(),
            line: Some(self.line_at(span.start)),
            fault,
        }
    }

    fn line_at(&self, offset: usize) -> usize {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        1 + before
            .split(|byte| *byte == b'\n')
            .count()
            .saturating_sub(1)
    }
}
