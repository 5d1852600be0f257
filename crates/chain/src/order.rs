//! What must hold of an order on any contracts before gas is spent on it. It refuses to judge what one kind of contracts alone asks for.

use wayfare_payment::{ChainError, ChannelId, SettleOrder};

/// The promise is for this channel of this chain.
pub(crate) fn is_for(
    order: &SettleOrder,
    chain_id: u64,
    channel: ChannelId,
) -> Result<(), ChainError> {
    let promise = &order.promise.promise;
    if promise.chain_id != chain_id {
        return refuse(format!(
            "the promise is for chain {}, this is {chain_id}",
            promise.chain_id
        ));
    }
    if promise.channel != channel {
        return refuse(format!(
            "the promise is for channel {}, not for {channel}",
            promise.channel
        ));
    }
    Ok(())
}

/// The preimage is the promise's.
pub(crate) fn opens(order: &SettleOrder) -> Result<(), ChainError> {
    if order.preimage.hashlock() != order.promise.promise.hashlock {
        return refuse("the preimage does not open the promise's hashlock".to_owned());
    }
    Ok(())
}

/// An answer before anything is sent.
pub(crate) fn refuse<T>(why: String) -> Result<T, ChainError> {
    Err(ChainError::Refused(why))
}
