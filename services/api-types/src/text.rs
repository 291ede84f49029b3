//! The texts that recur in requests and answers, each with the rule that the server holds it to.
//!
//! Rust code carries them as plain `String`: the server parses them into its own types, a client only passes them on.
//! The types here exist for the OpenAPI document, where each is one named schema with its pattern. A pattern never
//! refuses what the server accepts, so a client may check with it before it asks; where a rule cannot be said in a
//! pattern, such as "at most 1024 cores", the words say it.

use std::borrow::Cow;

use utoipa::openapi::schema::{ObjectBuilder, SchemaType};
use utoipa::openapi::{KnownFormat, RefOr, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

macro_rules! text_schema {
    ($(#[doc = $doc:literal])+ $name:ident { pattern: $pattern:expr, length: $min:literal..=$max:literal, example: $example:literal }) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy)]
        pub struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new()
                    .schema_type(SchemaType::Type(Type::String))
                    .description(Some([$($doc.trim()),+].join(" ")))
                    .pattern(Some($pattern))
                    .min_length(Some($min))
                    .max_length(Some($max))
                    .examples([$example])
                    .into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }
        }
    };
}

text_schema!(
    /// A name of 1 to 63 lower-case letters, digits and hyphens: a DNS label. It becomes the first label of the
    /// instance's DNS name, so the names of the service itself are reserved.
    InstanceName {
        pattern: "^(?!(?:ns|api|www|localhost|wherry|resolver)$)(?!..--)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$",
        length: 1..=63,
        example: "web"
    }
);
text_schema!(
    /// The name of an instance, or its id. An id also finds an instance that is already deleted, as long as the
    /// service remembers it.
    InstanceNameOrId {
        pattern: "^(?!..--)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$",
        length: 1..=63,
        example: "web"
    }
);
text_schema!(
    /// How far secrets were sealed anew.
    ResealCursor { pattern: "^[iw][0-9a-f]{32}$", length: 33..=33, example: "i0193573e7a0070008000000000000001" }
);
text_schema!(
    /// The name of a machine, or its id.
    NodeNameOrId { pattern: r"^[^/\u0000-\u001f\u007f]+$", length: 1..=255, example: "lyon-3" }
);
text_schema!(
    /// First address and prefix length of a range of IPv4 addresses.
    AddressRange {
        pattern: r"^[0-9]{1,3}(?:\.[0-9]{1,3}){3}/[0-9]{1,2}$",
        length: 9..=18,
        example: "10.128.7.0/24"
    }
);
text_schema!(
    /// A name of 1 to 63 lower-case letters, digits and hyphens: a DNS label.
    LabelName {
        pattern: "^(?!..--)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$",
        length: 1..=63,
        example: "default"
    }
);
text_schema!(
    /// What to run: REGISTRY/REPOSITORY, then :TAG, @DIGEST or both. The registry is always named; without tag and
    /// digest the tag is `latest`. The digest that it means at the first pull is what every later start runs.
    ImageReference {
        pattern: concat!(
            r"^(?:localhost",
            r"|[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)+(?::0*[1-9][0-9]{0,4})?",
            r"|[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?:0*[1-9][0-9]{0,4}",
            r"|\[[0-9A-Fa-f:.]+\](?::0*[1-9][0-9]{0,4})?)",
            r"(?:/(?![a-z0-9._-]*(?:\.\.|___))[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?)+",
            r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?$"
        ),
        length: 3..=512,
        example: "registry.example/team/web:1"
    }
);
text_schema!(
    /// CPU in cores (`0.5`) or thousandths of a core (`500m`): 10m to 1024, in whole thousandths. It is reserved, is
    /// the limit, and is metered as asked.
    CpuQuantity { pattern: r"^[0-9]+(?:\.[0-9]+)?m?$", length: 1..=20, example: "250m" }
);
text_schema!(
    /// Memory in `Mi` (2^20 bytes), `Gi` (2^30 bytes) and the other units of Kubernetes: 4Mi to 16Ti, in whole Mi. It is reserved, is the limit, and
    /// is metered as asked.
    MemoryQuantity { pattern: r"^[0-9]+(?:\.[0-9]+)?(?:[KMGT]i|[kMGT])?$", length: 1..=21, example: "128Mi" }
);
text_schema!(
    /// Room on a disk in `Mi` (2^20 bytes), `Gi` (2^30 bytes) and the other units of Kubernetes: 4Mi to 16Ti, in whole Mi.
    DiskQuantity { pattern: r"^[0-9]+(?:\.[0-9]+)?(?:[KMGT]i|[kMGT])?$", length: 1..=21, example: "10Gi" }
);
text_schema!(
    /// The URL of a git repository: `https`, `http` or `git`, without user and password.
    RepositoryUrl {
        pattern: r"^(?:https?|git)://[A-Za-z0-9\[][A-Za-z0-9.\[\]:_-]*/[\u0021-\u007e]*$",
        length: 8..=2048,
        example: "https://git.example/team/site.git"
    }
);
text_schema!(
    /// A branch, a tag or a commit.
    Revision { pattern: "^[A-Za-z0-9_][A-Za-z0-9._/+@-]*$", length: 1..=255, example: "main" }
);
text_schema!(
    /// An exact amount of money in units of the currency. Nothing is rounded; it is text because a JSON number would
    /// lose digits.
    DecimalAmount {
        pattern: r"^-?[0-9]{1,27}\.[0-9]{2,12}$",
        length: 4..=42,
        example: "0.000175"
    }
);
text_schema!(
    /// An ISO 4217 currency code.
    CurrencyCode { pattern: "^[A-Z]{3}$", length: 3..=3, example: "USD" }
);
text_schema!(
    /// The content address of an image manifest.
    ImageDigest {
        pattern: "^sha256:[0-9a-f]{64}$",
        length: 71..=71,
        example: "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    }
);
text_schema!(
    /// Text without the character NUL.
    PlainText { pattern: r"^[^\u0000]*$", length: 0..=65536, example: "--verbose" }
);
text_schema!(
    /// The name of an environment variable: not empty, no `=`, no NUL.
    EnvName { pattern: r"^[^=\u0000]+$", length: 1..=65536, example: "GREETING" }
);
text_schema!(
    /// An absolute path inside the container.
    AbsolutePath { pattern: r"^/[^\u0000]*$", length: 1..=4096, example: "/srv" }
);
text_schema!(
    /// As whom a program runs: a user id, `uid:gid`, or a name that the image knows.
    UserName { pattern: r"^(?:[0-9]{1,10}(?::[0-9]{1,10})?|[A-Za-z0-9_.$-]+)$", length: 1..=255, example: "1000:1000" }
);
text_schema!(
    /// A signal, as signal(7) names it.
    SignalName { pattern: "^SIG[A-Z0-9]{2,7}$", length: 5..=10, example: "SIGINT" }
);
text_schema!(
    /// A relative path that stays where it begins: no empty parts, no `.` and no `..`.
    InnerPath {
        pattern: r"^(?!\.{1,2}(?:/|$))[^/\u0000]+(?:/(?!\.{1,2}(?:/|$))[^/\u0000]+)*$",
        length: 1..=4096,
        example: "conf/site"
    }
);
text_schema!(
    /// Path and query of a URL: begins with `/`, no spaces.
    UrlPath { pattern: r"^/[\u0021-\u007e]*$", length: 1..=8192, example: "/healthz" }
);
text_schema!(
    /// The name of an HTTP header.
    HeaderName { pattern: "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", length: 1..=4096, example: "X-Probe" }
);
text_schema!(
    /// The value of an HTTP header.
    HeaderValue { pattern: r"^[\u0009\u0020-\u007e]*$", length: 0..=4096, example: "wherry" }
);
text_schema!(
    /// An IPv4 or IPv6 address.
    IpAddress { pattern: "^[0-9A-Fa-f:.]+$", length: 2..=45, example: "10.0.0.53" }
);
text_schema!(
    /// The name of a file of a volume: letters, digits, '.', '-' and '_', not beginning with two dots.
    FileName { pattern: r"^(?!\.\.)(?!\.$)[A-Za-z0-9._-]{1,253}$", length: 1..=253, example: "password" }
);
text_schema!(
    /// Permission bits in octal.
    FileMode { pattern: "^0?[0-7]{3}$", length: 3..=4, example: "0444" }
);
text_schema!(
    /// Host and port of a registry, as in image references.
    RegistryHost {
        pattern: r"^(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?$",
        length: 1..=255,
        example: "registry.example:5000"
    }
);
text_schema!(
    /// The name of a user of a registry: no control characters.
    RegistryUser { pattern: r"^[^\u0000-\u001f\u007f-\u009f]+$", length: 1..=255, example: "robot" }
);
text_schema!(
    /// A domain or host name.
    DomainName { pattern: "^[A-Za-z0-9._-]+$", length: 1..=253, example: "db.internal" }
);
text_schema!(
    /// An option of resolv.conf(5).
    ResolverOption { pattern: "^[A-Za-z0-9._:-]+$", length: 1..=253, example: "ndots:2" }
);
text_schema!(
    /// The key of a label: 1 to 255 letters, digits, '.', '_', '-' or '/'.
    LabelKey { pattern: "^[A-Za-z0-9._/-]{1,255}$", length: 1..=255, example: "app" }
);
text_schema!(
    /// The value of a label: at most 255 bytes of UTF-8, no control characters.
    LabelValue { pattern: r"^[^\u0000-\u001f\u007f-\u009f]*$", length: 0..=255, example: "shop" }
);
text_schema!(
    /// A label with its value: KEY=VALUE.
    LabelMatch {
        pattern: r"^[A-Za-z0-9._/-]{1,255}=[^\u0000-\u001f\u007f-\u009f]*$",
        length: 2..=511,
        example: "app=shop"
    }
);
text_schema!(
    /// A zone: 1 to 31 lower-case letters, digits and inner hyphens.
    ZoneName { pattern: "^[a-z0-9](?:[a-z0-9-]{0,29}[a-z0-9])?$", length: 1..=31, example: "rack-7" }
);
text_schema!(
    /// A kind of GPU, as the operator calls it: 1 to 31 lower-case letters, digits and inner hyphens.
    GpuModel { pattern: "^[a-z0-9](?:[a-z0-9-]{0,29}[a-z0-9])?$", length: 1..=31, example: "nvidia-a100" }
);
text_schema!(
    /// What a person calls something: not empty, no control characters.
    DisplayName { pattern: r"^[^\u0000-\u001f\u007f-\u009f]+$", length: 1..=100, example: "laptop" }
);
text_schema!(
    /// A URL that events are told to: no spaces, no user, no fragment.
    WebhookUrl {
        pattern: r"^https?://[A-Za-z0-9.\[\]:-]+(?:[/?][\u0021\u0022\u0024-\u007e]*)?$",
        length: 8..=2048,
        example: "https://hooks.example/wherry"
    }
);
text_schema!(
    /// The kind of an event, as events have it.
    EventKindName { pattern: "^[a-z]+(?:_[a-z]+)*$", length: 1..=40, example: "failed" }
);
text_schema!(
    /// Where the next page begins. Opaque; valid for the same filters only.
    PageCursor { pattern: "^[A-Za-z0-9_-]{32}$", length: 32..=32, example: "AAZHTtt5ogABk1c-egBwAIAAAAAAAACh" }
);

/// A UUID.
#[derive(Debug, Clone, Copy)]
pub struct Id;

impl PartialSchema for Id {
    fn schema() -> RefOr<Schema> {
        formatted(KnownFormat::Uuid, "A UUID, for ever its own.", "0193573e-7a00-7000-8000-0000000000a1")
    }
}

impl ToSchema for Id {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Id")
    }
}

