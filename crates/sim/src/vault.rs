//! The vault's arithmetic without a chain: deposits, collections, settlements and exits, by the rules of the contract.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wayfare_identity::{Address, B256, keccak256};
use wayfare_payment::{
    Amount, Chain, ChainError, ChannelId, ConsumerAccount, HermesAccount, PortFuture,
    ProviderAccount, SettleOrder, Settled, SignedPromise,
};

/// Basis points in one.
const ONE: u128 = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub struct SimVault {
    chain_id: u64,
    exit_delay: u64,
    time: u64,
    minted: Amount,
    wallets: BTreeMap<Address, Amount>,
    hermes: BTreeMap<Address, HermesAccount>,
    consumers: BTreeMap<(Address, Address), ConsumerAccount>,
    providers: BTreeMap<(Address, Address), ProviderAccount>,
    transactions: u64,
}

fn refused(why: &str) -> ChainError {
    ChainError::Refused(why.to_owned())
}

fn add(a: Amount, b: Amount) -> Result<Amount, ChainError> {
    a.checked_add(b).ok_or_else(|| refused("AmountTooLarge"))
}

impl SimVault {
    /// An empty vault on a chain. `exit_delay` in seconds.
    #[must_use]
    pub fn new(chain_id: u64, exit_delay: u64) -> Self {
        Self {
            chain_id,
            exit_delay,
            ..Self::default()
        }
    }

    /// The chain's time, Unix seconds.
    #[must_use]
    pub fn time(&self) -> u64 {
        self.time
    }

    /// Lets the chain's time pass.
    pub fn pass(&mut self, seconds: u64) {
        self.time += seconds;
    }

    /// Registers a Hermes with collateral out of nowhere.
    pub fn register(&mut self, hermes: Address, account: HermesAccount) {
        self.minted = self
            .minted
            .saturating_add(account.collateral)
            .saturating_add(account.free);
        self.hermes.insert(hermes, account);
    }

    /// Deposits tokens out of nowhere.
    pub fn deposit(&mut self, consumer: Address, hermes: Address, amount: Amount) {
        let account = self.consumers.entry((consumer, hermes)).or_default();
        account.balance = account.balance.saturating_add(amount);
        self.minted = self.minted.saturating_add(amount);
    }

    /// A consumer's channel: some address that only depends on both.
    #[must_use]
    pub fn consumer_channel(consumer: Address, hermes: Address) -> ChannelId {
        let hash = keccak256([consumer.as_slice(), hermes.as_slice(), b"deposit"].concat());
        ChannelId::of_deposit(Address::from_slice(&hash[12..]))
    }

    /// Reads a Hermes.
    ///
    /// # Errors
    /// [`ChainError::UnknownHermes`].
    pub fn hermes(&self, hermes: Address) -> Result<HermesAccount, ChainError> {
        self.hermes
            .get(&hermes)
            .copied()
            .ok_or(ChainError::UnknownHermes(hermes))
    }

    /// Reads a consumer.
    #[must_use]
    pub fn consumer(&self, consumer: Address, hermes: Address) -> ConsumerAccount {
        self.consumers
            .get(&(consumer, hermes))
            .copied()
            .unwrap_or_default()
    }

    /// Reads a provider.
    #[must_use]
    pub fn provider(&self, provider: Address, hermes: Address) -> ProviderAccount {
        self.providers
            .get(&(provider, hermes))
            .copied()
            .unwrap_or_default()
    }

    /// What an address has been paid.
    #[must_use]
    pub fn wallet(&self, owner: Address) -> Amount {
        self.wallets.get(&owner).copied().unwrap_or_default()
    }

    /// Everything there is: equals [`SimVault::minted`] for ever.
    #[must_use]
    pub fn sum(&self) -> Amount {
        let consumers = self.consumers.values().map(|c| c.balance);
        let hermes = self.hermes.values().flat_map(|h| [h.free, h.collateral]);
        consumers
            .chain(hermes)
            .chain(self.wallets.values().copied())
            .fold(Amount::ZERO, Amount::saturating_add)
    }

    /// Everything that ever came in.
    #[must_use]
    pub fn minted(&self) -> Amount {
        self.minted
    }

    /// Hermes takes what a consumer promised, as far as there is any.
    ///
    /// # Errors
    /// [`ChainError::Refused`].
    pub fn collect(
        &mut self,
        consumer: Address,
        order: &SettleOrder,
    ) -> Result<Settled, ChainError> {
        self.check(
            order,
            consumer,
            Self::consumer_channel(consumer, order.hermes),
        )?;
        let mut hermes = self.hermes(order.hermes)?;
        let account = self.consumers.entry((consumer, order.hermes)).or_default();
        let unpaid = order
            .promise
            .promise
            .amount
            .saturating_sub(account.collected);
        let paid = unpaid.min(account.balance);
        if paid.is_zero() {
            return Err(refused("NothingOwed"));
        }
        account.collected = add(account.collected, paid)?;
        account.balance = account.balance.saturating_sub(paid);
        let total = account.collected;
        hermes.free = add(hermes.free, paid)?;
        self.hermes.insert(order.hermes, hermes);
        Ok(self.mined(total))
    }

