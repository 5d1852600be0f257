// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20, SafeToken} from "./SafeToken.sol";

interface IBoxVault {
    function token() external view returns (IERC20);
}

/// The account behind a consumer's deposit address. Its one power is spent while it is being made: it lets the vault that
/// made it pull the vault's token. What stays is one INVALID opcode, so every later call, and native coin, is refused.
/// It has no constructor arguments: the address depends on the vault and the salt alone, and can be derived before anything
/// is deployed.
contract DepositBox {
    constructor() {
        SafeToken.safeApprove(IBoxVault(msg.sender).token(), msg.sender, type(uint256).max);
        assembly ("memory-safe") {
            mstore8(0, 0xfe)
            return(0, 1)
        }
    }
}
