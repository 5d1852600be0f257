// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// The four calls the vault makes to its ERC-20, for tokens that answer `true` as well as for those that answer nothing.
/// A call that reverts, answers false, or meets an address without code reverts here.
interface IERC20 {
    function balanceOf(address account) external view returns (uint256);
    function approve(address spender, uint256 value) external returns (bool);
    function transfer(address to, uint256 value) external returns (bool);
    function transferFrom(address from, address to, uint256 value) external returns (bool);
}

library SafeToken {
    error TokenCallFailed();

    function safeTransfer(IERC20 token, address to, uint256 value) internal {
        _checked(token, abi.encodeCall(IERC20.transfer, (to, value)));
    }

    function safeTransferFrom(IERC20 token, address from, address to, uint256 value) internal {
        _checked(token, abi.encodeCall(IERC20.transferFrom, (from, to, value)));
    }

    function safeApprove(IERC20 token, address spender, uint256 value) internal {
        _checked(token, abi.encodeCall(IERC20.approve, (spender, value)));
    }

    function _checked(IERC20 token, bytes memory call) private {
        (bool done, bytes memory answer) = address(token).call(call);
        if (!done) {
            // The token's own reason says more than ours: pass it on.
            if (answer.length == 0) revert TokenCallFailed();
            assembly ("memory-safe") {
                revert(add(answer, 32), mload(answer))
            }
        }
        bool said = answer.length == 0 ? address(token).code.length != 0 : abi.decode(answer, (bool));
        if (!said) revert TokenCallFailed();
    }
}
