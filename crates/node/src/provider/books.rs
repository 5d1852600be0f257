//! What is needed to be paid, whatever is sold: the chain, the Hermes, the collector and the settler as the ledger left them.

use std::sync::Arc;

use wayfare_api::hermes::HermesClient;
use wayfare_chain::{Endpoint, VaultClient, Wallet};
use wayfare_identity::{B256, Signer};
use wayfare_payment::{
    Amount, Chain, ChannelId, Collector, CollectorConfig, HermesAccount, Ledger, Patience,
    RecordError, SettlePolicy, Settler,
};
use wayfare_transport::Clock;

use super::settlement::Settlement;
use crate::persistence::{Persistence, load};
use crate::{Network, NodeError};

/// The largest share of a settlement that a Hermes may keep, in 1/10,000.
const FEE_CAP: u16 = 2_000;

/// Who is paid, through whom, and where that is remembered.
pub(crate) struct Books<'a> {
    pub(crate) network: &'a Network,
    pub(crate) signer: &'a Arc<dyn Signer>,
    pub(crate) ledger: &'a Arc<dyn Ledger>,
    /// From which preimages are derived.
    pub(crate) preimages: B256,
    /// The most credit that one agreement is given.
    pub(crate) credit_cap: Amount,
    pub(crate) settle: SettlePolicy,
}

/// The chain and the Hermes, both of which have answered.
pub(crate) struct Doors {
    pub(crate) chain: Arc<VaultClient>,
    pub(crate) hermes: HermesClient,
    pub(crate) account: HermesAccount,
}

impl Books<'_> {
    /// Makes sure that chain and Hermes are there.
    pub(crate) async fn doors(&self) -> Result<Doors, NodeError> {
        // What an earlier run had sent goes on from here.
        let wallet = Wallet::open(
            Endpoint::new(&self.network.rpc, self.network.chain_id),
            Arc::clone(self.signer),
            Arc::clone(self.ledger),
        )
        .await?;
        let chain = Arc::new(VaultClient::new(wallet, self.network.vault));
        chain.check().await?;
        let account = chain.hermes(self.network.hermes).await?;
        let unreachable = |source| NodeError::Service {
            what: "the Hermes",
            source,
        };
        let hermes = HermesClient::connect(&self.network.hermes_url).map_err(unreachable)?;
        hermes.describe().await.map_err(unreachable)?;
        Ok(Doors {
            chain,
            hermes,
            account,
        })
    }

    pub(crate) async fn collector(&self) -> Result<Collector, NodeError> {
        let config = CollectorConfig {
            provider: self.signer.address(),
            hermes: self.network.hermes,
            chain_id: self.network.chain_id,
            vault: self.network.vault,
            secret: self.preimages,
            fee_cap_basis_points: FEE_CAP,
            own_cap: Amount::ZERO,
            credit_cap: self.credit_cap,
            patience: Patience::default(),
        };
        let now = Clock::now();
        let rows = load(self.ledger.as_ref(), Collector::TABLES).await?;
        Collector::restore(config, rows, now).map_err(unreadable)
    }

    pub(crate) async fn settlement(
        &self,
        collector: &Collector,
        chain: Arc<VaultClient>,
    ) -> Result<Settlement, NodeError> {
        let (provider, hermes) = (self.signer.address(), self.network.hermes);
        let channel = ChannelId::of_provider(provider, hermes);
        let rows = load(self.ledger.as_ref(), Settler::TABLES).await?;
        let now = Clock::now();
        let mut settler = Settler::restore(self.settle, channel, rows, now).map_err(unreadable)?;
        let account = chain.provider(provider, hermes).await?;
        settler.handle_chain(account.settled, now);
        if let Some(material) = collector.settle_material() {
            settler.handle_material(material, now);
        }
        let persistence = Persistence::new(Arc::clone(self.ledger));
        let mut settlement = Settlement::new(settler, persistence, chain, provider, hermes);
        settlement.carry_out();
        Ok(settlement)
    }
}

fn unreadable(error: RecordError) -> NodeError {
    NodeError::Record(error.to_string())
}
