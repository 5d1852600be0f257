// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {DepositBox} from "./DepositBox.sol";
import {Ledger} from "./Ledger.sol";
import {IERC20, SafeToken} from "./SafeToken.sol";
import {Signature} from "./Signature.sol";

/// Consumers' money: how it comes in, how Hermes collects what was promised, how a consumer leaves. It refuses to keep a
/// consumer from leaving, and to pay more for a consumer than the consumer has here.
abstract contract Deposits is Ledger {
    using SafeToken for IERC20;

    bytes32 private constant EXIT_REQUEST =
        keccak256("ExitRequest(address consumer,address hermes,uint256 nonce,uint256 deadline)");
    bytes32 private constant EXIT_FINAL =
        keccak256("ExitFinal(address consumer,address hermes,address beneficiary,uint256 nonce,uint256 deadline)");

    /// A row of `collectMany`: consumer 20 ‖ amount 12 ‖ R 32 ‖ r 32 ‖ vs 32.
    uint256 private constant ROW = 128;

    uint40 public immutable exitDelay;
    bytes32 internal immutable boxHash;

    /// Consumer 20 ‖ amount 12. (A topic costs more than the word.)
    event Deposited(bytes32 consumerAndAmount, address hermes);
    event ExitRequested(address indexed consumer, address indexed hermes, uint40 exitAt);
    event ExitCancelled(address indexed consumer, address indexed hermes);
    event ExitFinalized(address indexed consumer, address indexed hermes, address beneficiary, uint256 amount);
    /// `amount` is this step, `totalCollected` the sum for ever. R becomes public here.
    event Collected(
        address indexed consumer, address indexed hermes, uint256 amount, uint256 totalCollected, bytes32 R
    );

    error ExitPending(uint256 exitAt);
    error FeeNotAllowed(uint256 fee);

    constructor(uint40 exitDelay_) {
        exitDelay = exitDelay_;
        boxHash = keccak256(type(DepositBox).creationCode);
    }

    /// Puts the caller's own tokens on a consumer's account, without a deposit address. The vault must be approved. The
    /// Hermes is not looked at: the money is the consumer's, who can leave with it whatever the Hermes is.
    function deposit(address consumer_, address hermesId, uint256 amount) external {
        Consumer storage c = _consumer(_accountId(consumer_, hermesId));
        c.balance = _u96(c.balance + amount);
        token.safeTransferFrom(msg.sender, address(this), amount);
        emit Deposited(_pair(consumer_, amount), hermesId);
    }

    /// The same in fewer bytes: consumer 20 ‖ amount 12. (Its name has a small selector: they are compared in order.)
    function placeApproved(address hermesId, bytes32 consumerAndAmount) external {
        bytes4 pull = IERC20.transferFrom.selector;
        (IERC20 from, bytes32 deposited) = (token, Deposited.selector);
        bool fits;
        bool done;
        bool said;
        assembly ("memory-safe") {
            // As in `_accountId` and `_consumer`. The balance is the low end of the slot: what is added within its bits changes
            // nothing else.
            mstore(32, shl(96, hermesId))
            mstore(0, shr(96, consumerAndAmount))
            let slot := not(keccak256(12, 40))
            let word := sload(slot)
            let amount := shr(160, shl(160, consumerAndAmount))
            fits := iszero(shr(96, add(shr(160, shl(160, word)), amount)))
            sstore(slot, add(word, amount))
            // As in `SafeToken`.
            let m := mload(0x40)
            mstore(m, pull)
            mstore(add(m, 16), shl(96, caller()))
            mstore(add(m, 48), shl(96, address()))
            mstore(add(m, 68), amount)
            done := call(gas(), from, 0, m, 100, 0, 32)
            said := and(eq(mload(0), 1), and(gt(returndatasize(), 31), done))
        }
        if (!said) SafeToken.judge(from, done);
        if (!fits) revert AmountTooLarge(uint96(uint256(consumerAndAmount)));
        assembly ("memory-safe") {
            mstore(0, consumerAndAmount)
            mstore(32, shr(96, shl(96, hermesId)))
            log1(0, 64, deposited)
        }
    }

    /// Credits what lies at a deposit address. Anybody may call it; it can only help the consumer.
    function sweep(address consumer_, address hermesId) external returns (uint256 amount) {
        bytes32 id = _accountId(consumer_, hermesId);
        (amount,) = _sweep(_consumer(id), id, consumer_, hermesId);
    }

    /// Hermes takes what a consumer promised. Anybody may send it: it can only pay the Hermes that the promise names.
    /// A fee would be paid by the consumer to whoever is first, so a promise with one is not accepted here.
    function collect(address consumer_, address hermesId, uint256 amount, uint256 fee, bytes32 R, bytes calldata sig)
        external
        returns (uint256 paid)
    {
        if (fee != 0) revert FeeNotAllowed(fee);
        Hermes storage h = _known(hermesId);
        bytes32 id = _accountId(consumer_, hermesId);
        _ofConsumer(consumer_, Signature.signer(_digestOf(id, amount, R), sig));

        Consumer storage c = _consumer(id);
        (uint256 balance, uint256 collected) = (c.balance, c.collected);
        if (amount <= collected) revert NothingOwed(amount, collected);
        if (balance < amount - collected) _sweep(c, id, consumer_, hermesId);
        paid = _collect(consumer_, hermesId, c, amount, R);
        if (paid == 0) revert AccountEmpty();
        _flowsIn(h, paid);
    }

    /// The same for many consumers of one Hermes, from what the vault already holds: deposit addresses are not looked at.
    /// A row that has nothing to give is passed over; a row with a wrong signature ends the whole call.
    function collectMany(address hermesId, bytes calldata rows) external returns (uint256 paid) {
        if (rows.length == 0 || rows.length % ROW != 0) revert RowsMalformed(rows.length);
        Hermes storage h = _known(hermesId);
        uint256 start;
        assembly ("memory-safe") {
            start := rows.offset
        }
        for (uint256 i = 0; i < rows.length; i += ROW) {
            (uint256 row, bytes32 R, bytes32 r, bytes32 vs) = _row(start + i);
            (address consumer_, uint256 amount) = (address(uint160(row >> 96)), uint96(row));
            bytes32 id = _accountId(consumer_, hermesId);
            _ofConsumer(consumer_, Signature.compactSigner(_digestOf(id, amount, R), r, vs));
            paid += _collect(consumer_, hermesId, _consumer(id), amount, R);
        }
        if (paid == 0) revert AccountEmpty();
        _flowsIn(h, paid);
    }

    /// Starts the delay after which the rest is the consumer's again. Nobody's agreement is needed; until the exit is
    /// finalized Hermes may collect with promises it holds.
    function requestExit(address hermesId) external {
        _requestExit(_consumer(_accountId(msg.sender, hermesId)), msg.sender, hermesId);
    }

    function requestExitBySig(address consumer_, address hermesId, uint256 deadline, bytes calldata sig) external {
        Consumer storage c = _consumer(_accountId(consumer_, hermesId));
        _agreed(consumer_, deadline, keccak256(abi.encode(EXIT_REQUEST, consumer_, hermesId, c.nonce, deadline)), sig);
        _requestExit(c, consumer_, hermesId);
    }

    /// Goes on with this Hermes after all.
    function cancelExit(address hermesId) external {
        Consumer storage c = _consumer(_accountId(msg.sender, hermesId));
        if (c.exitAt == 0) revert NothingRequested();
        c.exitAt = 0;
        c.nonce += 1;
        emit ExitCancelled(msg.sender, hermesId);
    }

    function finalizeExit(address hermesId, address beneficiary) external returns (uint256) {
        return _finalizeExit(msg.sender, hermesId, beneficiary);
    }

    function finalizeExitBySig(
        address consumer_,
        address hermesId,
        address beneficiary,
        uint256 deadline,
        bytes calldata sig
    ) external returns (uint256) {
        uint256 nonce = _consumer(_accountId(consumer_, hermesId)).nonce;
        _agreed(
            consumer_,
            deadline,
            keccak256(abi.encode(EXIT_FINAL, consumer_, hermesId, beneficiary, nonce, deadline)),
            sig
        );
        return _finalizeExit(consumer_, hermesId, beneficiary);
    }

    // ------------------------------------------------------------------------------------------------- private

    function _pair(address consumer_, uint256 amount) private pure returns (bytes32) {
        return bytes32(uint256(uint160(consumer_)) << 96 | amount);
    }

    /// What a consumer signs is on the channel of its deposit address.
    function _digestOf(bytes32 id, uint256 amount, bytes32 R) private view returns (bytes32) {
        return promiseDigest(bytes32(uint256(uint160(_box(id)))), amount, 0, R);
    }

    function _ofConsumer(address consumer_, address signer) private pure {
        if (signer != consumer_) revert WrongSigner(signer); //@guard consumer-signature
    }

    function _collect(address consumer_, address hermesId, Consumer storage c, uint256 amount, bytes32 R)
        private
        returns (uint256 paid)
    {
        (uint256 balance, uint256 collected) = (c.balance, c.collected);
        if (amount <= collected) return 0;
        paid = amount - collected;
        if (paid > balance) paid = balance; //@guard own-deposit
        if (paid == 0) return 0;
        collected = _u96(collected + paid);
        unchecked {
            // INVARIANT: paid <= balance, by the line above.
            c.balance = uint96(balance - paid);
        }
        c.collected = uint96(collected);
        emit Collected(consumer_, hermesId, paid, collected, R);
    }

    /// To a Hermes; to the holders of one that was ruined.
    function _flowsIn(Hermes storage h, uint256 paid) private {
        if (h.state == State.Ruined) {
            h.collateral = _u96(h.collateral + paid);
            return;
        }
        h.free = _u96(h.free + paid);
        h.inflow = _u96(h.inflow + paid);
    }

    function _sweep(Consumer storage c, bytes32 id, address consumer_, address hermesId)
        private
        returns (uint256 amount, uint256 balance)
    {
        address box = _box(id);
        balance = c.balance;
        // Never more than a slot holds: the rest stays at the address and can be swept later.
        amount = _min(token.balanceOf(box), type(uint96).max - balance);
        // A stranger who sends a unit makes this a sweep of that unit, to the consumer's good.
        // slither-disable-next-line incorrect-equality
        if (amount == 0) return (0, balance);
        balance += amount;
        c.balance = uint96(balance);
        if (box.code.length == 0) new DepositBox{salt: id}();
        token.safeTransferFrom(box, address(this), amount);
        emit Deposited(_pair(consumer_, amount), hermesId);
    }

    function _requestExit(Consumer storage c, address consumer_, address hermesId) private {
        if (c.exitAt != 0) revert ExitPending(c.exitAt);
        uint40 exitAt = uint40(block.timestamp) + exitDelay;
        c.exitAt = exitAt;
        c.nonce += 1; //@guard exit-nonce
        emit ExitRequested(consumer_, hermesId, exitAt);
    }

    function _finalizeExit(address consumer_, address hermesId, address beneficiary) private returns (uint256 amount) {
        if (beneficiary == address(0) || beneficiary == address(this)) revert ZeroAddress();
        bytes32 id = _accountId(consumer_, hermesId);
        Consumer storage c = _consumer(id);
        uint256 exitAt = c.exitAt;
        if (exitAt == 0) revert NothingRequested();
        if (block.timestamp < exitAt) revert TooEarly(exitAt, block.timestamp); //@guard exit-delay
        (, amount) = _sweep(c, id, consumer_, hermesId);
        c.balance = 0;
        c.exitAt = 0;
        c.nonce += 1; //@guard exit-nonce
        token.safeTransfer(beneficiary, amount);
        emit ExitFinalized(consumer_, hermesId, beneficiary, amount);
    }

    /// CREATE2: the salt is the account, the code is fixed, so the address is known before it exists.
    function _box(bytes32 id) internal view returns (address) {
        return address(uint160(uint256(keccak256(abi.encodePacked(bytes1(0xff), address(this), id, boxHash)))));
    }
}
