// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// Many settlements on the deployed Mysterium contracts in one transaction. Those contracts ask nobody who calls, so anyone may
/// send a batch; what it pays goes where each promise says.
///
/// It stands by three things. One item that fails does not sink the rest: it is reported, and it cannot burn the gas of the
/// others. A batch that is short of gas fails as a whole: nothing fails in silence. It holds no money: the fee of every item
/// is zero, so no promise that pays its caller works here.
///
/// An item has 133 bytes: 20 of the identity (or the consumer's channel), 16 of the amount, 32 of the preimage, 65 of the
/// signature.
contract Batch {
    uint256 private constant ITEM = 133;
    /// For one item: half more than the dearest first settlement through a proxied token takes.
    uint256 private constant CALL_GAS = 180_000;
    /// What must be there before an item: its gas, the sixty-fourth that a call holds back, and room to report a failure.
    uint256 private constant NEEDED = CALL_GAS * 64 / 63 + 10_000;
    /// The longest reason that is reported: a contract with more to say pays for the reading with everybody's gas.
    uint256 private constant MOST_REASON = 256;

    event Failed(uint256 indexed index, bytes reason);

    error GasTooLow(uint256 index, uint256 left);
    error ItemsTorn(uint256 length);
    error NoContract(address account);

    /// `HermesImplementation.settlePromise(identity, amount, 0, preimage, signature)` for each item.
    function settle(address hermes, bytes calldata items) external {
        if (hermes.code.length == 0) revert NoContract(hermes);
        bytes memory input = abi.encodeWithSelector(0x48d9f01e, 0, 0, 0, 0, uint256(5 * 32), uint256(65), 0, 0, 0);
        uint256 count = _count(items);
        for (uint256 index = 0; index < count; ++index) {
            assembly ("memory-safe") {
                let item := add(items.offset, mul(index, ITEM))
                mstore(add(input, 36), shr(96, calldataload(item)))
                mstore(add(input, 68), shr(128, calldataload(add(item, 20))))
                calldatacopy(add(input, 132), add(item, 36), 32)
                calldatacopy(add(input, 228), add(item, 68), 65)
            }
            _try(index, hermes, input);
        }
    }

    /// `ChannelImplementation.settlePromise(amount, 0, preimage, signature)` on the channel that each item names.
    function collect(bytes calldata items) external {
        bytes memory input = abi.encodeWithSelector(0x6f174630, 0, 0, 0, uint256(4 * 32), uint256(65), 0, 0, 0);
        uint256 count = _count(items);
        for (uint256 index = 0; index < count; ++index) {
            address channel;
            assembly ("memory-safe") {
                let item := add(items.offset, mul(index, ITEM))
                channel := shr(96, calldataload(item))
                mstore(add(input, 36), shr(128, calldataload(add(item, 20))))
                calldatacopy(add(input, 100), add(item, 36), 32)
                calldatacopy(add(input, 196), add(item, 68), 65)
            }
            // A call to nothing succeeds and does nothing.
            if (channel.code.length == 0) emit Failed(index, abi.encodeWithSelector(NoContract.selector, channel));
            else _try(index, channel, input);
        }
    }

    function _count(bytes calldata items) private pure returns (uint256) {
        if (items.length % ITEM != 0) revert ItemsTorn(items.length);
        return items.length / ITEM;
    }

    function _try(uint256 index, address target, bytes memory input) private {
        if (gasleft() < NEEDED) revert GasTooLow(index, gasleft());
        bool done;
        assembly ("memory-safe") {
            done := call(CALL_GAS, target, 0, add(input, 32), mload(input), 0, 0)
        }
        if (done) return;
        bytes memory reason;
        assembly ("memory-safe") {
            let size := returndatasize()
            if gt(size, MOST_REASON) { size := MOST_REASON }
            reason := mload(0x40)
            mstore(0x40, add(reason, 320))
            mstore(reason, size)
            returndatacopy(add(reason, 32), 0, size)
        }
        emit Failed(index, reason);
    }
}
