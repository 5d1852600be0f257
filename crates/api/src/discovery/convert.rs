//! Queries as messages and back.

use wayfare_discovery::{MAX_LIMIT, Query};
use wayfare_payment::{Amount, Price};

use crate::proto::discovery::v1 as pb;
use crate::{Malformed, field};

impl From<&Query> for pb::QueryRequest {
    fn from(query: &Query) -> Self {
        let bounded = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            country: query
                .country
                .map(|country| country.to_string())
                .unwrap_or_default(),
            service: query
                .service
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            max_price_per_hour: query
                .max_price
                .map(|price| field::of_amount(price.per_hour))
                .unwrap_or_default(),
            max_price_per_gib: query
                .max_price
                .map(|price| field::of_amount(price.per_gib))
                .unwrap_or_default(),
            provider: query
                .provider
                .map(|provider| provider.to_vec())
                .unwrap_or_default(),
            hermes: query
                .hermes
                .map(|hermes| hermes.to_vec())
                .unwrap_or_default(),
            chain_id: query.chain_id.unwrap_or_default(),
            limit: bounded(query.limit),
            offset: bounded(query.skip),
        }
    }
}

impl TryFrom<pb::QueryRequest> for Query {
    type Error = Malformed;

    fn try_from(request: pb::QueryRequest) -> Result<Self, Malformed> {
        let said =
            |cause: &dyn std::fmt::Display, field: &str| Malformed::new(field, cause.to_string());
        let limit = request.limit as usize;
        if limit > MAX_LIMIT {
            return Err(Malformed::new(
                "limit",
                format!("at most {MAX_LIMIT} are given, not {limit}"),
            ));
        }
        let country = given(&request.country)
            .map(str::parse)
            .transpose()
            .map_err(|cause| said(&cause, "country"))?;
        let service = given(&request.service)
            .map(str::parse)
            .transpose()
            .map_err(|cause| said(&cause, "service"))?;
        let per_hour = optional(&request.max_price_per_hour, |bytes| {
            field::amount("max_price_per_hour", bytes)
        })?;
        let per_gib = optional(&request.max_price_per_gib, |bytes| {
            field::amount("max_price_per_gib", bytes)
        })?;
        let any = Amount::MAX;
        let max_price = (per_hour.is_some() || per_gib.is_some()).then(|| Price {
            per_hour: per_hour.unwrap_or(any),
            per_gib: per_gib.unwrap_or(any),
        });
        Ok(Self {
            country,
            service,
            max_price,
            provider: optional(&request.provider, |bytes| field::address("provider", bytes))?,
            hermes: optional(&request.hermes, |bytes| field::address("hermes", bytes))?,
            chain_id: (request.chain_id > 0).then_some(request.chain_id),
            limit: if limit == 0 { MAX_LIMIT } else { limit },
            skip: request.offset as usize,
        })
    }
}

fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn optional<T>(
    bytes: &[u8],
    read: impl Fn(&[u8]) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    if bytes.is_empty() {
        Ok(None)
    } else {
        read(bytes).map(Some)
    }
}
