//! From settings to trusted outside issuers.

use std::collections::BTreeMap;

use anyhow::Context as _;
use wherry_api_server::{JwksSource, OutsideAlgorithm, OutsideIssuer};
use wherry_model::TenantName;

use crate::settings::{Auth, TrustedIssuer};

pub(crate) fn outside_issuers(auth: &Auth) -> anyhow::Result<Vec<OutsideIssuer>> {
    auth.trusted
        .iter()
        .map(|trusted| outside_issuer(trusted).with_context(|| format!("auth.trusted, issuer {}", trusted.issuer)))
        .collect()
}

fn outside_issuer(trusted: &TrustedIssuer) -> anyhow::Result<OutsideIssuer> {
    let keys = match (&trusted.jwks_url, &trusted.jwks_file) {
        (Some(url), None) => JwksSource::Url(url.clone()),
        (None, Some(file)) => JwksSource::File(file.clone()),
        _ => anyhow::bail!("give exactly one of jwks_url and jwks_file"),
    };
    let algorithms = trusted.algorithms.iter().map(|name| {
        name.parse::<OutsideAlgorithm>().map_err(|reason| anyhow::anyhow!("algorithms: {name:?}: {reason}"))
    });
    let tenants = trusted.tenants.iter().map(|(value, tenant)| {
        let tenant = TenantName::new(tenant.as_str()).with_context(|| format!("tenants: {tenant:?}"))?;
        anyhow::Ok((value.clone(), tenant))
    });
    Ok(OutsideIssuer {
        issuer: trusted.issuer.clone(),
        audience: trusted.audience.clone(),
        keys,
        algorithms: algorithms.collect::<anyhow::Result<_>>()?,
        tenant_claim: trusted.tenant_claim.clone(),
        tenants: tenants.collect::<anyhow::Result<BTreeMap<_, _>>>()?,
        scopes: trusted.scopes.parse().context("scopes")?,
    })
}
