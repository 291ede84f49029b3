//! Reading objects as objects.
//!
//! The readers that `serde` derives take a list of a struct's values in the order of its fields for the struct itself: a
//! courtesy to formats without names, that in JSON gives values a meaning which no document names and which changes when a
//! field is added. [`Strict`] goes along through the whole of a body and refuses such a list, wherever it stands and whatever
//! the type is.
//!
//! Rejected: comparing a parsed tree with the schema, which would lose line and column and the refusal of fields that are
//! there twice; an attribute on each type, which the next one forgets. Beware: types that `serde` reads by way of a buffer of
//! its own (`untagged`, `flatten`, `tag` without `content`) are out of reach; a test of the whole document finds them.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};

/// Whatever it wraps, and all that is in it, refuses lists for objects.
pub(super) struct Strict<T>(pub(super) T);

/// A visitor that was asked for an object.
struct Object<V>(V);

macro_rules! pass_on {
    ($($method:ident($($argument:ident: $kind:ty),*))*) => {
        $(fn $method<V: Visitor<'de>>(self, $($argument: $kind,)* visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method($($argument,)* Strict(visitor))
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<D> {
    type Error = D::Error;

    pass_on! {
        deserialize_any() deserialize_bool() deserialize_char() deserialize_str() deserialize_string()
        deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64() deserialize_i128()
        deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64() deserialize_u128()
        deserialize_f32() deserialize_f64() deserialize_bytes() deserialize_byte_buf()
        deserialize_option() deserialize_unit() deserialize_seq() deserialize_map()
        deserialize_identifier() deserialize_ignored_any()
        deserialize_unit_struct(name: &'static str)
        deserialize_newtype_struct(name: &'static str)
        deserialize_tuple(length: usize)
        deserialize_tuple_struct(name: &'static str, length: usize)
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_struct(name, fields, Object(visitor))
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

macro_rules! same {
    ($($method:ident($kind:ty))*) => {
        $(fn $method<E: Error>(self, value: $kind) -> Result<V::Value, E> {
            self.0.$method(value)
        })*
    };
}

macro_rules! visits_scalars {
    () => {
        type Value = V::Value;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.expecting(f)
        }

        same! {
            visit_bool(bool) visit_char(char) visit_str(&str) visit_borrowed_str(&'de str) visit_string(String)
            visit_i8(i8) visit_i16(i16) visit_i32(i32) visit_i64(i64) visit_i128(i128)
            visit_u8(u8) visit_u16(u16) visit_u32(u32) visit_u64(u64) visit_u128(u128)
            visit_f32(f32) visit_f64(f64)
            visit_bytes(&[u8]) visit_borrowed_bytes(&'de [u8]) visit_byte_buf(Vec<u8>)
        }

        fn visit_none<E: Error>(self) -> Result<V::Value, E> {
            self.0.visit_none()
        }

        fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
            self.0.visit_unit()
        }

        fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
            self.0.visit_some(Strict(value))
        }

        fn visit_newtype_struct<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
            self.0.visit_newtype_struct(Strict(value))
        }

        fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<V::Value, A::Error> {
            self.0.visit_map(Strict(fields))
        }

        fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
            self.0.visit_enum(Strict(variant))
        }
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Strict<V> {
    visits_scalars!();

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Strict(items))
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Object<V> {
    visits_scalars!();

    fn visit_seq<A: SeqAccess<'de>>(self, _items: A) -> Result<V::Value, A::Error> {
        Err(A::Error::custom("this is a list: send a JSON object, with the name of each value"))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Strict<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Strict(from))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Strict(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(Strict(seed))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Strict(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for Strict<A> {
    type Error = A::Error;
    type Variant = Strict<A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        self.0.variant_seed(Strict(seed)).map(|(value, variant)| (value, Strict(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.0.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.0.newtype_variant_seed(Strict(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.0.tuple_variant(length, Strict(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.0.struct_variant(fields, Object(visitor))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Inner {
        size: u8,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Wrapped(Inner);

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Choice {
        Plain,
        One(Inner),
        Two(u8, Inner),
        Named { inner: Inner },
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Outer {
        list: Vec<Inner>,
        maybe: Option<Inner>,
        boxed: Option<Box<Wrapped>>,
        named: BTreeMap<String, Inner>,
        choice: Option<Choice>,
        pair: Option<(u8, String)>,
        free: Value,
        text: String,
        ratio: f64,
        sign: i64,
        yes: bool,
    }

    fn read(value: &Value) -> Result<Outer, String> {
        let text = value.to_string();
        let mut reader = serde_json::Deserializer::from_str(&text);
        let read = serde_path_to_error::deserialize(Strict(&mut reader));
        read.map_err(|error| format!("{} {}", error.path(), error.inner()))
    }

    #[test]
    fn a_list_is_no_object_wherever_it_stands() {
        for (body, place) in [
            (json!([]), "."),
            (json!({"list": [{"size": 1}, [2]]}), "list[1]"),
            (json!({"maybe": [1]}), "maybe"),
            (json!({"boxed": [1]}), "boxed"),
            (json!({"named": {"a": [1]}}), "named.a"),
            (json!({"choice": {"one": [1]}}), "choice.one"),
            (json!({"choice": {"two": [1, [1]]}}), "choice.two[1]"),
            (json!({"choice": {"named": [{"size": 1}]}}), "choice.named"),
            (json!({"choice": {"named": {"inner": [1]}}}), "choice.named.inner"),
        ] {
            let refused = read(&body).unwrap_err();
            assert!(refused.starts_with(&format!("{place} this is a list: send a JSON object")), "{body}: {refused}");
        }
    }

    #[test]
    fn everything_else_is_read_as_ever() {
        for body in [
            json!({"list": [{"size": 1}], "maybe": {"size": 2}, "boxed": {"size": 3}, "named": {"a": {"size": 4}}}),
            json!({"choice": "plain", "pair": [1, "x"], "free": [[1], {"a": [2.5, null]}], "text": "\u{e4}\n"}),
            json!({"choice": {"one": {"size": 1}}, "ratio": 0.5, "sign": -7, "yes": true}),
            json!({"choice": {"two": [1, {"size": 1}]}, "maybe": null}),
            json!({"choice": {"named": {"inner": {"size": 1}}}}),
        ] {
            assert_eq!(read(&body).unwrap(), serde_json::from_value::<Outer>(body.clone()).unwrap(), "{body}");
        }
        for (body, place) in [(json!({"lists": []}), "lists"), (json!({"maybe": {"size": 256}}), "maybe.size")] {
            assert!(read(&body).unwrap_err().starts_with(place), "{body}");
        }
        let twice = r#"{"text":"a","text":"b"}"#;
        assert!(Outer::deserialize(Strict(&mut serde_json::Deserializer::from_str(twice))).is_err());
    }
}
