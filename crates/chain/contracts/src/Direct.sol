// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20, SafeToken} from "./SafeToken.sol";
import {Signature} from "./Signature.sol";

/// Channels from one payer to one provider, for pairs that stay together: no Hermes, no fee of one, no trust in one.
///
/// The payer locks tokens and signs promises (the same 160 bytes, on a channel of its own) whose amount is a ceiling: the most
/// that the provider may ever have drawn. The provider draws what was used, up to the ceiling and to what is locked.
/// It refuses to let a payer take back what it locked before the delay is over, and to let anybody draw but the provider or a
/// caller whom the provider named. It holds no money of the vault, and the vault none of its.
contract Direct {
    using SafeToken for IERC20;

    /// One slot. `locked` and `drawn` are cumulative for ever; what the payer took back counts as drawn.
    struct Channel {
        uint96 locked;
        uint96 drawn;
        uint40 unlockAt;
    }

    bytes32 private constant DRAW_CONSENT = keccak256(
        "DrawConsent(address provider,address payer,address caller,address beneficiary,uint256 total,uint256 maxFee,uint256 deadline)"
    );
    bytes32 private constant DOMAIN =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");

    IERC20 public immutable token;
    uint40 public immutable unlockDelay;

    mapping(bytes32 channelId => Channel) private _channels;

    event Locked(address indexed payer, address indexed provider, uint256 amount, uint256 locked);
    event UnlockRequested(address indexed payer, address indexed provider, uint40 unlockAt);
    event Unlocked(address indexed payer, address indexed provider, address beneficiary, uint256 amount);
    event Drawn(address indexed provider, address indexed payer, uint256 amount, uint256 total, uint256 fee, bytes32 R);

    error ZeroAddress();
    error AmountTooLarge(uint256 amount);
    error NothingRequested();
    error NothingOwed(uint256 amount, uint256 alreadyPaid);
    error AboveCeiling(uint256 total, uint256 ceiling);
    error NotEnough(uint256 available, uint256 wanted);
    error FeeAboveConsent(uint256 fee, uint256 maxFee);
    error FeeAboveAmount(uint256 fee, uint256 amount);
    error TooEarly(uint256 dueAt, uint256 timestamp);
    error TooLate(uint256 deadline, uint256 timestamp);
    error WrongSigner(address recovered);

    constructor(IERC20 token_, uint40 unlockDelay_) {
        if (address(token_) == address(0)) revert ZeroAddress();
        (token, unlockDelay) = (token_, unlockDelay_);
    }

    /// Locks the caller's tokens for a provider; more of them, later, too. A pending unlock ends: who locks wants to go on.
    function lock(address provider, uint256 amount) external {
        if (provider == address(0)) revert ZeroAddress();
        if (amount == 0) revert NotEnough(0, 1);
        Channel storage c = _channels[channelId(msg.sender, provider)];
        uint256 locked = c.locked + amount;
        if (locked > type(uint96).max) revert AmountTooLarge(locked);
        c.locked = uint96(locked);
        c.unlockAt = 0;
        token.safeTransferFrom(msg.sender, address(this), amount);
        emit Locked(msg.sender, provider, amount, locked);
    }

    /// Starts the delay in which the provider draws what it is owed.
    function requestUnlock(address provider) external {
        Channel storage c = _channels[channelId(msg.sender, provider)];
        if (c.unlockAt != 0) revert TooEarly(c.unlockAt, block.timestamp);
        uint40 unlockAt = uint40(block.timestamp) + unlockDelay;
        c.unlockAt = unlockAt;
        emit UnlockRequested(msg.sender, provider, unlockAt);
    }

    function unlock(address provider, address beneficiary) external returns (uint256 amount) {
        if (beneficiary == address(0) || beneficiary == address(this)) revert ZeroAddress();
        Channel storage c = _channels[channelId(msg.sender, provider)];
        uint256 unlockAt = c.unlockAt;
        if (unlockAt == 0) revert NothingRequested();
        if (block.timestamp < unlockAt) revert TooEarly(unlockAt, block.timestamp); //@guard unlock-delay
        // INVARIANT: drawn <= locked, here and always.
        amount = c.locked - c.drawn;
        // What was taken back counts as drawn: the ceiling of an old promise must not reach new money.
        c.drawn = c.locked; //@guard clean-restart
        //@weak clean-restart: c.locked = c.drawn;
        c.unlockAt = 0;
        token.safeTransfer(beneficiary, amount);
        emit Unlocked(msg.sender, provider, beneficiary, amount);
    }

    /// The provider draws so that its total becomes `total`, which the promise's `ceiling` allows. The promise's fee is not
    /// charged: nobody relays here.
    function draw(
        address payer,
        uint256 total,
        uint256 ceiling,
        uint256 fee,
        bytes32 R,
        bytes calldata payerSig,
        address beneficiary
    ) external returns (uint256) {
        bytes32 id = _promised(payer, msg.sender, ceiling, fee, R, payerSig);
        return _draw(id, payer, msg.sender, total, ceiling, 0, R, beneficiary);
    }

    /// The same, sent by a caller whom the provider named; the promise's fee, at most `maxFee`, is the caller's.
    function drawFor(
        address provider,
        address payer,
        uint256 total,
        uint256 ceiling,
        uint256 fee,
        bytes32 R,
        bytes calldata payerSig,
        address beneficiary,
        uint256 maxFee,
        uint256 deadline,
        bytes calldata providerSig
    ) external returns (uint256) {
        if (fee > maxFee) revert FeeAboveConsent(fee, maxFee);
        if (block.timestamp > deadline) revert TooLate(deadline, block.timestamp);
        bytes32 message = keccak256(
            abi.encode(DRAW_CONSENT, provider, payer, msg.sender, beneficiary, total, maxFee, deadline)
        );
        address signer =
            Signature.signer(keccak256(abi.encodePacked("\x19\x01", domainSeparator(), message)), providerSig);
        if (signer != provider) revert WrongSigner(signer); //@guard draw-consent
        bytes32 id = _promised(payer, provider, ceiling, fee, R, payerSig);
        return _draw(id, payer, provider, total, ceiling, fee, R, beneficiary);
    }

    // --------------------------------------------------------------------------------------------------- views

    /// The channel of a pair. This contract is in it: a promise for one contract says nothing to another.
    function channelId(address payer, address provider) public view returns (bytes32) {
        return keccak256(abi.encodePacked(address(this), payer, provider));
    }

    function channel(address payer, address provider) external view returns (Channel memory) {
        return _channels[channelId(payer, provider)];
    }

    function domainSeparator() public view returns (bytes32) {
        return keccak256(abi.encode(DOMAIN, keccak256("Wayfare"), keccak256("1"), block.chainid, address(this)));
    }

    // ------------------------------------------------------------------------------------------------- private

    function _promised(address payer, address provider, uint256 ceiling, uint256 fee, bytes32 R, bytes calldata sig)
        private
        view
        returns (bytes32 id)
    {
        id = channelId(payer, provider);
        bytes32 digest = keccak256(abi.encode(block.chainid, id, ceiling, fee, keccak256(abi.encode(R))));
        address signer = Signature.signer(digest, sig);
        if (signer != payer) revert WrongSigner(signer);
    }

    function _draw(
        bytes32 id,
        address payer,
        address provider,
        uint256 total,
        uint256 ceiling,
        uint256 fee,
        bytes32 R,
        address beneficiary
    ) private returns (uint256 amount) {
        if (beneficiary == address(0) || beneficiary == address(this)) revert ZeroAddress();
        if (total > ceiling) revert AboveCeiling(total, ceiling); //@guard ceiling
        Channel storage c = _channels[id];
        (uint256 locked, uint256 drawn) = (c.locked, c.drawn);
        if (total <= drawn) revert NothingOwed(total, drawn);
        if (total > locked) revert NotEnough(locked - drawn, total - drawn);
        amount = total - drawn;
        if (fee > amount) revert FeeAboveAmount(fee, amount);
        c.drawn = uint96(total);
        emit Drawn(provider, payer, amount, total, fee, R);
        token.safeTransfer(beneficiary, amount - fee);
        if (fee != 0) token.safeTransfer(msg.sender, fee);
    }
}
