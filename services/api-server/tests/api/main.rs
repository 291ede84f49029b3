//! The API as its callers see it: requests go through the tower service of the public router, on the real application and
//! a real SQLite file, with agents played by hand.

#[cfg(test)]
mod admission;
#[cfg(test)]
mod bad_requests;
#[cfg(test)]
mod bad_specs;
#[cfg(test)]
mod bad_tokens;
#[cfg(test)]
mod document;
#[cfg(test)]
mod exec;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod instances;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod observed;
#[cfg(test)]
mod outside_issuers;
#[cfg(test)]
mod serving;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tokens;
