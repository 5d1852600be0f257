//! The contracts' interfaces, generated from the committed artifacts. It refuses to contain code of ours.
#![allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all
)]

alloy::sol!(
    #[sol(all_derives)]
    Vault,
    "contracts/artifacts/Vault.json"
);

alloy::sol!(
    #[sol(all_derives)]
    Direct,
    "contracts/artifacts/Direct.json"
);

alloy::sol!(
    #[sol(all_derives)]
    Token,
    "contracts/artifacts/Token.json"
);

alloy::sol!(
    #[sol(all_derives)]
    DepositBox,
    "contracts/artifacts/DepositBox.json"
);

/// The double of a bridged token, for measurements of gas.
#[cfg(feature = "devchain")]
pub mod bridged {
    alloy::sol!(
        #[sol(all_derives)]
        BridgedToken,
        "contracts/artifacts/BridgedToken.json"
    );

    alloy::sol!(
        #[sol(all_derives)]
        TokenProxy,
        "contracts/artifacts/TokenProxy.json"
    );
}
