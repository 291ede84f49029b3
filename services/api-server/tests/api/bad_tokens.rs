//! Tokens that are not ours, not any more, or not for this (A05-A09 of the attack list). All of them get the same answer.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};
use wherry_api_server::SigningKey;

use crate::support::{App, URL, request};

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A PEM key of our own making, so that the test can sign what the service never would.
fn forger_key(seed: [u8; 32]) -> EncodingKey {
    let prefix = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    EncodingKey::from_ed_der(&[prefix.as_slice(), &seed].concat())
}

/// The service's own key, as only the service has it; with its seed the test can make what only claims make wrong.
struct Seeded([u8; 32]);
impl wherry_model::Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        for (to, from) in bytes.iter_mut().zip(self.0.iter().cycle()) {
            *to = *from;
        }
    }
}

const SEED: [u8; 32] = [9; 32];

struct Forge {
    app: App,
    key: EncodingKey,
    header: Value,
    claims: Value,
}

impl Forge {
    async fn new() -> Self {
        let app = App::signing_with(SigningKey::ephemeral(&Seeded(SEED))).await;
        let acme = app.stack.acme();
        let now = wherry_model::Clock::now(app.stack.clock().as_ref()).grid_second();
        let claims = json!({
            "iss": URL, "aud": "wherry", "sub": format!("key:{}", acme.key.record.id),
            "tenant": acme.record.id.to_string(), "scope": "instances:read", "jti": "1",
            "iat": now, "nbf": now, "exp": now + 900,
        });
        let header = json!({"typ": "at+jwt", "alg": "EdDSA", "kid": app.key.public().kid});
        Self { key: forger_key(SEED), app, header, claims }
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", encoded(header), encoded(claims));
        let signature = crypto::sign(signed.as_bytes(), &self.key, Algorithm::EdDSA).unwrap();
        format!("{signed}.{signature}")
    }

    fn with_header(&self, name: &str, value: Value) -> String {
        let mut header = self.header.clone();
        header[name] = value;
        self.sign(&header, &self.claims)
    }

    fn with_claim(&self, name: &str, value: Value) -> String {
        let mut claims = self.claims.clone();
        claims[name] = value;
        self.sign(&self.header, &claims)
    }

    fn without_claim(&self, name: &str) -> String {
        let mut claims = self.claims.clone();
        claims.as_object_mut().unwrap().remove(name);
        self.sign(&self.header, &claims)
    }

    async fn refused(&self, token: &str, what: &str) {
        let answer = self.app.get(token, "/v1/projects").await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.text());
        let problem = answer.expect_problem(401, "unauthenticated");
        assert_eq!(
            problem["detail"], "the token is not valid, or not any more: get a new one at /oauth2/token",
            "{what}: nothing is said about what is wrong"
        );
    }
}

#[tokio::test]
async fn the_forge_can_make_a_good_token() {
    let forge = Forge::new().await;
    let token = forge.sign(&forge.header, &forge.claims);
    forge.app.get(&token, "/v1/projects").await.expect(200);
}

#[tokio::test]
async fn algorithms_are_ours_to_choose() {
    let forge = Forge::new().await;
    let claims = encoded(&forge.claims);
    for none in ["none", "None", "nOnE", "NONE"] {
        let mut header = forge.header.clone();
        header["alg"] = json!(none);
        let signed = format!("{}.{claims}", encoded(&header));
        forge.refused(&format!("{signed}."), none).await;
        forge.refused(&format!("{signed}.AAAA"), none).await;
        forge.refused(&forge.with_header("alg", json!(none)), none).await;
    }
    forge.refused(&format!("{}.{claims}.", encoded(&forge.header)), "no signature").await;
    forge.refused(&format!("{}.{claims}", encoded(&forge.header)), "two parts").await;
    // The public key as a shared secret, in every form it could be taken for.
    let public = forge.app.key.public();
    let raw = URL_SAFE_NO_PAD.decode(&public.x).unwrap();
    let spki = [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00], raw.as_slice()].concat();
    let body = base64::engine::general_purpose::STANDARD.encode(&spki);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----");
    let crlf = pem.replace('\n', "\r\n");
    for secret in [
        raw.clone(),
        spki,
        public.x.clone().into_bytes(),
        pem.clone().into_bytes(),
        format!("{pem}\n").into_bytes(),
        crlf.into_bytes(),
    ] {
        for (name, algorithm) in [("HS256", Algorithm::HS256), ("HS512", Algorithm::HS512)] {
            let mut header = forge.header.clone();
            header["alg"] = json!(name);
            let signed = format!("{}.{claims}", encoded(&header));
            let signature = crypto::sign(signed.as_bytes(), &EncodingKey::from_secret(&secret), algorithm).unwrap();
            forge.refused(&format!("{signed}.{signature}"), "the public key as a secret").await;
        }
    }
    let mut stranger = Forge::new().await;
    stranger.key = forger_key([8; 32]);
    stranger.refused(&stranger.sign(&stranger.header, &stranger.claims), "another key").await;
    let good = forge.sign(&forge.header, &forge.claims);
    let (head, signature) = good.rsplit_once('.').unwrap();
    let other_claims = encoded(&json!({"iss": URL}));
    forge.refused(&format!("{}.{other_claims}.{signature}", head.split_once('.').unwrap().0), "other claims").await;
}

