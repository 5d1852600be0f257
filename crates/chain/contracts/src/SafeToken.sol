// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// The calls our contracts make to their ERC-20, for tokens that answer `true` as well as for those that answer nothing.
/// A call that reverts, answers anything but true, or meets an address without code reverts here.
interface IERC20 {
    function balanceOf(address account) external view returns (uint256);
    function approve(address spender, uint256 value) external returns (bool);
    function transfer(address to, uint256 value) external returns (bool);
    function transferFrom(address from, address to, uint256 value) external returns (bool);
}

library SafeToken {
    error TokenCallFailed();

    /// Encoded behind the free memory, which stays free: a batch makes a hundred of them.
    function safeTransfer(IERC20 token, address to, uint256 value) internal {
        bytes4 selector = IERC20.transfer.selector;
        bool said;
        assembly ("memory-safe") {
            let m := mload(0x40)
            mstore(m, selector)
            mstore(add(m, 4), and(to, 0xffffffffffffffffffffffffffffffffffffffff))
            mstore(add(m, 36), value)
            let done := call(gas(), token, 0, m, 68, 0, 32)
            said := and(done, and(gt(returndatasize(), 31), eq(mload(0), 1)))
            if iszero(done) {
                returndatacopy(m, 0, returndatasize())
                if returndatasize() { revert(m, returndatasize()) }
            }
            if and(done, iszero(returndatasize())) { said := iszero(iszero(extcodesize(token))) }
        }
        if (!said) revert TokenCallFailed();
    }

    function safeTransferFrom(IERC20 token, address from, address to, uint256 value) internal {
        _checked(token, abi.encodeCall(IERC20.transferFrom, (from, to, value)));
    }

    function safeApprove(IERC20 token, address spender, uint256 value) internal {
        _checked(token, abi.encodeCall(IERC20.approve, (spender, value)));
    }

    /// The answer is one word or nothing, so no more than a word of it is copied.
    function _checked(IERC20 token, bytes memory message) private {
        bool done;
        uint256 size;
        uint256 word;
        assembly ("memory-safe") {
            done := call(gas(), token, 0, add(message, 32), mload(message), 0, 32)
            size := returndatasize()
            word := mload(0)
        }
        if (!done) {
            // The token's own reason says more than ours: pass it on.
            if (size == 0) revert TokenCallFailed();
            assembly ("memory-safe") {
                let reason := mload(0x40)
                returndatacopy(reason, 0, returndatasize())
                revert(reason, returndatasize())
            }
        }
        if (size == 0 ? address(token).code.length == 0 : (size < 32 || word != 1)) revert TokenCallFailed();
    }
}
