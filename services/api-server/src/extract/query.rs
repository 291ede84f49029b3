//! Query strings, read by hand: each parameter is known, given as often as it may be, and of its form; the refusal says
//! which one is not. (`axum::extract::Query` would accept unknown ones and cannot say which one is wrong.)

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use http::request::Parts;

use crate::error::ApiError;
use crate::state::ApiState;

/// The most parameters that are looked at.
const MAX_PARAMETERS: usize = 256;

/// What an operation reads from its query string.
pub(crate) trait FromQuery: Sized {
    /// Reads its parameters; what is left over afterwards is refused.
    fn from_query(query: &mut QueryReader) -> Result<Self, ApiError>;
}

/// The parameters of an operation.
pub(crate) struct Query<T>(pub(crate) T);

/// No parameters at all.
pub(crate) struct NoQuery;

impl FromQuery for NoQuery {
    fn from_query(_: &mut QueryReader) -> Result<Self, ApiError> {
        Ok(Self)
    }
}

/// The parameters that have not been read yet.
pub(crate) struct QueryReader {
    given: BTreeMap<String, Vec<String>>,
    known: Vec<&'static str>,
}

impl QueryReader {
    fn new(query: &str) -> Result<Self, ApiError> {
        let mut given: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (count, (name, value)) in form_urlencoded::parse(query.as_bytes()).enumerate() {
            if count >= MAX_PARAMETERS {
                let detail = format!("there are more than {MAX_PARAMETERS} query parameters");
                return Err(ApiError::Malformed { field: None, detail });
            }
            given.entry(name.into_owned()).or_default().push(value.into_owned());
        }
        Ok(Self { given, known: Vec::new() })
    }

    /// Every value of a parameter that may be repeated.
    pub(crate) fn all(&mut self, name: &'static str) -> Vec<String> {
        self.known.push(name);
        self.given.remove(name).unwrap_or_default()
    }

    /// The value of a parameter that may be given once.
    pub(crate) fn text(&mut self, name: &'static str) -> Result<Option<String>, ApiError> {
        let mut values = self.all(name);
        match values.len() {
            0 | 1 => Ok(values.pop()),
            _ => Err(ApiError::malformed(name, format!("{name} is given more than once"))),
        }
    }

    /// The value of a parameter that may be given once, as a `T`.
    pub(crate) fn one<T>(&mut self, name: &'static str) -> Result<Option<T>, ApiError>
    where
        T: FromStr,
        T::Err: Display,
    {
        let parse = |text: String| text.parse().map_err(|error| ApiError::malformed(name, format!("{name}: {error}")));
        self.text(name)?.map(parse).transpose()
    }

    /// A number within bounds.
    pub(crate) fn number<T>(
        &mut self,
        name: &'static str,
        bounds: std::ops::RangeInclusive<T>,
    ) -> Result<Option<T>, ApiError>
    where
        T: FromStr + PartialOrd + Display,
    {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let digits = text.strip_prefix('-').unwrap_or(&text);
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| plain && bounds.contains(number));
        let wrong = || format!("{name} is a whole number from {} to {}", bounds.start(), bounds.end());
        number.map(Some).ok_or_else(|| ApiError::malformed(name, wrong()))
    }

    /// `true` or `false`; `default` when absent.
    pub(crate) fn flag(&mut self, name: &'static str, default: bool) -> Result<bool, ApiError> {
        match self.text(name)?.as_deref() {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(ApiError::malformed(name, format!("{name} is true or false"))),
        }
    }

    fn finish(self) -> Result<(), ApiError> {
        let Some(unknown) = self.given.into_keys().next() else { return Ok(()) };
        let known = match self.known.as_slice() {
            [] => "none".to_owned(),
            known => known.join(", "),
        };
        let unknown: String = unknown.chars().filter(|c| !c.is_control()).take(80).collect();
        let detail = format!("unknown query parameter {unknown:?}; known here: {known}");
        Err(ApiError::Malformed { field: Some(unknown), detail })
    }
}

impl<T: FromQuery> FromRequestParts<ApiState> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, ApiError> {
        let mut reader = QueryReader::new(parts.uri.query().unwrap_or_default())?;
        let value = T::from_query(&mut reader)?;
        reader.finish()?;
        Ok(Self(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<(Option<u32>, bool, Vec<String>), ApiError> {
        let mut reader = QueryReader::new(query)?;
        let read = (reader.number("limit", 1..=200)?, reader.flag("follow", false)?, reader.all("state"));
        reader.finish()?;
        Ok(read)
    }

    #[test]
    fn known_parameters_are_read() {
        assert_eq!(read("").unwrap(), (None, false, vec![]));
        let states = vec!["a".to_owned(), "b c".to_owned()];
        assert_eq!(read("limit=5&follow=true&state=a&state=b+c").unwrap(), (Some(5), true, states));
    }

    #[test]
    fn the_rest_is_refused_by_name() {
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=201", "limit"),
            ("limit=+5", "limit"),
            ("limit=", "limit"),
            ("limit=5&limit=5", "limit"),
            ("follow=1", "follow"),
            ("follow", "follow"),
            ("limitt=5", "limitt"),
        ] {
            match read(query) {
                Err(ApiError::Malformed { field: Some(found), .. }) => assert_eq!(found, field),
                other => panic!("{query}: {other:?}"),
            }
        }
    }
}
