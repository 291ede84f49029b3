//! Between values of the model and columns: ids are `uuid`, moments are microseconds, counts are `bigint`.
//!
//! `uuid` and not `bytea`: 16 bytes without a length, compared as bytes (so they sort as SQLite's blobs do), and readable for
//! whoever looks into the database in the middle of the night.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::postgres::PgRow;
use sqlx::{Decode, Postgres, Row, Type};
use uuid::Uuid;
use wherry_model::{
    ApiKeyId, AuditId, BootId, DeliveryId, InstanceId, JournalId, NodeId, ProjectId, ReplicaId, TenantId, Timestamp,
    TokenId, WebhookId,
};
use wherry_store::StoreError;

/// An id that a column holds.
pub(crate) trait Id: Sized {
    fn of(uuid: Uuid) -> Self;
}

macro_rules! ids {
    ($($id:ty),*) => {$(
        impl Id for $id {
            fn of(uuid: Uuid) -> Self {
                Self::from_uuid(uuid)
            }
        }
    )*};
}
ids!(
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
    pub(crate) row: &'r PgRow,
}

impl<'r> Fields<'r> {
    pub(crate) fn corrupt(&self, message: impl Into<String>) -> StoreError {
        let text = self.row.try_get::<String, _>(0).ok();
        let key = text.or_else(|| self.row.try_get::<Uuid, _>(0).ok().map(|id| id.to_string()));
        let key = key.or_else(|| self.row.try_get::<i64, _>(0).ok().map(|number| number.to_string()));
        StoreError::Corrupt { table: self.table, key: key.unwrap_or_else(|| "?".to_owned()), message: message.into() }
    }

    pub(crate) fn get<T: Decode<'r, Postgres> + Type<Postgres>>(&self, column: &'static str) -> Result<T, StoreError> {
        self.row.try_get(column).map_err(|error| self.corrupt(error.to_string()))
    }

    pub(crate) fn id<T: Id>(&self, column: &'static str) -> Result<T, StoreError> {
        self.get(column).map(T::of)
    }

    pub(crate) fn id_if_any<T: Id>(&self, column: &'static str) -> Result<Option<T>, StoreError> {
        Ok(self.get::<Option<Uuid>>(column)?.map(T::of))
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

    /// A JSON column that was selected as text.
    pub(crate) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        serde_json::from_str(self.get::<&str>(column)?).map_err(|error| self.corrupt(format!("{column}: {error}")))
    }
}
