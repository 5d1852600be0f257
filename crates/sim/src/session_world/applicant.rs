//! Asking for a session: the terms, signed, changed by whoever wants to see a refusal. It refuses nothing itself; the exit does.

use wayfare_identity::{TunnelBinding, U256};
use wayfare_payment::{Agreement, AgreementId, Amount};
use wayfare_session::{AdmissionFacts, Funds, Hello, OpenReply, OpenRequest, Refusal};
use wayfare_tunnel::StaticSecret;

use super::{CHAIN_ID, Violation, World, hermes_id, vault_address};

/// A request with the tunnel key that it names.
#[derive(Debug, Clone)]
pub struct Applicant {
    /// As it goes to the exit.
    pub request: OpenRequest,
    /// The key's secret half.
    pub secret: StaticSecret,
}

impl World {
    /// The terms as the exit offers them, with a fresh id.
    pub fn terms(&mut self, consumer: usize) -> Agreement {
        Agreement {
            id: AgreementId(U256::from_be_bytes(self.chance.bytes())),
            consumer: self.consumers[consumer].signer.address(),
            provider: self.provider.signer.address(),
            hermes: hermes_id(),
            chain_id: CHAIN_ID,
            vault: vault_address(),
            consumer_channel: self.consumers[consumer].channel,
            price: self.setting.price,
            chunk: Amount::from_units(self.setting.chunk),
            chunk_limit: Amount::from_units(self.setting.chunk_limit),
        }
    }

    /// A request under these terms, signed by a consumer, with a fresh tunnel key.
    ///
    /// # Errors
    /// None: keys in memory sign.
    pub fn apply(&mut self, consumer: usize, agreement: Agreement) -> Result<Applicant, Violation> {
        let secret = StaticSecret::from_bytes(self.chance.bytes());
        let binding = self.bind(consumer, &agreement, &secret)?;
        let signer = &self.consumers[consumer].signer;
        let request = OpenRequest {
            hello: Hello::ours(),
            agreement,
            consumer_signature: signer.sign_digest(agreement.digest())?,
            binding,
        };
        Ok(Applicant { request, secret })
    }

    /// A consumer's statement that it owns a tunnel key under an agreement.
    ///
    /// # Errors
    /// None: keys in memory sign.
    pub fn bind(
        &self,
        consumer: usize,
        agreement: &Agreement,
        secret: &StaticSecret,
    ) -> Result<TunnelBinding, Violation> {
        let signer = self.consumers[consumer].signer.as_ref();
        let (domain, key) = (agreement.domain(), secret.public().0);
        Ok(TunnelBinding::sign(signer, &domain, key, agreement.id.0)?)
    }

    /// What a provider's driver looks up before it asks for admission.
    pub fn facts(&mut self, consumer: usize) -> AdmissionFacts {
        let address = self.consumers[consumer].signer.address();
        let account = self.vault.consumer(address, hermes_id());
        let accepted = self
            .hermes
            .issuer
            .consumer(address)
            .map_or(Amount::ZERO, |view| view.accepted);
        AdmissionFacts {
            channel: self.consumers[consumer].channel,
            funds: Some(Funds {
                spendable: account
                    .balance
                    .saturating_add(account.collected)
                    .saturating_sub(accepted),
                leaving: account.exit_at.is_some(),
            }),
            token: self.chance.bytes(),
        }
    }

    /// The exit's answer to a request.
    ///
    /// # Errors
    /// Outside: [`Violation`]. Inside: the exit's [`Refusal`].
    pub fn admit(
        &mut self,
        request: &OpenRequest,
        facts: &AdmissionFacts,
    ) -> Result<Result<OpenReply, Refusal>, Violation> {
        let now = self.now();
        let answer = self.provider.exit.admit(request, facts, now);
        self.drain_exit()?;
        Ok(answer)
    }

    /// The whole way from terms to an attached stream.
    ///
    /// # Errors
    /// [`Violation`], also when the exit refuses.
    pub fn connect(&mut self, consumer: usize) -> Result<(), Violation> {
        let terms = self.terms(consumer);
        let applicant = self.apply(consumer, terms)?;
        let facts = self.facts(consumer);
        let reply = self
            .admit(&applicant.request, &facts)?
            .map_err(|refusal| Violation::new(refusal.to_string()))?;
        self.begin(consumer, applicant, reply)
    }
}
