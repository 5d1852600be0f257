// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Myst, Signed} from "./Support.sol";

/// A consumer's channel as the documents describe it, second and third version: cheques of the identity, and an exit that the
/// Hermes signs too. It locks nothing for the Hermes. Everything that the documents do not state is the double's own.
contract ChannelThird {
    struct Exit {
        uint256 timelock;
        address beneficiary;
    }

    struct Link {
        address operator;
        address contractAddress;
        uint256 settled;
    }

    // Slots 0 to 3 are the double's own; 4 to 6 are documented.
    Myst internal token;
    address public operator;
    address public fundsDestination;
    address internal registry;
    uint256 internal lastNonce;
    Exit internal exitRequest;
    Link public hermes;

    event PromiseSettled(address beneficiary, uint256 amount, uint256 totalSettled, bytes32 lock);
    event Withdraw(address beneficiary, uint256 amount);

    /// By the registry that made this proxy: `due` goes back to it.
    function initialize(address token_, address identity, address hermesOperator, address hermesId, uint256 due) external {
        require(registry == address(0), "double: initialised");
        registry = msg.sender;
        token = Myst(token_);
        operator = identity;
        hermes = Link(hermesOperator, hermesId, 0);
        if (due > 0) token.transfer(msg.sender, due);
    }

    function settlePromise(uint256 amount, uint256 txFee, bytes32 lock, bytes memory signature) external {
        bytes memory cheque = abi.encodePacked(
            block.chainid, uint256(uint160(address(this))), amount, txFee, keccak256(abi.encode(lock))
        );
        require(Signed.by(cheque, signature) == operator, "double: not the identity's cheque");
        uint256 unpaid = amount - hermes.settled;
        require(unpaid > 0, "double: nothing is owed");
        uint256 balance = token.balanceOf(address(this));
        if (unpaid > balance) unpaid = balance;
        hermes.settled += unpaid;
        token.transfer(hermes.contractAddress, unpaid - txFee);
        if (txFee > 0) token.transfer(msg.sender, txFee);
        emit PromiseSettled(hermes.contractAddress, unpaid, hermes.settled, lock);
    }

    function fastExit(
        uint256 amount,
        uint256 txFee,
        address beneficiary,
        uint256 validUntil,
        bytes memory operatorSignature,
        bytes memory signature
    ) external {
        require(validUntil >= block.timestamp, "double: too late");
        bytes memory request = abi.encodePacked(
            "Exit request:",
            block.chainid,
            uint256(uint160(address(this))),
            amount,
            txFee,
            uint256(uint160(beneficiary)),
            validUntil,
            lastNonce++
        );
        require(Signed.by(request, operatorSignature) == hermes.operator, "double: not the Hermes' consent");
        require(Signed.by(request, signature) == operator, "double: not the identity's wish");
        token.transfer(beneficiary, amount - txFee);
        if (txFee > 0) token.transfer(msg.sender, txFee);
        emit Withdraw(beneficiary, amount);
    }

    function setFundsDestination(address destination) external {
        require(msg.sender == operator, "double: not the identity");
        fundsDestination = destination;
    }

    function setFundsDestinationByCheque(address destination, bytes memory signature) external {
        bytes memory request = abi.encodePacked("Set funds destination:", address(this), destination, lastNonce++);
        require(Signed.by(request, signature) == operator, "double: not the identity's wish");
        fundsDestination = destination;
    }

    function claimTokens(address other) external {
        require(other != address(token), "double: not this token");
        Myst(other).transfer(fundsDestination, Myst(other).balanceOf(address(this)));
    }
}

/// The first version, in which a consumer leaves alone, after four days.
contract ChannelFirst is ChannelThird {
    uint256 private constant DELAY = 4 days;

    event ExitRequested(uint256 timelock);

    function requestExit(address beneficiary, uint256 validUntil, bytes memory signature) external {
        require(validUntil >= block.timestamp && validUntil < block.timestamp + DELAY, "double: not now");
        require(exitRequest.timelock == 0, "double: one at a time");
        if (msg.sender != operator) {
            bytes memory request = abi.encodePacked("Exit request:", address(this), beneficiary, validUntil);
            require(Signed.by(request, signature) == operator, "double: not the identity's wish");
        }
        exitRequest = Exit(block.timestamp + DELAY, beneficiary);
        emit ExitRequested(exitRequest.timelock);
    }

    function finalizeExit() external {
        Exit memory exit = exitRequest;
        require(exit.timelock != 0 && block.timestamp >= exit.timelock, "double: too early");
        delete exitRequest;
        uint256 all = token.balanceOf(address(this));
        token.transfer(exit.beneficiary, all);
        emit Withdraw(exit.beneficiary, all);
    }
}