/// A moment as RFC 3339 text.
#[derive(Debug, Clone, Copy)]
pub struct Time;

impl PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        formatted(KnownFormat::DateTime, "A moment in UTC, as RFC 3339 has it.", "2026-11-23T06:30:00.000000Z")
    }
}

impl ToSchema for Time {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Time")
    }
}

fn formatted(format: KnownFormat, description: &str, example: &str) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .format(Some(SchemaFormat::KnownFormat(format)))
        .description(Some(description))
        .examples([example])
        .into()
}

/// The secret files of a volume, to set.
pub(crate) fn secret_files_schema() -> RefOr<Schema> {
    let name = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .pattern(Some(r"^(?!\.\.)(?!\.$)[A-Za-z0-9._-]{1,253}$"))
        .build();
    let content = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Password)))
        .max_length(Some(256 * 1024))
        .build();
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::Object))
        .description(Some(
            "File name to content, to set; 256 KiB in all volumes of an instance together. Never in an answer.",
        ))
        .property_names(Some(Schema::Object(name)))
        .additional_properties(Some(RefOr::T(Schema::Object(content))))
        .max_properties(Some(64))
        .write_only(true)
        .examples([serde_json::json!({"password": "…"})])
        .into()
}

/// The files of a volume: at most 64, names of letters, digits, '.', '-' and '_'.
pub(crate) fn files_schema() -> RefOr<Schema> {
    let name = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .pattern(Some(r"^(?!\.\.)(?!\.$)[A-Za-z0-9._-]{1,253}$"))
        .build();
    let content = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).max_length(Some(256 * 1024)).build();
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::Object))
        .description(Some("File name to content; 256 KiB in all volumes of an instance together."))
        .property_names(Some(Schema::Object(name)))
        .additional_properties(Some(RefOr::T(Schema::Object(content))))
        .min_properties(Some(1))
        .max_properties(Some(64))
        .examples([serde_json::json!({"site.conf": "listen 80"})])
        .into()
}

/// The labels of an instance: at most 64, keys and values as [`LabelKey`] and [`LabelValue`].
pub(crate) fn labels_schema() -> RefOr<Schema> {
    let key = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .pattern(Some("^[A-Za-z0-9._/-]{1,255}$"))
        .build();
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::Object))
        .description(Some("The tenant's own marks; lists can be filtered by them."))
        .property_names(Some(Schema::Object(key)))
        .additional_properties(Some(RefOr::Ref(utoipa::openapi::Ref::from_schema_name("LabelValue"))))
        .max_properties(Some(64))
        .examples([serde_json::json!({"app": "shop"})])
        .into()
}
