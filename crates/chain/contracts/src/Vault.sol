// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Deposits} from "./Deposits.sol";
import {Backing} from "./Backing.sol";
import {Earnings} from "./Earnings.sol";
import {Estate} from "./Estate.sol";
import {Ledger} from "./Ledger.sol";
import {IERC20} from "./SafeToken.sol";

/// The ledger between consumers, Hermes operators and providers, in one ERC-20.
///
/// Money enters at a consumer's deposit address (anybody may send there, before anything is deployed), by `deposit`, or as a
/// Hermes' collateral. It moves in two cumulative steps, each proven by a promise of 160 bytes:
///   consumer --collect--> Hermes `free` --settle--> provider.
/// The vault refuses to move a provider's total without the provider, to keep a consumer from leaving, to let a payer decide
/// who earns a fee, and to freeze anybody for somebody else's debt. Nobody owns it; nothing in it can be changed or stopped.
///
/// INVARIANT: token.balanceOf(vault) == sum of consumer balances + Hermes free + Hermes collateral + provider credit
/// (plus what strangers sent to the vault itself, which belongs to nobody).
/// The token must move exactly the stated amount; tokens that charge for transfers are not supported.
contract Vault is Deposits, Earnings, Estate {
    constructor(IERC20 token_, uint40 exitDelay_, uint40 collateralDelay_)
        Ledger(token_)
        Deposits(exitDelay_)
        Backing(collateralDelay_)
        Estate(exitDelay_)
    {}

    /// Where a consumer's tokens for this Hermes go; padded to 32 bytes it is the consumer's channel id.
    function depositAddress(address consumer_, address hermesId) external view returns (address) {
        return _box(_accountId(consumer_, hermesId));
    }

    /// The provider's channel id.
    function providerChannel(address payee, address hermesId) external pure returns (bytes32) {
        return _accountId(payee, hermesId);
    }

    /// A Hermes as stored, and the key that signs for it now.
    function hermes(address hermesId) external view returns (Hermes memory account, address signer) {
        account = _hermes[hermesId];
        bool rotated = account.nextAt != 0 && block.timestamp >= account.nextAt;
        signer = rotated ? account.next : account.operator;
    }

    /// A consumer's account as stored, and what still lies at its deposit address.
    function consumer(address consumer_, address hermesId)
        external
        view
        returns (Consumer memory account, uint256 unswept)
    {
        bytes32 id = _accountId(consumer_, hermesId);
        Consumer storage c = _consumer(id);
        account = Consumer(c.balance, c.collected, c.exitAt, c.nonce);
        unswept = token.balanceOf(_box(id));
    }

    function provider(address payee, address hermesId) external view returns (Provider memory account) {
        Provider storage p = _provider(_accountId(payee, hermesId));
        account = Provider(p.settled, p.credit, p.ratePlusOne, p.untilDay, p.mandate);
    }

    /// What a provider may count on: free and collateral, less what the owner has given notice for.
    function solvency(address hermesId) external view returns (uint256 available, uint256 leaving) {
        Hermes storage h = _hermes[hermesId];
        leaving = h.state == State.Open ? _min(h.requested, h.collateral) : h.collateral;
        available = uint256(h.free) + h.collateral - leaving;
    }

    /// Whether promises of this key are paid now.
    function isOperator(address hermesId, address key) external view returns (bool) {
        return _signsFor(_hermes[hermesId], key);
    }
}
