//! Admission: which requests become sessions. Everything is checked before any state is kept.

use std::time::Instant;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use wayfare_identity::TunnelBinding;
use wayfare_payment::{Agreement, AgreementId, Amount, ChannelId, SignedAgreement};
use wayfare_tunnel::{PeerConfig, PublicKey};

use super::Exit;
use crate::offered::{Offered, Room, code_of};
use crate::provider::ProviderSession;
use crate::{
    Hello, OpenReply, OpenRequest, Refusal, RefusalCode, SessionToken, TunnelNetwork, negotiate,
};

/// Sessions whose consumer's means are not known yet, and those of consumers that turned out to have none: what strangers without a
/// deposit can hold while the chain is asked, and until they are told. The former take half of the exit's room at most.
const MAX_UNPROVEN: usize = 256;

/// What the driver knows about a consumer when it asks for admission.
#[derive(Clone, Copy)]
pub struct AdmissionFacts {
    /// The consumer's channel, derived here and not taken from the request.
    pub channel: ChannelId,
    /// The consumer's means; `None` while they are looked up, see [`Exit::handle_funds`].
    pub funds: Option<Funds>,
    /// Chance: the session's token.
    pub token: [u8; 32],
}

/// A consumer's means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Funds {
    /// What it can still promise: its deposit, less what the Hermes has already accepted.
    pub spendable: Amount,
    /// Whether it is leaving: its deposit may vanish.
    pub leaving: bool,
}

impl std::fmt::Debug for AdmissionFacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdmissionFacts")
            .field("channel", &self.channel)
            .field("funds", &self.funds)
            .finish_non_exhaustive()
    }
}

impl Exit {
    /// Opens a session, or says why not.
    ///
    /// # Errors
    /// A [`Refusal`] with cause and next step; nothing is kept then.
    pub fn admit(
        &mut self,
        request: &OpenRequest,
        facts: &AdmissionFacts,
        now: Instant,
    ) -> Result<OpenReply, Refusal> {
        let welcome = negotiate(&Hello::ours(), &request.hello)
            .map_err(|error| Refusal::new(RefusalCode::Incompatible, error.to_string()))?;
        self.make_room(now);
        self.check_room(&request.agreement, facts)?;
        self.check_terms(&request.agreement, facts)?;
        request.verify()?;
        let agreement = request.agreement;
        let internal =
            |error: &dyn std::fmt::Display| Refusal::new(RefusalCode::Internal, error.to_string());
        let provider_signature = self
            .signer
            .sign_digest(agreement.digest())
            .map_err(|error| internal(&error))?;
        let binding = TunnelBinding::sign(
            self.signer.as_ref(),
            &agreement.domain(),
            self.tunnel_key,
            agreement.id.0,
        )
        .map_err(|error| internal(&error))?;
        let signed = SignedAgreement {
            agreement,
            consumer_signature: request.consumer_signature,
            provider_signature,
        };
        let token = SessionToken(facts.token);
        let network = self.add_session(request, token, now)?;
        if let Err(error) = self.collector.open(signed, now) {
            self.forget(agreement.id);
            return Err(Refusal::new(code_of(&error), error.to_string()));
        }
        if facts.funds.is_some() {
            self.welcome(agreement.id, now);
        }
        self.drain_collector(now);
        self.answer_early(PublicKey(request.binding.tunnel_key), now);
        Ok(OpenReply {
            welcome,
            provider_signature,
            binding,
            network,
            token,
        })
    }

    /// What was found out about the means of a consumer that was admitted without: it is welcome, or its session ends before
    /// anything passed. Of no meaning for one that has paid meanwhile.
    pub fn handle_funds(
        &mut self,
        agreement: AgreementId,
        funds: Result<Funds, Refusal>,
        now: Instant,
    ) {
        let Some(slot) = self.by_agreement.get(&agreement).copied() else {
            return;
        };
        let Some(session) = self.roster.session_mut(slot) else {
            return;
        };
        session.proven = true;
        if !session.paid.is_zero() || session.closing.is_some() {
            return;
        }
        match funds.and_then(|funds| funds.check(&session.agreement)) {
            Ok(()) => self.welcome(agreement, now),
            Err(refusal) if session.attached => self.end(slot, refusal, now),
            // It is told when it comes.
            Err(refusal) => {
                session.verdict = Some(Box::new(refusal));
                self.start_closing(slot, None, now);
            }
        }
        self.drain_collector(now);
    }

