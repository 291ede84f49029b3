//! Where a client's key and secret stand in a token request: in HTTP Basic or in the form, never in both (RFC 6749
//! section 2.3), and nothing twice (section 3.2).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

/// The form of a token request, each parameter at most once. Those that are not known are left aside.
#[derive(Default)]
pub(super) struct TokenForm {
    pub(super) grant_type: Option<String>,
    pub(super) scope: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
}

/// A key's id and secret as they were sent.
pub(super) struct Credentials {
    pub(super) id: String,
    pub(super) secret: String,
}

impl TokenForm {
    pub(super) fn parse(body: &[u8]) -> Result<Self, &'static str> {
        let mut form = Self::default();
        for (name, value) in form_urlencoded::parse(body) {
            let place = match name.as_ref() {
                "grant_type" => &mut form.grant_type,
                "scope" => &mut form.scope,
                "client_id" => &mut form.client_id,
                "client_secret" => &mut form.client_secret,
                _ => continue,
            };
            // An empty parameter is an absent one (RFC 6749 section 3.2).
            if value.is_empty() {
                continue;
            }
            if place.replace(value.into_owned()).is_some() {
                return Err("a parameter is given twice: send each once");
            }
        }
        Ok(form)
    }

    /// The credentials, wherever they stand; none if they are not there or cannot be read.
    pub(super) fn credentials(&mut self, headers: &HeaderMap) -> Result<Option<Credentials>, &'static str> {
        let mut headers = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = headers.next() else {
            return Ok(match (self.client_id.take(), self.client_secret.take()) {
                (Some(id), Some(secret)) => Some(Credentials { id, secret }),
                _ => None,
            });
        };
        let Some(basic) = value.to_str().ok().and_then(basic) else { return Ok(None) };
        if self.client_secret.is_some() || headers.next().is_some() {
            return Err("the secret is sent in more than one place: send it once");
        }
        if self.client_id.as_ref().is_some_and(|id| *id != basic.id) {
            return Err("client_id and the Authorization header name different keys");
        }
        Ok(Some(basic))
    }
}

fn basic(value: &str) -> Option<Credentials> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    Some(Credentials { id: form_decoded(id)?, secret: form_decoded(secret)? })
}

/// Both halves are form-encoded before they are joined (RFC 6749 section 2.3.1).
fn form_decoded(text: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(text.as_bytes());
    let (decoded, rest) = pairs.next()?;
    (rest.is_empty() && pairs.next().is_none()).then(|| decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(value: Option<String>) -> HeaderMap {
        let value = value.map(|value| (AUTHORIZATION, HeaderValue::from_str(&value).unwrap()));
        value.into_iter().collect()
    }

    #[test]
    fn both_places_are_understood() {
        let mut form = TokenForm::parse(b"grant_type=client_credentials&client_id=k&client_secret=s%2B&x=1").unwrap();
        let found = form.credentials(&headers(None)).unwrap().unwrap();
        assert_eq!((found.id.as_str(), found.secret.as_str()), ("k", "s+"));
        let mut form = TokenForm::parse(b"grant_type=client_credentials").unwrap();
        let basic = format!("Basic {}", STANDARD.encode("k:s%2B"));
        let found = form.credentials(&headers(Some(basic))).unwrap().unwrap();
        assert_eq!((found.id.as_str(), found.secret.as_str()), ("k", "s+"));
    }

    #[test]
    fn ambiguity_is_refused() {
        assert!(TokenForm::parse(b"scope=a&scope=b").is_err());
        let basic = format!("Basic {}", STANDARD.encode("k:s"));
        for (body, header) in [("client_id=k&client_secret=s", basic.clone()), ("client_id=other", basic)] {
            let mut form = TokenForm::parse(body.as_bytes()).unwrap();
            assert!(form.credentials(&headers(Some(header))).is_err(), "{body}");
        }
        for header in
            ["Basic !!!".to_owned(), "Bearer abc".to_owned(), format!("Basic {}", STANDARD.encode("no-colon"))]
        {
            let found = TokenForm::default().credentials(&headers(Some(header)));
            assert!(found.is_ok_and(|found| found.is_none()), "credentials that cannot be read are none");
        }
    }
}
