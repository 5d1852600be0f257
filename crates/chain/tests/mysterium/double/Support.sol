// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// What the contracts of this test double share: a token, signatures, proxies. Written from the documented interface alone.

/// An ERC-20 as the documented one behaves: a transfer to nobody burns, an endless approval stays endless.
contract Myst {
    string public constant name = "Double of MYST";
    string public constant symbol = "MYST";
    uint8 public constant decimals = 18;

    address public immutable minter = msg.sender;
    uint256 public totalSupply;
    mapping(address => uint256) public balanceOf;
    mapping(address => mapping(address => uint256)) public allowance;

    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);

    function mint(address to, uint256 value) external {
        require(msg.sender == minter, "double: only the minter mints");
        totalSupply += value;
        balanceOf[to] += value;
        emit Transfer(address(0), to, value);
    }

    function approve(address spender, uint256 value) external returns (bool) {
        allowance[msg.sender][spender] = value;
        emit Approval(msg.sender, spender, value);
        return true;
    }

    function transfer(address to, uint256 value) external returns (bool) {
        _move(msg.sender, to, value);
        return true;
    }

    function transferFrom(address from, address to, uint256 value) external returns (bool) {
        uint256 allowed = allowance[from][msg.sender];
        if (allowed != type(uint256).max) allowance[from][msg.sender] = allowed - value;
        _move(from, to, value);
        return true;
    }

    function _move(address from, address to, uint256 value) private {
        balanceOf[from] -= value;
        if (to == address(0)) totalSupply -= value;
        else balanceOf[to] += value;
        emit Transfer(from, to, value);
    }
}

library Signed {
    /// Never fails: bytes that nobody signed are somebody's, or nobody's. Whoever calls compares.
    function by(bytes memory packed, bytes memory signature) internal pure returns (address) {
        if (signature.length != 65) return address(0);
        (bytes32 r, bytes32 s, uint8 v) = (bytes32(0), bytes32(0), 0);
        assembly ("memory-safe") {
            r := mload(add(signature, 32))
            s := mload(add(signature, 64))
            v := byte(0, mload(add(signature, 96)))
        }
        return ecrecover(keccak256(packed), v, r, s);
    }
}

library Proxy {
    /// Creation code of an EIP-1167 proxy.
    function code(address implementation) internal pure returns (bytes memory) {
        return abi.encodePacked(
            hex"3d602d80600a3d3981f3363d3d373d3d3d363d73", implementation, hex"5af43d82803e903d91602b57fd5bf3"
        );
    }

    function place(bytes32 salt, address implementation) internal view returns (address) {
        bytes32 hash = keccak256(abi.encodePacked(hex"ff", address(this), salt, keccak256(code(implementation))));
        return address(uint160(uint256(hash)));
    }

    function make(bytes32 salt, address implementation) internal returns (address made) {
        bytes memory creation = code(implementation);
        assembly ("memory-safe") {
            made := create2(0, add(creation, 32), mload(creation), salt)
        }
        require(made != address(0), "double: it is there already");
    }
}