    fn welcome(&mut self, agreement: AgreementId, now: Instant) {
        let Some(slot) = self.by_agreement.get(&agreement).copied() else {
            return;
        };
        if let Some(session) = self.roster.session_mut(slot) {
            session.proven = true;
            let price = &session.agreement.price;
            let most = price.cost_rounded_down(&self.config.welcome);
            if !most.is_zero() {
                self.collector.welcome(agreement, most);
                self.update_gate(slot, now);
            }
        }
    }

    /// Sessions that are over, and wait only for a consumer without means to hear so, take nobody's place.
    fn make_room(&mut self, now: Instant) {
        let told_later = |session: &&ProviderSession| session.verdict.is_some();
        let waiting = self.roster.values().filter(told_later).count();
        if waiting >= MAX_UNPROVEN || self.roster.len() >= self.config.max_sessions {
            let over = self.roster.values().find(told_later);
            if let Some((slot, verdict)) =
                over.and_then(|over| Some((over.lease.slot, over.verdict.clone()?)))
            {
                self.end(slot, *verdict, now);
            }
        }
    }

    fn check_room(&self, agreement: &Agreement, facts: &AdmissionFacts) -> Result<(), Refusal> {
        let unproven = self.roster.values().filter(|session| !session.proven);
        let most = MAX_UNPROVEN.min(self.config.max_sessions.div_ceil(2));
        if facts.funds.is_none() && unproven.count() >= most {
            let message = "too many consumers' deposits are being looked up: try again in a moment";
            return Err(Refusal::new(RefusalCode::Full, message));
        }
        let unpaid = self.roster.values().filter(|session| {
            session.agreement.consumer == agreement.consumer && session.paid.is_zero()
        });
        Room {
            draining: self.draining,
            taken: self.roster.len(),
            most: self.config.max_sessions,
            unpaid: unpaid.count(),
            words: ["provider", "sessions"],
        }
        .check()
    }

    fn check_terms(&self, agreement: &Agreement, facts: &AdmissionFacts) -> Result<(), Refusal> {
        let config = &self.config;
        let offered = Offered {
            provider: self.signer.address(),
            hermes: config.hermes,
            chain_id: config.chain_id,
            vault: config.vault,
            price: config.price,
            chunk: config.chunk,
        };
        offered.check(agreement, facts.channel)?;
        let is_known = |known: &SignedAgreement| known.agreement.id == agreement.id;
        let used = self.spent.contains(agreement.id) || self.collector.agreements().any(is_known);
        facts.check(agreement, used)
    }

    /// Takes back what [`Exit::add_session`] did.
    fn forget(&mut self, agreement: AgreementId) {
        let Some(slot) = self.by_agreement.remove(&agreement) else {
            return;
        };
        if let Some(seat) = self.roster.remove(slot) {
            self.endpoint.remove_peer(seat.peer);
            self.pool.release(&seat.session.lease);
            self.by_token.remove(&seat.session.token);
        }
    }

    fn add_session(
        &mut self,
        request: &OpenRequest,
        token: SessionToken,
        now: Instant,
    ) -> Result<TunnelNetwork, Refusal> {
        let full = || {
            Refusal::new(
                RefusalCode::Full,
                "no tunnel address is left: choose another provider",
            )
        };
        let lease = self.pool.vacancy().ok_or_else(full)?;
        let mut allowed_ips = vec![IpNet::from(Ipv4Net::from(lease.v4))];
        allowed_ips.extend(lease.v6.map(|address| IpNet::from(Ipv6Net::from(address))));
        let peer = PeerConfig {
            public_key: PublicKey(request.binding.tunnel_key),
            preshared_key: None,
            allowed_ips,
            endpoint: None,
            keepalive: None,
        };
        let peer = self.endpoint.add_peer(peer).map_err(|error| {
            Refusal::new(
                RefusalCode::Terms,
                format!("the tunnel key is not usable: {error}"),
            )
        })?;
        self.pool.occupy(&lease, peer);
        let session = ProviderSession::new(
            request.agreement,
            self.collector.credit_cap(),
            token,
            lease,
            now,
        );
        self.roster.insert(peer, session);
        self.by_agreement.insert(request.agreement.id, lease.slot);
        self.by_token.insert(token, lease.slot);
        Ok(TunnelNetwork {
            consumer_v4: lease.v4,
            consumer_v6: lease.v6,
            mtu: self.config.mtu,
        })
    }
}
