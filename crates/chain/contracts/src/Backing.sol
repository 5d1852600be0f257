// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ledger} from "./Ledger.sol";
import {IERC20, SafeToken} from "./SafeToken.sol";
import {Signature} from "./Signature.sol";

/// What stands behind a Hermes: its registration, its keys, its collateral, what its own receipts prove that it owes, and its
/// end when it closes in peace. It refuses to give an owner anything that its receipts say is owed to others, and to let it
/// touch anything but its own `free` and `collateral`.
abstract contract Backing is Ledger {
    using SafeToken for IERC20;

    /// One entry of a Hermes' chain of promises, as its operator signs it. `promiseHash` is called `promise` in what is signed,
    /// which is a reserved word here.
    struct Receipt {
        address hermes;
        uint256 sequence;
        bytes32 previous;
        bytes32 channel;
        bytes32 promiseHash;
        uint256 increment;
        uint256 totalPromised;
    }

    bytes32 private constant RECEIPT = keccak256(
        "Receipt(address hermes,uint256 sequence,bytes32 previous,bytes32 channel,bytes32 promise,uint256 increment,uint256 totalPromised)"
    );

    /// The most a Hermes may keep of a settlement: 20 %, in 1/10000.
    uint16 internal constant MAX_FEE_BPS = 2_000;
    /// How long a matured collateral request stays usable. Without an end, a request made once would be an instant exit for ever.
    uint40 internal constant COLLATERAL_WINDOW = 7 days;
    /// How long holders have, at least, after a Hermes has begun to close or was ruined.
    uint40 internal constant SETTLEMENT_WINDOW = 30 days;

    uint40 public immutable collateralDelay;

    event HermesRegistered(address indexed hermes, address indexed owner, address operator, uint16 feeBps);
    event OperatorRotating(address indexed hermes, address operator, uint40 effectiveAt);
    event OperatorRotated(address indexed hermes, address operator, uint40 previousUntil);
    event CollateralAdded(address indexed hermes, uint256 amount, uint256 collateral);
    event Retained(address indexed hermes, uint256 amount, uint256 collateral);
    event CollateralRequested(address indexed hermes, uint256 amount, uint40 unlockAt);
    event CollateralWithdrawn(address indexed hermes, uint256 amount, uint256 collateral);
    event LiabilitiesProven(address indexed hermes, uint256 sequence, uint256 totalPromised);
    event HermesClosing(address indexed hermes, uint40 unlockAt);

    error FeeRateTooHigh(uint16 feeBps, uint16 most);
    error AlreadyRegistered(address hermes);
    error OwedToHolders(uint256 liabilities, uint256 assets);
    error ReceiptOfAnother(bytes32 promiseHash);

    constructor(uint40 collateralDelay_) {
        collateralDelay = collateralDelay_;
    }

    /// One Hermes for each owner; its id is `hermesIdOf(owner)`. The fee rate is fixed for ever, so what a promise will bring
    /// is known when it is made.
    function registerHermes(address operator, uint16 feeBps) external returns (address hermesId) {
        if (operator == address(0)) revert ZeroAddress();
        if (feeBps > MAX_FEE_BPS) revert FeeRateTooHigh(feeBps, MAX_FEE_BPS);
        hermesId = hermesIdOf(msg.sender);
        Hermes storage h = _hermes[hermesId];
        if (h.operator != address(0)) revert AlreadyRegistered(hermesId);
        h.feeBps = feeBps;
        h.operator = operator;
        emit HermesRegistered(hermesId, msg.sender, operator, feeBps);
    }
    //@weak fee-rate: function setFee(uint16 feeBps) external { _hermes[hermesIdOf(msg.sender)].feeBps = feeBps; }

    /// Anybody may stand behind a Hermes; only its owner can take collateral back, and only with notice.
    function addCollateral(address hermesId, uint256 amount) external {
        Hermes storage h = _known(hermesId);
        uint96 collateral = _u96(h.collateral + amount);
        h.collateral = collateral;
        token.safeTransferFrom(msg.sender, address(this), amount);
        emit CollateralAdded(hermesId, amount, collateral);
    }

    /// Moves `free` behind the collateral's notice. It pays providers from either place, so nobody loses by it, and it is the
    /// only way a Hermes takes out what it earned.
    function retain(uint256 amount) external {
        address hermesId = hermesIdOf(msg.sender);
        Hermes storage h = _unruined(hermesId);
        if (amount > h.free) revert NotEnough(h.free, amount);
        uint96 collateral = _u96(h.collateral + amount);
        h.free -= uint96(amount);
        h.inflow -= uint96(amount);
        h.collateral = collateral;
        emit Retained(hermesId, amount, collateral);
    }

    /// Gives notice; a new request replaces the old one and starts again; 0 takes it back. The collateral pays until it leaves.
    function requestCollateral(uint256 amount) external {
        address hermesId = hermesIdOf(msg.sender);
        Hermes storage h = _known(hermesId);
        if (h.state != State.Open) revert HermesNotOpen(hermesId);
        if (amount > h.collateral) revert NotEnough(h.collateral, amount);
        uint40 unlockAt = amount == 0 ? 0 : uint40(block.timestamp) + collateralDelay;
        h.requested = uint96(amount);
        h.unlockAt = unlockAt;
        emit CollateralRequested(hermesId, amount, unlockAt);
    }

    /// Takes what notice was given for, less what receipts prove to be owed.
    function withdrawCollateral() external returns (uint256 amount) {
        address hermesId = hermesIdOf(msg.sender);
        Hermes storage h = _known(hermesId);
        if (h.state != State.Open) revert HermesNotOpen(hermesId);
        uint256 unlockAt = h.unlockAt;
        if (unlockAt == 0) revert NothingRequested();
        if (block.timestamp < unlockAt) revert TooEarly(unlockAt, block.timestamp); //@guard collateral-notice
        if (block.timestamp > unlockAt + COLLATERAL_WINDOW) revert TooLate(unlockAt + COLLATERAL_WINDOW, block.timestamp);
        amount = _min(_min(h.requested, h.collateral), _surplus(h));
        uint256 collateral = h.collateral - amount;
        h.collateral = uint96(collateral);
        h.requested = 0;
        h.unlockAt = 0;
        token.safeTransfer(msg.sender, amount);
        emit CollateralWithdrawn(hermesId, amount, collateral);
    }

    /// The next operator signs from `effectiveAt`. A rotation that is due is finished first.
    function rotateOperator(address next) external {
        if (next == address(0)) revert ZeroAddress();
        address hermesId = hermesIdOf(msg.sender);
        Hermes storage h = _known(hermesId);
        if (h.nextAt != 0 && block.timestamp >= h.nextAt) _rotated(hermesId, h);
        h.next = next;
        uint40 effectiveAt = uint40(block.timestamp) + collateralDelay;
        h.nextAt = effectiveAt;
        emit OperatorRotating(hermesId, next, effectiveAt);
    }

    /// Puts a due rotation into force: from now on the old key ages. Anybody may call it, as anybody may fear the old key.
    function finishRotation(address hermesId) external {
        Hermes storage h = _known(hermesId);
        if (h.nextAt == 0) revert NothingRequested();
        if (block.timestamp < h.nextAt) revert TooEarly(h.nextAt, block.timestamp);
        _rotated(hermesId, h);
    }

    /// Shows the vault a receipt. Anybody may: it can only make a Hermes keep what it admitted to owe.
    function proveLiabilities(Receipt calldata receipt, bytes calldata sig) external {
        _prove(_known(receipt.hermes), receipt, sig);
    }

    /// Begins the end in peace. Settlement and collection go on, also after the window.
    function closeHermes() external {
        address hermesId = hermesIdOf(msg.sender);
        Hermes storage h = _known(hermesId);
        if (h.state != State.Open) revert HermesNotOpen(hermesId);
        uint40 unlockAt = uint40(block.timestamp);
        unlockAt += collateralDelay > SETTLEMENT_WINDOW ? collateralDelay : SETTLEMENT_WINDOW; //@guard closing-window
        h.state = State.Closing;
        h.requested = 0;
        h.unlockAt = unlockAt;
        emit HermesClosing(hermesId, unlockAt);
    }

    /// After the window the owner takes what is the Hermes' own and not proven to be owed; again whenever more comes in.
    function withdrawClosed() external returns (uint256 amount) {
        address hermesId = hermesIdOf(msg.sender);
        Hermes storage h = _known(hermesId);
        if (h.state != State.Closing) revert NothingRequested();
        if (block.timestamp < h.unlockAt) revert TooEarly(h.unlockAt, block.timestamp);
        amount = _surplus(h);
        uint256 fromFree = _min(amount, h.free);
        uint256 collateral = h.collateral - (amount - fromFree);
        //@weak closing-own-money: amount = token.balanceOf(address(this));
        h.free -= uint96(fromFree);
        h.inflow -= uint96(fromFree);
        h.collateral = uint96(collateral);
        token.safeTransfer(msg.sender, amount);
        emit CollateralWithdrawn(hermesId, amount, collateral);
    }

    /// What may be taken out without touching what is owed to holders.
    function _surplus(Hermes storage h) private view returns (uint256) {
        uint256 assets = uint256(h.free) + h.collateral;
        uint256 liabilities;
        liabilities = _liabilities(h); //@guard proven-liabilities
        if (assets <= liabilities) revert OwedToHolders(liabilities, assets);
        return assets - liabilities;
    }

    function _prove(Hermes storage h, Receipt calldata receipt, bytes calldata sig) internal {
        _ofOperator(h, Signature.signer(_receiptDigest(receipt), sig));
        if (receipt.totalPromised <= h.proven) return;
        h.proven = _u96(receipt.totalPromised);
        emit LiabilitiesProven(receipt.hermes, receipt.sequence, receipt.totalPromised);
    }

    function _receiptDigest(Receipt calldata receipt) internal view returns (bytes32) {
        return _typed(keccak256(abi.encode(RECEIPT, receipt)));
    }

    function _unruined(address hermesId) internal view returns (Hermes storage h) {
        h = _known(hermesId);
        if (h.state == State.Ruined) revert HermesRuined(hermesId);
    }

    function _rotated(address hermesId, Hermes storage h) private {
        uint40 previousUntil = uint40(block.timestamp) + collateralDelay;
        (h.previous, h.previousUntil) = (h.operator, previousUntil);
        (h.operator, h.next, h.nextAt) = (h.next, address(0), 0);
        emit OperatorRotated(hermesId, h.operator, previousUntil);
    }
}
