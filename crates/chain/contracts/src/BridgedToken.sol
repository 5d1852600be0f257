// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// An ERC-20 with the shape of cost of a token that a proof-of-stake bridge put on Polygon, for gas measurements: a proxy whose
/// implementation is in a named slot, checked arithmetic, an `Approval` for each spending of an allowance, and a sender that is
/// read from the end of the calldata when the token calls itself. It refuses to be a bridge, and to be deployed for anything
/// but measurements: whoever comes first may set it up.
contract TokenProxy {
    /// What a real bridge token would keep here, so that reading it costs what it costs there.
    bytes32 private constant IMPLEMENTATION = keccak256("wayfare.bridged.implementation");

    constructor(address implementation) {
        bytes32 slot = IMPLEMENTATION;
        assembly {
            sstore(slot, implementation)
        }
    }

    fallback() external payable {
        bytes32 slot = IMPLEMENTATION;
        assembly {
            calldatacopy(0, 0, calldatasize())
            let done := delegatecall(gas(), sload(slot), 0, calldatasize(), 0, 0)
            returndatacopy(0, 0, returndatasize())
            if iszero(done) { revert(0, returndatasize()) }
            return(0, returndatasize())
        }
    }
}

contract BridgedToken {
    mapping(address => uint256) private _balances;
    mapping(address => mapping(address => uint256)) private _allowances;
    uint256 public totalSupply;
    address private _minter;

    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);

    error NotMinter(address caller);
    error BalanceTooLow(address account, uint256 balance, uint256 needed);
    error AllowanceTooLow(address spender, uint256 allowance, uint256 needed);
    error ZeroAddress();

    function balanceOf(address account) external view returns (uint256) {
        return _balances[account];
    }

    function allowance(address owner, address spender) external view returns (uint256) {
        return _allowances[owner][spender];
    }

    /// The first who mints is the minter.
    function mint(address to, uint256 value) external {
        if (_minter == address(0)) _minter = msg.sender;
        if (msg.sender != _minter) revert NotMinter(msg.sender);
        if (to == address(0)) revert ZeroAddress();
        totalSupply += value;
        _balances[to] += value;
        emit Transfer(address(0), to, value);
    }

    function approve(address spender, uint256 value) external returns (bool) {
        _approve(_sender(), spender, value);
        return true;
    }

    function transfer(address to, uint256 value) external returns (bool) {
        _move(_sender(), to, value);
        return true;
    }

    function transferFrom(address from, address to, uint256 value) external returns (bool) {
        _move(from, to, value);
        address spender = _sender();
        uint256 allowed = _allowances[from][spender];
        if (allowed < value) revert AllowanceTooLow(spender, allowed, value);
        _approve(from, spender, allowed - value);
        return true;
    }

    function _approve(address owner, address spender, uint256 value) private {
        if (owner == address(0) || spender == address(0)) revert ZeroAddress();
        _allowances[owner][spender] = value;
        emit Approval(owner, spender, value);
    }

    function _move(address from, address to, uint256 value) private {
        if (from == address(0) || to == address(0)) revert ZeroAddress();
        uint256 balance = _balances[from];
        if (balance < value) revert BalanceTooLow(from, balance, value);
        _balances[from] = balance - value;
        _balances[to] += value;
        emit Transfer(from, to, value);
        _asOld();
    }

    /// What the code of an older compiler takes more than ours for the same: 890 gas, by the difference that was measured.
    function _asOld() private view {
        uint256 until = gasleft() - 850;
        while (gasleft() > until) {}
    }

    /// Meta-transactions: a call of the token to itself carries its sender behind the arguments.
    function _sender() private view returns (address sender) {
        if (msg.sender != address(this)) return msg.sender;
        bytes memory array = msg.data;
        uint256 index = msg.data.length;
        assembly ("memory-safe") {
            sender := and(mload(add(array, index)), 0xffffffffffffffffffffffffffffffffffffffff)
        }
    }
}
