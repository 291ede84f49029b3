//! Between values of the model and columns: ids are 16-byte blobs, moments are microseconds, counts are `INTEGER`.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};
use uuid::Uuid;
use wherry_model::{
    ApiKeyId, AuditId, BootId, DeliveryId, InstanceId, JournalId, NodeId, ProjectId, ReplicaId, TenantId, Timestamp,
    TokenId, WebhookId,
};
use wherry_store::StoreError;

/// The stored form of an id.
pub(crate) trait Blob: Sized {
    fn blob(&self) -> Vec<u8>;
    fn from_blob(bytes: &[u8]) -> Option<Self>;
}

macro_rules! blob_ids {
    ($($id:ty),*) => {$(
        impl Blob for $id {
            fn blob(&self) -> Vec<u8> {
                self.as_uuid().as_bytes().to_vec()
            }
            fn from_blob(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().map(Self::from_uuid)
            }
        }
    )*};
}
blob_ids!(
    TenantId, ProjectId, InstanceId, NodeId, ApiKeyId, JournalId, BootId, ReplicaId, TokenId, AuditId, WebhookId,
    DeliveryId
);

/// An unsigned number as a column. Beyond 2^63 it is a bug of the caller.
pub(crate) fn integer(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::Violation {
        context: format!("{value} is more than a column of the database can hold"),
        source: None,
    })
}

/// The JSON column of a record.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Violation {
        context: "a record cannot be written as JSON".to_owned(),
        source: Some(Box::new(error)),
    })
}

/// Reads the columns of one row of one table; whatever is wrong names both.
pub(crate) struct Fields<'r> {
    pub(crate) table: &'static str,
    pub(crate) row: &'r SqliteRow,
}

impl<'r> Fields<'r> {
    pub(crate) fn corrupt(&self, message: impl Into<String>) -> StoreError {
        let key = self.row.try_get_raw(0).ok().and_then(|_| {
            let text = self.row.try_get::<String, _>(0).ok();
            text.or_else(|| self.row.try_get::<Vec<u8>, _>(0).ok().map(readable))
        });
        StoreError::Corrupt { table: self.table, key: key.unwrap_or_else(|| "?".to_owned()), message: message.into() }
    }

    pub(crate) fn get<T: Decode<'r, Sqlite> + Type<Sqlite>>(&self, column: &'static str) -> Result<T, StoreError> {
        self.row.try_get(column).map_err(|error| self.corrupt(error.to_string()))
    }

    pub(crate) fn id<T: Blob>(&self, column: &'static str) -> Result<T, StoreError> {
        T::from_blob(self.get::<&[u8]>(column)?).ok_or_else(|| self.corrupt(format!("{column} is not an id")))
    }

    pub(crate) fn id_if_any<T: Blob>(&self, column: &'static str) -> Result<Option<T>, StoreError> {
        let Some(bytes) = self.get::<Option<&[u8]>>(column)? else { return Ok(None) };
        T::from_blob(bytes).map(Some).ok_or_else(|| self.corrupt(format!("{column} is not an id")))
    }

    pub(crate) fn time(&self, column: &'static str) -> Result<Timestamp, StoreError> {
        self.get(column).map(Timestamp::from_micros)
    }

    pub(crate) fn time_if_any(&self, column: &'static str) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.get::<Option<i64>>(column)?.map(Timestamp::from_micros))
    }

    pub(crate) fn count<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, StoreError> {
        T::try_from(self.get::<i64>(column)?).map_err(|_| self.corrupt(format!("{column} is out of range")))
    }

    pub(crate) fn count_if_any<T: TryFrom<i64>>(&self, column: &'static str) -> Result<Option<T>, StoreError> {
        let value = self.get::<Option<i64>>(column)?.map(T::try_from).transpose();
        value.map_err(|_| self.corrupt(format!("{column} is out of range")))
    }

    pub(crate) fn hash(&self, column: &'static str) -> Result<[u8; 32], StoreError> {
        self.sized(column, self.get::<&[u8]>(column)?)
    }

    pub(crate) fn hash_if_any(&self, column: &'static str) -> Result<Option<[u8; 32]>, StoreError> {
        self.get::<Option<&[u8]>>(column)?.map(|bytes| self.sized(column, bytes)).transpose()
    }

    fn sized(&self, column: &'static str, bytes: &[u8]) -> Result<[u8; 32], StoreError> {
        bytes.try_into().map_err(|_| self.corrupt(format!("{column} has {} bytes instead of 32", bytes.len())))
    }

    /// A text column in the form that the type itself prints.
    pub(crate) fn parse<T>(&self, column: &'static str) -> Result<T, StoreError>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        let text = self.get::<&str>(column)?;
        text.parse().map_err(|error| self.corrupt(format!("{column} {text:?}: {error}")))
    }

    /// A text column that holds the serde name of a unit variant.
    pub(crate) fn variant<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        let text = self.get::<&str>(column)?;
        T::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text))
            .map_err(|error| self.corrupt(format!("{column}: {error}")))
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        serde_json::from_str(self.get::<&str>(column)?).map_err(|error| self.corrupt(format!("{column}: {error}")))
    }
}

fn readable(bytes: Vec<u8>) -> String {
    Uuid::from_slice(&bytes).map_or_else(|_| format!("{bytes:02x?}"), |id| id.to_string())
}