#[tokio::test]
async fn claims_are_there_and_of_their_form() {
    let forge = Forge::new().await;
    for claim in ["iss", "aud", "sub", "exp", "nbf", "iat", "tenant", "scope"] {
        forge.refused(&forge.without_claim(claim), claim).await;
        for value in [json!(null), json!({}), json!(true), json!("")] {
            forge.refused(&forge.with_claim(claim, value.clone()), &format!("{claim} = {value}")).await;
        }
    }
    let now = forge.claims["iat"].as_i64().unwrap();
    for (claim, value) in [
        ("exp", json!(now - 31)),
        ("exp", json!(-1)),
        ("exp", json!((now + 600).to_string())),
        ("exp", json!(1e20)),
        ("exp", json!(1.5e9)),
        ("exp", json!(1_767_226_000.5)),
        ("exp", json!(i64::MAX)),
        ("exp", json!(now + 100_000)),
        ("nbf", json!(now + 31)),
        ("nbf", json!("0")),
        ("iat", json!(now + 31)),
        ("iss", json!("https://elsewhere.example")),
        ("iss", json!(format!("{URL}/"))),
        ("iss", json!([URL])),
        ("aud", json!("other")),
        ("aud", json!(["wherry"])),
        ("aud", json!(["other", "wherry"])),
        ("sub", json!("key:nobody")),
        ("sub", json!("01935700-0000-7000-8000-000000000000")),
        ("sub", json!("key:01935700-0000-7000-8000-000000000000")),
        ("tenant", json!("acme")),
        ("scope", json!("root")),
        ("scope", json!(["instances:read"])),
    ] {
        forge.refused(&forge.with_claim(claim, value.clone()), &format!("{claim} = {value}")).await;
    }
    // Clocks may differ a little.
    for (claim, value) in [("exp", now - 29), ("nbf", now + 30)] {
        let mut claims = forge.claims.clone();
        claims[claim] = json!(value);
        if claim == "exp" {
            claims["iat"] = json!(now - 100);
        }
        forge.app.get(&forge.sign(&forge.header, &claims), "/v1/projects").await.expect(200);
    }
    forge.app.stack.advance(std::time::Duration::from_secs(931));
    forge.refused(&forge.sign(&forge.header, &forge.claims), "15 minutes later").await;
}

#[tokio::test]
async fn headers_choose_nothing() {
    let forge = Forge::new().await;
    for key_id in ["../../../../dev/null", "https://evil.example/key", "' OR 1=1 --", "", &"k".repeat(64 * 1024)] {
        forge.refused(&forge.with_header("kid", json!(key_id)), key_id).await;
    }
    forge.refused(&forge.with_header("kid", json!(7)), "kid is a number").await;
    for (name, value) in [
        ("jku", json!("https://evil.example/keys")),
        ("x5u", json!("https://evil.example/cert")),
        ("x5c", json!(["AAAA"])),
        ("jwk", json!({"kty": "OKP", "crv": "Ed25519", "x": forge.app.key.public().x})),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
    ] {
        forge.refused(&forge.with_header(name, value), name).await;
    }
    for kind in [json!("JWT"), json!("exec-ticket+jwt"), json!("node+jwt"), json!(null), json!("")] {
        forge.refused(&forge.with_header("typ", kind.clone()), &format!("typ = {kind}")).await;
    }
    for garbage in ["x", "a.b.c", "..", "a.b.c.d", &"A".repeat(100_000)] {
        forge.refused(garbage, "not a token").await;
    }
}

#[tokio::test]
async fn other_ways_to_say_who_one_is_are_not_heard() {
    let forge = Forge::new().await;
    let token = forge.sign(&forge.header, &forge.claims);
    for (name, value) in [
        ("authorization", token.clone()),
        ("authorization", format!("Basic {token}")),
        ("authorization", format!("Bearer {token} {token}")),
        ("x-access-token", token.clone()),
        ("cookie", format!("token={token}")),
    ] {
        let mut ask = request(None, "GET", "/v1/projects", &Value::Null);
        ask.headers_mut().insert(name, value.parse().unwrap());
        forge.app.ask(ask).await.expect_problem(401, "unauthenticated");
    }
    let path = format!("/v1/projects?access_token={token}");
    forge.app.ask(request(None, "GET", &path, &Value::Null)).await.expect_problem(401, "unauthenticated");
}
