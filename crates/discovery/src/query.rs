//! Queries: which proposals somebody wants to see. It refuses to decide their order; that is the catalogue's.

use wayfare_identity::Address;
use wayfare_payment::Price;

use crate::{CountryCode, Offer, ServiceType};

/// The most proposals that one answer holds.
pub const MAX_LIMIT: usize = 100;

/// How many proposals a query may step over.
pub const MAX_SKIP: usize = 1000;

const DEFAULT_LIMIT: usize = 50;

/// A filter; what is `None` does not matter.
///
/// ```
/// # use wayfare_discovery::{Query, ServiceType};
/// let query = Query::country("NL".parse()?).service(ServiceType::vpn()).limit(10);
/// # Ok::<(), wayfare_discovery::UnknownCountry>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Only in this country.
    pub country: Option<CountryCode>,
    /// Only this service.
    pub service: Option<ServiceType>,
    /// Neither its hour nor its GiB dearer than this.
    pub max_price: Option<Price>,
    /// Only this provider.
    pub provider: Option<Address>,
    /// Only paid through this Hermes.
    pub hermes: Option<Address>,
    /// Only on this chain.
    pub chain_id: Option<u64>,
    /// How many at most; more than [`MAX_LIMIT`] means [`MAX_LIMIT`].
    pub limit: usize,
    /// How many of the best to step over, for the next page; more than [`MAX_SKIP`] means [`MAX_SKIP`].
    pub skip: usize,
}

impl Query {
    /// Everything; the best 50.
    #[must_use]
    pub fn any() -> Self {
        Self {
            country: None,
            service: None,
            max_price: None,
            provider: None,
            hermes: None,
            chain_id: None,
            limit: DEFAULT_LIMIT,
            skip: 0,
        }
    }

    /// Everything in a country.
    #[must_use]
    pub fn country(country: CountryCode) -> Self {
        Self {
            country: Some(country),
            ..Self::any()
        }
    }

    /// Only this service.
    #[must_use]
    pub fn service(self, service: ServiceType) -> Self {
        Self {
            service: Some(service),
            ..self
        }
    }

    /// Neither the hour nor the GiB dearer than this.
    #[must_use]
    pub fn max_price(self, price: Price) -> Self {
        Self {
            max_price: Some(price),
            ..self
        }
    }

    /// Only this provider.
    #[must_use]
    pub fn provider(self, provider: Address) -> Self {
        Self {
            provider: Some(provider),
            ..self
        }
    }

    /// Only paid through this Hermes.
    #[must_use]
    pub fn hermes(self, hermes: Address) -> Self {
        Self {
            hermes: Some(hermes),
            ..self
        }
    }

    /// Only on this chain.
    #[must_use]
    pub fn chain_id(self, chain_id: u64) -> Self {
        Self {
            chain_id: Some(chain_id),
            ..self
        }
    }

    /// At most so many.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// Not the best so many.
    #[must_use]
    pub fn skip(self, skip: usize) -> Self {
        Self { skip, ..self }
    }

    /// Whether an offer is one of those asked for.
    #[must_use]
    pub fn matches(&self, offer: &Offer) -> bool {
        let affordable = |most: Price| {
            offer.price.per_hour <= most.per_hour && offer.price.per_gib <= most.per_gib
        };
        self.country
            .is_none_or(|country| offer.location.country == country)
            && self.chain_id.is_none_or(|chain| offer.chain_id == chain)
            && self
                .provider
                .is_none_or(|provider| offer.provider == provider)
            && self
                .service
                .as_ref()
                .is_none_or(|service| offer.service == *service)
            && self.max_price.is_none_or(affordable)
            && self
                .hermes
                .is_none_or(|hermes| offer.hermes.contains(&hermes))
    }

    /// What to step over and what to take, within bounds.
    pub(crate) fn page(&self) -> (usize, usize) {
        (self.skip.min(MAX_SKIP), self.limit.min(MAX_LIMIT))
    }
}

impl Default for Query {
    fn default() -> Self {
        Self::any()
    }
}
