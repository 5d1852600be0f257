// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "./SafeToken.sol";
import {Signature} from "./Signature.sol";

/// What the vault remembers, and how anybody proves who he is to it. It refuses to move money: the rooms above do that.
///
/// Messages of our own are EIP-712, in the domain of the vault. Promises are older: `keccak256` of their raw 160 bytes.
abstract contract Ledger {
    /// One slot. `exitAt` is 0 while no exit is pending; `nonce` counts exits asked for, ended and withdrawn.
    struct Consumer {
        uint96 balance;
        uint96 collected;
        uint40 exitAt;
        uint24 nonce;
    }

    /// One slot. `settled` is cumulative for ever; `credit` is what the payee left in the vault. `ratePlusOne` is the Hermes'
    /// fee rate, which never changes, copied at the first settlement so that later ones need not read it; 0 is "not yet".
    /// `mandate` is four times the number of the caller who may settle for this payee, plus METHODS; it ends with `untilDay`.
    struct Provider {
        uint96 settled;
        uint96 credit;
        uint16 ratePlusOne;
        uint16 untilDay;
        uint32 mandate;
    }

    /// What a Hermes may still do. `Ruined` is for ever.
    enum State {
        Open,
        Closing,
        Ruined
    }

    /// The first slot is all that an everyday settlement needs; the second backs it; the rest is read when keys rotate, when
    /// collateral is asked for and when liabilities are proven. A Hermes is registered when it has an operator.
    /// `inflow` is all that ever came into `free`, so that `inflow - free` is all that settlements took out of it.
    /// `proven` is the largest total of promises that a receipt of this Hermes admits.
    struct Hermes {
        address operator;
        uint96 free;
        uint96 collateral;
        uint96 inflow;
        uint40 unlockAt;
        uint16 feeBps;
        State state;
        address next;
        uint96 requested;
        address previous;
        uint40 nextAt;
        uint40 previousUntil;
        uint96 proven;
        uint40 insolventAt;
    }

    bytes32 private constant DOMAIN =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");

    mapping(address hermesId => Hermes) internal _hermes;

    error ZeroAddress();
    error AmountTooLarge(uint256 amount);
    error UnknownHermes(address hermes);
    error HermesNotOpen(address hermes);
    error HermesRuined(address hermes);
    error NotEnough(uint256 available, uint256 wanted);
    error NothingRequested();
    error TooEarly(uint256 dueAt, uint256 timestamp);
    error TooLate(uint256 deadline, uint256 timestamp);
    error WrongSigner(address recovered);
    error NothingOwed(uint256 amount, uint256 alreadyPaid);
    error AccountEmpty();
    error HermesInsolvent(uint256 available, uint256 owed);
    error RowsMalformed(uint256 length);

    IERC20 public immutable token;

    constructor(IERC20 token_) {
        if (address(token_) == address(0)) revert ZeroAddress();
        token = token_;
    }

    function hermesIdOf(address owner) public view returns (address) {
        return address(uint160(uint256(keccak256(abi.encodePacked(address(this), owner)))));
    }

    /// The 160 bytes that both legs sign, hashed.
    function promiseDigest(bytes32 channelId, uint256 amount, uint256 fee, bytes32 R)
        public
        view
        returns (bytes32 digest)
    {
        // Behind the free memory, which stays free: a batch hashes a hundred of them.
        assembly ("memory-safe") {
            let m := mload(0x40)
            mstore(0, R)
            mstore(m, chainid())
            mstore(add(m, 32), channelId)
            mstore(add(m, 64), amount)
            mstore(add(m, 96), fee)
            mstore(add(m, 128), keccak256(0, 32))
            digest := keccak256(m, 160)
        }
    }

    function domainSeparator() public view returns (bytes32) {
        return keccak256(abi.encode(DOMAIN, keccak256("Wayfare"), keccak256("1"), block.chainid, address(this)));
    }

    /// What is promised by proven receipts and not settled, the Hermes' own fee included, which must be there for a promise to
    /// be settled whole. What was settled is taken from what was paid out; the fee is rounded settlement by settlement, so this
    /// can be too low by less than two units for each of them.
    function _liabilities(Hermes storage h) internal view returns (uint256) {
        uint256 settled = (uint256(h.inflow) - h.free) * 10_000 / (10_000 - h.feeBps);
        uint256 promised = h.proven;
        return promised > settled ? promised - settled : 0;
    }

    function _promisedByHermes(address hermesId, bytes32 digest, bytes calldata sig) internal view {
        _ofOperator(_hermes[hermesId], Signature.signer(digest, sig));
    }

    function _ofOperator(Hermes storage h, address signer) internal view {
        if (!_signsFor(h, signer)) revert WrongSigner(signer); //@guard hermes-signature
    }

    /// The operator, the one before it until its time is over, and the next one from its time on.
    function _signsFor(Hermes storage h, address key) internal view returns (bool) {
        if (key == h.operator) return key != address(0);
        if (key == h.previous && block.timestamp < h.previousUntil) return true;
        return key == h.next && h.nextAt != 0
            && block.timestamp >= h.nextAt //@guard rotation-delay
            && key != address(0);
    }

    function _agreed(address who, uint256 deadline, bytes32 message, bytes calldata sig) internal view {
        if (block.timestamp > deadline) revert TooLate(deadline, block.timestamp);
        address signer = Signature.signer(_typed(message), sig);
        if (signer != who) revert WrongSigner(signer);
    }

    function _typed(bytes32 message) internal view returns (bytes32) {
        return keccak256(abi.encodePacked("\x19\x01", domainSeparator(), message));
    }

    function _known(address hermesId) internal view returns (Hermes storage h) {
        h = _hermes[hermesId];
        if (h.operator == address(0)) revert UnknownHermes(hermesId);
    }

    /// `keccak256(who ‖ hermesId)`, 40 bytes, in the scratch space.
    function _accountId(address who, address hermesId) internal pure returns (bytes32 id) {
        assembly ("memory-safe") {
            mstore(0x14, hermesId)
            mstore(0, and(who, 0xffffffffffffffffffffffffffffffffffffffff))
            id := keccak256(12, 40)
        }
    }

    /// Accounts lie at their ids themselves, which are hashes already, of 40 bytes, which no mapping hashes: a consumer's at the
    /// complement, a payee's as it is.
    function _consumer(bytes32 id) internal pure returns (Consumer storage c) {
        assembly ("memory-safe") {
            c.slot := not(id)
        }
    }

    function _provider(bytes32 id) internal pure returns (Provider storage p) {
        assembly ("memory-safe") {
            p.slot := id
        }
    }

    /// A row of 128 bytes in calldata: account 20 ‖ amount 12 ‖ R 32 ‖ r 32 ‖ vs 32.
    function _row(uint256 offset) internal pure returns (uint256 accountAndAmount, bytes32 R, bytes32 r, bytes32 vs) {
        assembly ("memory-safe") {
            accountAndAmount := calldataload(offset)
            R := calldataload(add(offset, 32))
            r := calldataload(add(offset, 64))
            vs := calldataload(add(offset, 96))
        }
    }

    function _u96(uint256 amount) internal pure returns (uint96) {
        if (amount > type(uint96).max) revert AmountTooLarge(amount);
        return uint96(amount);
    }

    function _min(uint256 a, uint256 b) internal pure returns (uint256) {
        return a < b ? a : b;
    }
}
