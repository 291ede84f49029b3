//! What can be given and never read back.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, SchemaType};
use utoipa::openapi::{KnownFormat, RefOr, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::text;

/// The most characters of a secret variable or password.
pub const MAX_SECRET_CHARACTERS: usize = 32 * 1024;

/// A secret on its way to the service, which never answers with one. It is not printed.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// Takes a secret.
    pub const fn new(plain: String) -> Self {
        Self(plain)
    }

    /// The secret itself: for whoever is about to seal it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText")
    }
}

impl PartialSchema for SecretText {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::String))
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Password)))
            .description(Some("A secret: text without the character NUL. Never in an answer."))
            .pattern(Some(r"^[^\u0000]*$"))
            .max_length(Some(MAX_SECRET_CHARACTERS))
            .write_only(true)
            .into()
    }
}

impl ToSchema for SecretText {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("SecretText")
    }
}

/// Files that nobody can read back, read-only, kept in memory on the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretVolume {
    /// File name → content, to set; at most 64 files with those that are kept, 256 KiB in all volumes together. Never in an answer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(schema_with = text::secret_files_schema)]
    pub files: BTreeMap<String, SecretText>,
    /// Names of the files that are set. In an update, those that keep their content; other files go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::FileName>, max_items = 64)]
    pub files_set: Vec<String>,
    /// Permission bits of the files, which are root's, in octal; `0400` when absent. Programs of other users need `0444`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::FileMode>)]
    pub mode: Option<String>,
}

/// Who the instance is for a registry, when its images are pulled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"registry": "registry.example", "username": "robot", "password": "…"})))]
pub struct RegistryCredential {
    /// Host, and port where it has one, as in the image references that it is for.
    #[schema(value_type = text::RegistryHost)]
    pub registry: String,
    /// User name.
    #[schema(value_type = text::RegistryUser)]
    pub username: String,
    /// Password or token, to set. Never in an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretText>,
    /// Whether it is set. In an update, `true` without `password` keeps that of the same registry and user.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub password_set: bool,
}
