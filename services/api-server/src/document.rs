//! The OpenAPI document: the frame around the operations, and what all of them have in common.
//!
//! An operation documents what is its own. What follows from its shape — that it can be refused for want of a token, for a
//! body too large, for a parameter that is wrong — is added here by rule, so it cannot be forgotten.

use utoipa::OpenApi as _;
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Header, ObjectBuilder, OpenApi, Ref, RefOr, Response, Type};
use wherry_api_types::{
    CloudEvent, Event, FleetEvent, PROBLEM_MEDIA_TYPE, Problem, SessionCommand, SessionEnd, WaitState, text,
};

/// The one way to be somebody.
const SCHEME: &str = "token";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Wherry",
        version = "1",
        description = "Serverless container instances: one call runs a container, which gets its own DNS name and its own per-second meter.\n\nGet a token for your API key at `POST /oauth2/token` and send it as `Authorization: Bearer TOKEN`. Requests refuse what this document does not know; answers may grow fields. Sizes are texts in the Kubernetes syntax (`250m`, `64Mi`), amounts of money exact decimal texts, times RFC 3339 in UTC.\n\nErrors are `application/problem+json`. 400 means that the request does not keep to this document, 422 that it does but asks for something that cannot be; both name the field. What belongs to another tenant does not exist: 404. 503 says when to try again.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    servers((url = "/")),
    tags(
        (name = "auth", description = "Tokens for API keys."),
        (name = "instances", description = "Containers that run, each with a name, an address and a meter."),
        (name = "events", description = "What happened, as a stream that can be resumed."),
        (name = "usage", description = "What was used and what it costs, so that anyone can recompute it."),
        (name = "projects", description = "Folders of instances."),
        (name = "keys", description = "API keys of the tenant."),
        (name = "admin", description = "For the operator of the service.")
    ),
    components(schemas(Problem, CloudEvent, Event, FleetEvent, SessionCommand, SessionEnd, WaitState, text::LabelValue, text::InstanceNameOrId, text::NodeNameOrId, text::PageCursor, crate::v1::LabelSelector))
)]
struct Frame;

/// The document before any operation is in it.
pub(crate) fn frame() -> OpenApi {
    let mut document = Frame::openapi();
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("A token from `POST /oauth2/token`, or from an outside issuer that the operator trusts: signed with the algorithm that was agreed on, with `iss`, `aud`, `sub`, `iat` and `exp`, at most 24 hours from issue to expiry. Its `nbf` is optional and kept to when it is there; its `typ` is absent, `JWT` or `at+jwt`."))
        .build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(SCHEME, SecurityScheme::Http(scheme));
    document
}

/// Adds to every operation the answers that follow from its shape.
pub(crate) fn complete(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            add_common_answers(operation);
        }
    }
    let components = document.components.get_or_insert_default();
    for answer in COMMON {
        components.responses.insert(answer.name.to_owned(), RefOr::T(answer.response()));
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch].into_iter().flatten()
}

/// An answer that many operations share.
struct Common {
    status: u16,
    name: &'static str,
    description: &'static str,
    header: Option<(&'static str, &'static str, Type)>,
    applies: fn(&Shape) -> bool,
}

/// What the common answers follow from.
struct Shape {
    needs_token: bool,
    has_path_parameters: bool,
    has_query_or_headers: bool,
    has_body: bool,
    is_v1: bool,
}

const COMMON: [Common; 10] = [
    Common {
        status: 400,
        name: "BadRequest",
        description: "The request does not keep to this document. `field` says where.",
        header: None,
        applies: |shape| shape.is_v1,
    },
    Common {
        status: 401,
        name: "Unauthenticated",
        description: "There is no token, or it is not valid (any more).",
        header: Some(("WWW-Authenticate", "How to do better (RFC 6750).", Type::String)),
        applies: |shape| shape.needs_token,
    },
    Common {
        status: 403,
        name: "Forbidden",
        description: "The token does not have the scope that this needs.",
        header: Some(("WWW-Authenticate", "Names the scope (RFC 6750).", Type::String)),
        applies: |shape| shape.needs_token,
    },
    Common {
        status: 404,
        name: "NotFound",
        description: "It does not exist, or is another tenant's: nobody can tell which.",
        header: None,
        applies: |shape| shape.has_path_parameters,
    },
    Common {
        status: 408,
        name: "BodyTimeout",
        description: "The body did not arrive in time.",
        header: None,
        applies: |shape| shape.has_body,
    },
    Common {
        status: 413,
        name: "BodyTooLarge",
        description: "The body is larger than any request needs to be.",
        header: None,
        applies: |shape| shape.has_body,
    },
    Common {
        status: 415,
        name: "UnsupportedMediaType",
        description: "The body is not JSON, or does not say so.",
        header: None,
        applies: |shape| shape.has_body && shape.is_v1,
    },
    Common {
        status: 422,
        name: "InvalidField",
        description: "The request keeps to this document, but asks for something that cannot be. `field` says where.",
        header: None,
        applies: |shape| shape.is_v1 && (shape.has_body || shape.has_query_or_headers),
    },
    Common {
        status: 500,
        name: "Internal",
        description: "A fault of the service. The request id finds it in the log.",
        header: None,
        applies: |_| true,
    },
    Common {
        status: 503,
        name: "Unavailable",
        description: "The service cannot do this now: it is busy, has no capacity left, or something it needs does not answer. Nothing was lost.",
        header: Some(("Retry-After", "Seconds after which the same request makes sense again.", Type::Integer)),
        applies: |_| true,
    },
];

impl Common {
    fn response(&self) -> Response {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let builder = ResponseBuilder::new().description(self.description).content(PROBLEM_MEDIA_TYPE, content);
        let builder = match &self.header {
            Some((name, description, kind)) => {
                let mut header = Header::new(ObjectBuilder::new().schema_type(kind.clone()).build());
                header.description = Some((*description).to_owned());
                builder.header(*name, header)
            }
            None => builder,
        };
        builder.build()
    }
}

fn add_common_answers(operation: &mut Operation) {
    let parameters = operation.parameters.iter().flatten();
    let kinds: Vec<ParameterIn> = parameters
        .filter_map(|parameter| match parameter {
            RefOr::T(parameter) => Some(parameter.parameter_in.clone()),
            RefOr::Ref(_) => None,
        })
        .collect();
    let shape = Shape {
        needs_token: operation.security.as_ref().is_some_and(|needs| needs.iter().any(names_a_scheme)),
        has_path_parameters: kinds.contains(&ParameterIn::Path),
        has_query_or_headers: kinds.iter().any(|kind| *kind != ParameterIn::Path),
        has_body: operation.request_body.is_some(),
        is_v1: operation.tags.iter().flatten().all(|tag| tag != "auth"),
    };
    for answer in COMMON.iter().filter(|answer| (answer.applies)(&shape)) {
        let reference = RefOr::Ref(Ref::from_response_name(answer.name));
        operation.responses.responses.entry(answer.status.to_string()).or_insert(reference);
    }
}

fn names_a_scheme(requirement: &utoipa::openapi::SecurityRequirement) -> bool {
    serde_json::to_value(requirement).is_ok_and(|value| value.get(SCHEME).is_some())
}
