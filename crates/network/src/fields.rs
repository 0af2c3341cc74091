//! Reading a table key by key, so that every fault names its owner, its key and the cure.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::error::{NetworkError, hint, one_line, quote};

/// The keys of one table that are not read yet.
pub(crate) struct Fields {
    owner: String,
    table: Table,
}

impl Fields {
    pub(crate) fn new(owner: String, table: Table) -> Self {
        Self { owner, table }
    }

    pub(crate) fn set_owner(&mut self, owner: String) {
        self.owner = owner;
    }

    pub(crate) fn owner(&self) -> String {
        self.owner.clone()
    }

    /// Takes the value of a key with a reader of its own.
    pub(crate) fn take_with<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(Value) -> Result<T, String>,
    ) -> Result<Option<T>, NetworkError> {
        let Some(value) = self.table.remove(key) else {
            return Ok(None);
        };
        read(value)
            .map(Some)
            .map_err(|message| NetworkError::Value {
                owner: self.owner.clone(),
                key: key.to_owned(),
                message,
            })
    }

    /// Takes the value of a key as any type that serde reads.
    pub(crate) fn take<T: DeserializeOwned>(
        &mut self,
        key: &str,
    ) -> Result<Option<T>, NetworkError> {
        self.take_with(key, plain)
    }

    /// Takes the value of a key that must be there; `example` is a line that would do.
    pub(crate) fn need<T: DeserializeOwned>(
        &mut self,
        key: &'static str,
        example: &'static str,
    ) -> Result<T, NetworkError> {
        let value = self.take(key)?;
        self.present(value, key, example)
    }

    /// The value, or the error that the key is missing.
    pub(crate) fn present<T>(
        &self,
        value: Option<T>,
        key: &'static str,
        example: &'static str,
    ) -> Result<T, NetworkError> {
        value.ok_or_else(|| NetworkError::MissingKey {
            owner: self.owner.clone(),
            key,
            example,
        })
    }

    /// Refuses what is left over; `known` are all keys that the table may have.
    pub(crate) fn finish(self, known: &[&str]) -> Result<(), NetworkError> {
        match self.table.keys().next() {
            None => Ok(()),
            Some(key) => Err(NetworkError::UnknownKey {
                owner: self.owner,
                key: quote(key),
                hint: hint(key, known),
            }),
        }
    }
}

/// Any type that serde reads.
pub(crate) fn plain<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    value
        .try_into()
        .map_err(|error: toml::de::Error| one_line(error.message()))
}

/// One number for both axes, or [vertical, horizontal].
pub(crate) fn pair(value: Value) -> Result<[usize; 2], String> {
    match value {
        Value::Array(_) => plain(value),
        _ => plain::<usize>(value).map(|size| [size; 2]),
    }
    .map_err(|message| format!("{message}; give one number or [height, width]"))
}