    /// A provider cashes a promise, as far as the Hermes can pay.
    ///
    /// # Errors
    /// [`ChainError::Refused`].
    pub fn settle(
        &mut self,
        provider: Address,
        order: &SettleOrder,
    ) -> Result<Settled, ChainError> {
        let mut hermes = self.hermes(order.hermes)?;
        self.check(
            order,
            hermes.operator,
            ChannelId::of_provider(provider, order.hermes),
        )?;
        let account = self.providers.entry((provider, order.hermes)).or_default();
        let unpaid = order.promise.promise.amount.saturating_sub(account.settled);
        let paid = unpaid.min(hermes.free.saturating_add(hermes.collateral));
        if paid.is_zero() {
            return Err(refused("NothingOwed"));
        }
        account.settled = add(account.settled, paid)?;
        let total = account.settled;
        let leaves = paid.saturating_sub(paid.mul_div_down(hermes.fee_basis_points.into(), ONE));
        let from_free = leaves.min(hermes.free);
        hermes.free = hermes.free.saturating_sub(from_free);
        hermes.collateral = hermes
            .collateral
            .saturating_sub(leaves.saturating_sub(from_free));
        self.hermes.insert(order.hermes, hermes);
        self.pay(order.beneficiary, leaves);
        Ok(self.mined(total))
    }

    /// Starts a consumer's exit.
    ///
    /// # Errors
    /// [`ChainError::Refused`] while one is pending.
    pub fn request_exit(&mut self, consumer: Address, hermes: Address) -> Result<(), ChainError> {
        let at = self.time + self.exit_delay;
        let account = self.consumers.entry((consumer, hermes)).or_default();
        if account.exit_at.is_some() {
            return Err(refused("ExitPending"));
        }
        account.exit_at = Some(at);
        Ok(())
    }

    /// Ends a consumer's exit: the rest of the balance is its own again.
    ///
    /// # Errors
    /// [`ChainError::Refused`] before its time.
    pub fn finalize_exit(
        &mut self,
        consumer: Address,
        hermes: Address,
    ) -> Result<Amount, ChainError> {
        let time = self.time;
        let account = self.consumers.entry((consumer, hermes)).or_default();
        if account.exit_at.is_none_or(|at| time < at) {
            return Err(refused("TooEarly"));
        }
        let amount = account.balance;
        account.balance = Amount::ZERO;
        account.exit_at = None;
        self.pay(consumer, amount);
        Ok(amount)
    }

    fn check(
        &self,
        order: &SettleOrder,
        payer: Address,
        channel: ChannelId,
    ) -> Result<(), ChainError> {
        let SignedPromise { promise, .. } = &order.promise;
        if promise.chain_id != self.chain_id || promise.channel != channel {
            return Err(refused("WrongSigner"));
        }
        if !promise.fee.is_zero() {
            return Err(refused("FeeNotAllowed"));
        }
        if order.preimage.hashlock() != promise.hashlock {
            return Err(refused("WrongSigner"));
        }
        order
            .promise
            .verify(payer)
            .map_err(|_| refused("WrongSigner"))
    }

    fn pay(&mut self, owner: Address, amount: Amount) {
        let wallet = self.wallets.entry(owner).or_default();
        *wallet = wallet.saturating_add(amount);
    }

    fn mined(&mut self, total: Amount) -> Settled {
        self.transactions += 1;
        let transaction = Some(B256::from(wayfare_identity::U256::from(self.transactions)));
        Settled {
            transaction,
            total,
            gas: 60_000,
        }
    }
}

/// A [`SimVault`] behind the port, as one provider (or Hermes) sees it.
#[derive(Debug, Clone)]
pub struct SimChain {
    vault: Arc<Mutex<SimVault>>,
    identity: Address,
}

impl SimChain {
    /// The vault as `identity`, which is whom [`Chain::settle`] settles for.
    #[must_use]
    pub fn new(vault: Arc<Mutex<SimVault>>, identity: Address) -> Self {
        Self { vault, identity }
    }

    fn vault(&self) -> MutexGuard<'_, SimVault> {
        self.vault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chain for SimChain {
    fn hermes(&self, hermes: Address) -> PortFuture<'_, Result<HermesAccount, ChainError>> {
        Box::pin(std::future::ready(self.vault().hermes(hermes)))
    }

