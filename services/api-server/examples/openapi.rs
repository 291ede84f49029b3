//! Prints the OpenAPI document: `cargo run -p wherry-api-server --example openapi > openapi/wherry-v1.json`.

use std::io::Write;

fn main() -> std::io::Result<()> {
    std::io::stdout().write_all(wherry_api_server::openapi_text().as_bytes())
}
