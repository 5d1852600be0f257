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

    function safeTransfer(IERC20 token, address to, uint256 value) internal {
        bytes4 selector = IERC20.transfer.selector;
        uint256 m;
        assembly ("memory-safe") {
            m := mload(0x40)
            mstore(m, selector)
            mstore(add(m, 16), shl(96, to))
            mstore(add(m, 36), value)
        }
        _send(token, m, 68);
    }

    /// Many transfers, by words of receiver 20 ‖ value 12 in memory from `start` to `end`; a word of zeros is nobody's.
    function safeTransfers(IERC20 token, uint256 start, uint256 end) internal {
        bytes4 selector = IERC20.transfer.selector;
        bool done;
        while (true) {
            assembly ("memory-safe") {
                let m := mload(0x40)
                mstore(m, selector)
                for {} lt(start, end) { start := add(start, 32) } {
                    let word := mload(start)
                    if word {
                        mstore(add(m, 4), shr(96, word))
                        mstore(add(m, 36), and(word, 0xffffffffffffffffffffffff))
                        done := call(gas(), token, 0, m, 68, 0, 32)
                        if iszero(and(eq(mload(0), 1), and(gt(returndatasize(), 31), done))) { break }
                    }
                }
            }
            if (start >= end) return;
            judge(token, done);
            unchecked {
                start += 32;
            }
        }
    }

    function safeTransferFrom(IERC20 token, address from, address to, uint256 value) internal {
        bytes4 selector = IERC20.transferFrom.selector;
        uint256 m;
        assembly ("memory-safe") {
            m := mload(0x40)
            mstore(m, selector)
            mstore(add(m, 16), shl(96, from))
            mstore(add(m, 48), shl(96, to))
            mstore(add(m, 68), value)
        }
        _send(token, m, 100);
    }

    function safeApprove(IERC20 token, address spender, uint256 value) internal {
        bytes4 selector = IERC20.approve.selector;
        uint256 m;
        assembly ("memory-safe") {
            m := mload(0x40)
            mstore(m, selector)
            mstore(add(m, 16), shl(96, spender))
            mstore(add(m, 36), value)
        }
        _send(token, m, 68);
    }

    /// Calls the token with what lies behind the free memory, which stays free. The answer is one word, or none, so no more than
    /// a word of it is copied.
    function _send(IERC20 token, uint256 m, uint256 size) private {
        bool done;
        bool said;
        assembly ("memory-safe") {
            done := call(gas(), token, 0, m, size, 0, 32)
            said := and(done, and(gt(returndatasize(), 31), eq(mload(0), 1)))
        }
        if (!said) judge(token, done);
    }

    /// After a call that was not answered by the word 1. Nothing is an answer too, where there is code. The token's own reason says more than ours: it is passed on.
    function judge(IERC20 token, bool done) internal view {
        bool silent;
        assembly ("memory-safe") {
            silent := iszero(returndatasize())
            if iszero(or(done, silent)) {
                let reason := mload(0x40)
                returndatacopy(reason, 0, returndatasize())
                revert(reason, returndatasize())
            }
        }
        if (!done || !silent || address(token).code.length == 0) revert TokenCallFailed();
    }
}