    fn consumer(
        &self,
        consumer: Address,
        hermes: Address,
    ) -> PortFuture<'_, Result<ConsumerAccount, ChainError>> {
        Box::pin(std::future::ready(Ok(self
            .vault()
            .consumer(consumer, hermes))))
    }

    fn provider(
        &self,
        provider: Address,
        hermes: Address,
    ) -> PortFuture<'_, Result<ProviderAccount, ChainError>> {
        Box::pin(std::future::ready(Ok(self
            .vault()
            .provider(provider, hermes))))
    }

    fn consumer_channel(&self, consumer: Address, hermes: Address) -> ChannelId {
        SimVault::consumer_channel(consumer, hermes)
    }

    fn settle(&self, order: SettleOrder) -> PortFuture<'_, Result<Settled, ChainError>> {
        Box::pin(std::future::ready(
            self.vault().settle(self.identity, &order),
        ))
    }

    fn collect(
        &self,
        consumer: Address,
        order: SettleOrder,
    ) -> PortFuture<'_, Result<Settled, ChainError>> {
        Box::pin(std::future::ready(self.vault().collect(consumer, &order)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::task::{Context, Poll, Waker};

    use wayfare_identity::{LocalSigner, SecretKey, Signer};
    use wayfare_payment::{Preimage, Promise};

    use super::*;

    const HERMES: Address = Address::repeat_byte(0xee);

    fn ready<T>(mut future: PortFuture<'_, T>) -> T {
        match future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("the simulated chain answers at once"),
        }
    }

    fn order(by: &LocalSigner, channel: ChannelId, amount: u128, fee: u128) -> SettleOrder {
        let preimage = Preimage(B256::repeat_byte(1));
        let promise = Promise {
            chain_id: 1,
            channel,
            amount: Amount::from_units(amount),
            fee: Amount::from_units(fee),
            hashlock: preimage.hashlock(),
        };
        let promise = promise.sign(by).unwrap();
        SettleOrder {
            hermes: HERMES,
            beneficiary: Address::repeat_byte(9),
            promise,
            preimage,
        }
    }

    #[test]
    fn the_port_obeys_the_rules_of_the_contract() {
        let consumer = LocalSigner::new(SecretKey::from_bytes([1; 32]).unwrap());
        let operator = LocalSigner::new(SecretKey::from_bytes([2; 32]).unwrap());
        let provider = Address::repeat_byte(3);
        let mut vault = SimVault::new(1, 10);
        let account = HermesAccount {
            operator: operator.address(),
            fee_basis_points: 100,
            collateral: Amount::from_units(50),
            free: Amount::ZERO,
            leaving: false,
        };
        vault.register(HERMES, account);
        vault.deposit(consumer.address(), HERMES, Amount::from_units(1_000));
        let vault = Arc::new(Mutex::new(vault));
        let chain = SimChain::new(Arc::clone(&vault), provider);

        let from = chain.consumer_channel(consumer.address(), HERMES);
        let to = ChannelId::of_provider(provider, HERMES);
        for bad in [
            order(&consumer, to, 10, 0),
            order(&operator, from, 10, 0),
            order(&consumer, from, 10, 1),
        ] {
            assert!(matches!(
                ready(chain.collect(consumer.address(), bad)),
                Err(ChainError::Refused(_))
            ));
        }
        let wrong = SettleOrder {
            preimage: Preimage(B256::ZERO),
            ..order(&consumer, from, 10, 0)
        };
        assert!(ready(chain.collect(consumer.address(), wrong)).is_err());

        let half = order(&consumer, from, 400, 0);
        assert_eq!(
            ready(chain.collect(consumer.address(), half))
                .unwrap()
                .total,
            Amount::from_units(400)
        );
        assert!(
            ready(chain.collect(consumer.address(), half)).is_err(),
            "nothing owed twice"
        );
        // The Hermes is short: it pays what it has, and the same promise settles the rest later.
        let owed = order(&operator, to, 600, 0);
        assert_eq!(
            ready(chain.settle(owed)).unwrap().total,
            Amount::from_units(450)
        );
        let rest = order(&consumer, from, 1_000, 0);
        ready(chain.collect(consumer.address(), rest)).unwrap();
        assert_eq!(
            ready(chain.settle(owed)).unwrap().total,
            Amount::from_units(600)
        );
        assert_eq!(
            ready(chain.provider(provider, HERMES)).unwrap().settled,
            Amount::from_units(600)
        );

        let mut vault = vault.lock().unwrap();
        vault.deposit(consumer.address(), HERMES, Amount::from_units(70));
        vault.request_exit(consumer.address(), HERMES).unwrap();
        assert!(vault.finalize_exit(consumer.address(), HERMES).is_err());
        vault.pass(10);
        assert_eq!(
            vault.finalize_exit(consumer.address(), HERMES).unwrap(),
            Amount::from_units(70)
        );
        assert_eq!(
            vault.wallet(Address::repeat_byte(9)),
            Amount::from_units(595),
            "less a hundredth of 450 and of 150, each rounded down"
        );
        assert_eq!(vault.sum(), vault.minted());
    }
}
