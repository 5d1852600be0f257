// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {DepositBox} from "./DepositBox.sol";
import {IERC20, SafeToken} from "./SafeToken.sol";
import {Signature} from "./Signature.sol";

/// The ledger between consumers, Hermes operators and providers, in one ERC-20.
///
/// Money enters at a consumer's deposit address (anybody may send there, before anything is deployed) or as a Hermes'
/// collateral. It moves in two cumulative steps, each proven by a promise of 160 bytes:
///   consumer --collect--> Hermes `free` --settle--> provider.
/// The vault refuses to move a provider's total without the provider, to keep a consumer from leaving, to let a payer decide
/// who earns a fee, and to freeze anybody for somebody else's debt.
///
/// INVARIANT: token.balanceOf(vault) == sum of consumer balances + Hermes free + Hermes collateral + provider credit
/// (plus what strangers sent to the vault itself, which belongs to nobody).
/// The token must move exactly the stated amount; tokens that charge for transfers are not supported.
contract Vault {
    using SafeToken for IERC20;

    /// One slot. `exitAt` is 0 while no exit is pending; `nonce` counts exits asked for, ended and withdrawn.
    struct Consumer {
        uint96 balance;
        uint96 collected;
        uint40 exitAt;
        uint24 nonce;
    }

    /// One slot. `settled` is cumulative for ever; `credit` is what the payee left in the vault. The Hermes' fee rate never
    /// changes, so a copy of it here (`known` once taken) spares each later settlement a slot.
    struct Provider {
        uint96 settled;
        uint96 credit;
        uint16 feeBps;
        bool known;
    }

    /// The first slot is all that an everyday settlement needs; the second backs it; the rest is read when keys rotate.
    /// A Hermes is registered when it has an operator.
    struct Hermes {
        address operator;
        uint96 free;
        uint96 collateral;
        uint96 requested;
        uint40 unlockAt;
        uint16 feeBps;
        address next;
        uint40 nextAt;
        address previous;
    }

    /// What the payee of a relayed settlement agrees to: who may send it, where the money goes, the most it may cost.
    bytes32 public constant SETTLE_CONSENT = keccak256(
        "SettleConsent(address payee,address hermes,address caller,address beneficiary,uint256 amount,uint256 maxFee,uint256 deadline)"
    );
    bytes32 public constant EXIT_REQUEST =
        keccak256("ExitRequest(address consumer,address hermes,uint256 nonce,uint256 deadline)");
    bytes32 public constant EXIT_FINAL =
        keccak256("ExitFinal(address consumer,address hermes,address beneficiary,uint256 nonce,uint256 deadline)");
    bytes32 private constant DOMAIN =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");

    /// The most a Hermes may keep of a settlement: 20 %, in 1/10000.
    uint16 public constant MAX_FEE_BPS = 2_000;
    /// How long a matured collateral request stays usable. Without an end, a request made once would be an instant exit for ever.
    uint40 public constant COLLATERAL_WINDOW = 7 days;

    IERC20 public immutable token;
    uint40 public immutable exitDelay;
    uint40 public immutable collateralDelay;
    bytes32 private immutable boxHash;

    mapping(address hermesId => Hermes) private _hermes;
    mapping(bytes32 accountId => Consumer) private _consumers;
    mapping(bytes32 accountId => Provider) private _providers;

    event HermesRegistered(address indexed hermes, address indexed owner, address operator, uint16 feeBps);
    event OperatorRotating(address indexed hermes, address operator, uint40 effectiveAt);
    event CollateralAdded(address indexed hermes, uint256 amount, uint256 collateral);
    event Retained(address indexed hermes, uint256 amount, uint256 collateral);
    event CollateralRequested(address indexed hermes, uint256 amount, uint40 unlockAt);
    event CollateralWithdrawn(address indexed hermes, uint256 amount, uint256 collateral);
    event Deposited(address indexed consumer, address indexed hermes, uint256 amount, uint256 balance);
    event ExitRequested(address indexed consumer, address indexed hermes, uint40 exitAt);
    event ExitCancelled(address indexed consumer, address indexed hermes);
    event ExitFinalized(address indexed consumer, address indexed hermes, address beneficiary, uint256 amount);
    /// `amount` is this step, `totalCollected` the sum for ever. R becomes public here.
    event Collected(
        address indexed consumer, address indexed hermes, uint256 amount, uint256 totalCollected, bytes32 R
    );
    /// `amountPaid` is by how much the settled total advanced; the beneficiary got it less `hermesFee` and the relayer's `fee`.
    event Settled(
        address indexed payee,
        address indexed hermes,
        uint256 amountPaid,
        uint256 totalSettled,
        uint256 hermesFee,
        uint256 fee,
        bytes32 R
    );
    event CreditWithdrawn(address indexed payee, address indexed hermes, address beneficiary, uint256 amount);

    error ZeroAddress();
    error AmountTooLarge(uint256 amount);
    error FeeRateTooHigh(uint16 feeBps, uint16 most);
    error AlreadyRegistered(address hermes);
    error UnknownHermes(address hermes);
    error NotEnough(uint256 available, uint256 wanted);
    error NothingRequested();
    error TooEarly(uint256 dueAt, uint256 timestamp);
    error TooLate(uint256 deadline, uint256 timestamp);
    error ExitPending(uint256 exitAt);
    error FeeNotAllowed(uint256 fee);
    error FeeAboveConsent(uint256 fee, uint256 maxFee);
    error FeeAboveAmount(uint256 fee, uint256 amount);
    error WrongSigner(address recovered);
    error NothingOwed(uint256 amount, uint256 alreadyPaid);
    error AccountEmpty();
    error HermesInsolvent(uint256 available, uint256 owed);

    constructor(IERC20 token_, uint40 exitDelay_, uint40 collateralDelay_) {
        if (address(token_) == address(0)) revert ZeroAddress();
        token = token_;
        exitDelay = exitDelay_;
        collateralDelay = collateralDelay_;
        boxHash = keccak256(type(DepositBox).creationCode);
    }

    // ------------------------------------------------------------------------------------------------- Hermes

    /// One Hermes for each owner; its id is `hermesIdOf(owner)`. The fee rate is fixed for ever.
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
        Hermes storage h = _known(hermesId);
        if (amount > h.free) revert NotEnough(h.free, amount);
        uint96 collateral = _u96(h.collateral + amount);
        h.free -= uint96(amount);
        h.collateral = collateral;
        emit Retained(hermesId, amount, collateral);
    }

    /// Gives notice; a new request replaces the old one and starts again; 0 takes it back. The collateral pays until it leaves.
    function requestCollateral(uint256 amount) external {
        address hermesId = hermesIdOf(msg.sender);
        Hermes storage h = _known(hermesId);
        if (amount > h.collateral) revert NotEnough(h.collateral, amount);
        uint40 unlockAt = amount == 0 ? 0 : uint40(block.timestamp) + collateralDelay;
        h.requested = uint96(amount);
        h.unlockAt = unlockAt;
        emit CollateralRequested(hermesId, amount, unlockAt);
    }

    function withdrawCollateral() external returns (uint256 amount) {
        address hermesId = hermesIdOf(msg.sender);
        Hermes storage h = _known(hermesId);
        uint256 unlockAt = h.unlockAt;
        if (unlockAt == 0) revert NothingRequested();
        if (block.timestamp < unlockAt) revert TooEarly(unlockAt, block.timestamp);
        if (block.timestamp > unlockAt + COLLATERAL_WINDOW) revert TooLate(unlockAt + COLLATERAL_WINDOW, block.timestamp);
        uint96 collateral = h.collateral;
        amount = _min(h.requested, collateral);
        h.collateral = collateral - uint96(amount);
        h.requested = 0;
        h.unlockAt = 0;
        token.safeTransfer(msg.sender, amount);
        emit CollateralWithdrawn(hermesId, amount, collateral - amount);
    }

    /// The next operator signs from `effectiveAt`; the one before it stays good until the rotation after this one.
    function rotateOperator(address next) external {
        if (next == address(0)) revert ZeroAddress();
        address hermesId = hermesIdOf(msg.sender);
        Hermes storage h = _known(hermesId);
        if (h.nextAt != 0 && block.timestamp >= h.nextAt) {
            h.previous = h.operator;
            h.operator = h.next;
        }
        h.next = next;
        uint40 effectiveAt = uint40(block.timestamp) + collateralDelay;
        h.nextAt = effectiveAt;
        emit OperatorRotating(hermesId, next, effectiveAt);
    }

    // ----------------------------------------------------------------------------------------------- consumers

    /// Credits what lies at a deposit address. Anybody may call it; it can only help the consumer.
    function sweep(address consumer_, address hermesId) external returns (uint256 amount) {
        bytes32 id = _accountId(consumer_, hermesId);
        (amount,) = _sweep(_consumers[id], id, consumer_, hermesId);
    }

    /// Hermes takes what a consumer promised. Anybody may send it: it can only pay the Hermes that the promise names.
    /// A fee would be paid by the consumer to whoever is first, so a promise with one is not accepted here.
    function collect(address consumer_, address hermesId, uint256 amount, uint256 fee, bytes32 R, bytes calldata sig)
        external
        returns (uint256 paid)
    {
        if (fee != 0) revert FeeNotAllowed(fee);
        Hermes storage h = _known(hermesId);
        bytes32 id = _accountId(consumer_, hermesId);
        address signer = Signature.signer(promiseDigest(bytes32(uint256(uint160(_box(id)))), amount, fee, R), sig);
        if (signer != consumer_) revert WrongSigner(signer);

        Consumer storage c = _consumers[id];
        (uint256 balance, uint256 collected) = (c.balance, c.collected);
        if (amount <= collected) revert NothingOwed(amount, collected);
        uint256 unpaid = amount - collected;
        if (balance < unpaid) (, balance) = _sweep(c, id, consumer_, hermesId);
        paid = _min(unpaid, balance);
        if (paid == 0) revert AccountEmpty();
        collected = _u96(collected + paid);
        c.balance = uint96(balance - paid);
        c.collected = uint96(collected);
        h.free = _u96(h.free + paid);
        emit Collected(consumer_, hermesId, paid, collected, R);
    }

    /// Starts the delay after which the rest is the consumer's again. Nobody's agreement is needed; until the exit is
    /// finalized Hermes may collect with promises it holds.
    function requestExit(address hermesId) external {
        _requestExit(_consumers[_accountId(msg.sender, hermesId)], msg.sender, hermesId);
    }

    function requestExitBySig(address consumer_, address hermesId, uint256 deadline, bytes calldata sig) external {
        Consumer storage c = _consumers[_accountId(consumer_, hermesId)];
        _agreed(consumer_, deadline, keccak256(abi.encode(EXIT_REQUEST, consumer_, hermesId, c.nonce, deadline)), sig);
        _requestExit(c, consumer_, hermesId);
    }

    /// Goes on with this Hermes after all.
    function cancelExit(address hermesId) external {
        Consumer storage c = _consumers[_accountId(msg.sender, hermesId)];
        if (c.exitAt == 0) revert NothingRequested();
        c.exitAt = 0;
        c.nonce += 1;
        emit ExitCancelled(msg.sender, hermesId);
    }

    function finalizeExit(address hermesId, address beneficiary) external returns (uint256) {
        return _finalizeExit(msg.sender, hermesId, beneficiary);
    }

    function finalizeExitBySig(
        address consumer_,
        address hermesId,
        address beneficiary,
        uint256 deadline,
        bytes calldata sig
    ) external returns (uint256) {
        uint256 nonce = _consumers[_accountId(consumer_, hermesId)].nonce;
        _agreed(
            consumer_,
            deadline,
            keccak256(abi.encode(EXIT_FINAL, consumer_, hermesId, beneficiary, nonce, deadline)),
            sig
        );
        return _finalizeExit(consumer_, hermesId, beneficiary);
    }

    // ----------------------------------------------------------------------------------------------- providers

    /// A payee cashes its Hermes' promise. The beneficiary may be the vault itself: the money then stays as credit.
    /// If the Hermes cannot pay all of it, it pays what there is and the rest can be settled later with the same promise.
    /// The promise's fee is part of what was signed and is not charged: nobody relays here.
    function settle(
        address hermesId,
        uint256 amount,
        uint256 fee,
        bytes32 R,
        bytes calldata hermesSig,
        address beneficiary
    ) external returns (uint256 paid) {
        bytes32 id = _accountId(msg.sender, hermesId);
        _promisedByHermes(hermesId, promiseDigest(id, amount, fee, R), hermesSig);
        paid = _settle(id, msg.sender, hermesId, amount, 0, R, beneficiary);
    }

    /// The same, sent by a caller that the payee named. The promise's fee, at most `maxFee`, goes to that caller, and then the
    /// whole promise is paid or nothing is: a consent must not earn its fee twice.
    function settleFor(
        address payee,
        address hermesId,
        uint256 amount,
        uint256 fee,
        bytes32 R,
        bytes calldata hermesSig,
        address beneficiary,
        uint256 maxFee,
        uint256 deadline,
        bytes calldata payeeSig
    ) external returns (uint256 paid) {
        if (fee > maxFee) revert FeeAboveConsent(fee, maxFee);
        _agreed(
            payee,
            deadline,
            keccak256(
                abi.encode(SETTLE_CONSENT, payee, hermesId, msg.sender, beneficiary, amount, maxFee, deadline)
            ),
            payeeSig
        );
        bytes32 id = _accountId(payee, hermesId);
        _promisedByHermes(hermesId, promiseDigest(id, amount, fee, R), hermesSig);
        paid = _settle(id, payee, hermesId, amount, fee, R, beneficiary);
    }

    function withdrawCredit(address hermesId, address beneficiary) external returns (uint256 amount) {
        if (beneficiary == address(0)) revert ZeroAddress();
        Provider storage p = _providers[_accountId(msg.sender, hermesId)];
        amount = p.credit;
        if (amount == 0) revert AccountEmpty();
        p.credit = 0;
        token.safeTransfer(beneficiary, amount);
        emit CreditWithdrawn(msg.sender, hermesId, beneficiary, amount);
    }

    // --------------------------------------------------------------------------------------------------- views

    function hermesIdOf(address owner) public view returns (address) {
        return address(uint160(uint256(keccak256(abi.encodePacked(address(this), owner)))));
    }

    /// Where a consumer's tokens for this Hermes go; padded to 32 bytes it is the consumer's channel id.
    function depositAddress(address consumer_, address hermesId) external view returns (address) {
        return _box(_accountId(consumer_, hermesId));
    }

    /// The provider's channel id.
    function providerChannel(address payee, address hermesId) external pure returns (bytes32) {
        return _accountId(payee, hermesId);
    }

    /// A Hermes as stored, and the key that signs for it now.
    function hermes(address hermesId) external view returns (Hermes memory account, address signer) {
        account = _hermes[hermesId];
        bool rotated = account.nextAt != 0 && block.timestamp >= account.nextAt;
        signer = rotated ? account.next : account.operator;
    }

    /// A consumer's account as stored, and what still lies at its deposit address.
    function consumer(address consumer_, address hermesId)
        external
        view
        returns (Consumer memory account, uint256 unswept)
    {
        bytes32 id = _accountId(consumer_, hermesId);
        account = _consumers[id];
        unswept = token.balanceOf(_box(id));
    }

    function provider(address payee, address hermesId) external view returns (Provider memory account) {
        account = _providers[_accountId(payee, hermesId)];
    }

    /// What a provider may count on: free and collateral, less what the owner has given notice for.
    function solvency(address hermesId) external view returns (uint256 available, uint256 leaving) {
        Hermes storage h = _hermes[hermesId];
        leaving = _min(h.requested, h.collateral);
        available = uint256(h.free) + h.collateral - leaving;
    }

    /// Whether promises of this key are paid now.
    function isOperator(address hermesId, address key) external view returns (bool) {
        return _signsFor(_hermes[hermesId], key);
    }

    /// The 160 bytes that both legs sign, hashed.
    function promiseDigest(bytes32 channelId, uint256 amount, uint256 fee, bytes32 R) public view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, channelId, amount, fee, keccak256(abi.encode(R))));
    }

    function domainSeparator() public view returns (bytes32) {
        return keccak256(
            abi.encode(DOMAIN, keccak256("Wayfare"), keccak256("1"), block.chainid, address(this))
        );
    }

    // ------------------------------------------------------------------------------------------------- private

    function _settle(
        bytes32 id,
        address payee,
        address hermesId,
        uint256 amount,
        uint256 fee,
        bytes32 R,
        address beneficiary
    ) private returns (uint256 paid) {
        if (beneficiary == address(0)) revert ZeroAddress();
        Provider storage p = _providers[id];
        uint256 settled = p.settled;
        if (amount <= settled) revert NothingOwed(amount, settled);

        Hermes storage h = _hermes[hermesId];
        uint256 feeBps = p.feeBps;
        if (!p.known) {
            feeBps = h.feeBps;
            (p.feeBps, p.known) = (uint16(feeBps), true);
        }
        uint256 hermesFee;
        (paid, hermesFee) = _take(h, amount - settled, fee, feeBps);
        uint256 due = paid - hermesFee - fee;
        settled = _u96(settled + paid);
        p.settled = uint96(settled);
        if (beneficiary == address(this)) p.credit = _u96(p.credit + due);
        emit Settled(payee, hermesId, paid, settled, hermesFee, fee, R);

        if (beneficiary != address(this)) token.safeTransfer(beneficiary, due);
        if (fee != 0) token.safeTransfer(msg.sender, fee);
    }

    /// Pays up to `owed` out of a Hermes: free first, then collateral. Its own fee stays in free, rounded down.
    function _take(Hermes storage h, uint256 owed, uint256 fee, uint256 feeBps)
        private
        returns (uint256 paid, uint256 hermesFee)
    {
        uint256 free = h.free;
        uint256 collateral = owed > free ? h.collateral : 0;
        paid = _min(owed, free + collateral);
        hermesFee = paid * feeBps / 10_000;
        if (paid == 0 || (fee != 0 && paid < owed)) revert HermesInsolvent(free + collateral, owed);
        uint256 leaves = paid - hermesFee;
        if (fee > leaves) revert FeeAboveAmount(fee, leaves);
        uint256 fromFree = _min(leaves, free);
        h.free = uint96(free - fromFree);
        if (leaves != fromFree) h.collateral = uint96(collateral - (leaves - fromFree));
    }

    function _sweep(Consumer storage c, bytes32 id, address consumer_, address hermesId)
        private
        returns (uint256 amount, uint256 balance)
    {
        address box = _box(id);
        balance = c.balance;
        // Never more than a slot holds: the rest stays at the address and can be swept later.
        amount = _min(token.balanceOf(box), type(uint96).max - balance);
        if (amount == 0) return (0, balance);
        balance += amount;
        c.balance = uint96(balance);
        if (box.code.length == 0) new DepositBox{salt: id}();
        token.safeTransferFrom(box, address(this), amount);
        emit Deposited(consumer_, hermesId, amount, balance);
    }

    function _requestExit(Consumer storage c, address consumer_, address hermesId) private {
        if (c.exitAt != 0) revert ExitPending(c.exitAt);
        uint40 exitAt = uint40(block.timestamp) + exitDelay;
        c.exitAt = exitAt;
        c.nonce += 1;
        emit ExitRequested(consumer_, hermesId, exitAt);
    }

    function _finalizeExit(address consumer_, address hermesId, address beneficiary) private returns (uint256 amount) {
        if (beneficiary == address(0) || beneficiary == address(this)) revert ZeroAddress();
        bytes32 id = _accountId(consumer_, hermesId);
        Consumer storage c = _consumers[id];
        uint256 exitAt = c.exitAt;
        if (exitAt == 0) revert NothingRequested();
        if (block.timestamp < exitAt) revert TooEarly(exitAt, block.timestamp);
        (, amount) = _sweep(c, id, consumer_, hermesId);
        c.balance = 0;
        c.exitAt = 0;
        c.nonce += 1;
        token.safeTransfer(beneficiary, amount);
        emit ExitFinalized(consumer_, hermesId, beneficiary, amount);
    }

    function _promisedByHermes(address hermesId, bytes32 digest, bytes calldata sig) private view {
        address signer = Signature.signer(digest, sig);
        if (!_signsFor(_hermes[hermesId], signer)) revert WrongSigner(signer);
    }

    function _signsFor(Hermes storage h, address key) private view returns (bool) {
        if (key == h.operator) return key != address(0);
        if (key == h.previous) return key != address(0);
        return key == h.next && h.nextAt != 0 && block.timestamp >= h.nextAt;
    }

    function _agreed(address who, uint256 deadline, bytes32 message, bytes calldata sig) private view {
        if (block.timestamp > deadline) revert TooLate(deadline, block.timestamp);
        address signer = Signature.signer(keccak256(abi.encodePacked("\x19\x01", domainSeparator(), message)), sig);
        if (signer != who) revert WrongSigner(signer);
    }

    function _known(address hermesId) private view returns (Hermes storage h) {
        h = _hermes[hermesId];
        if (h.operator == address(0)) revert UnknownHermes(hermesId);
    }

    function _accountId(address who, address hermesId) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(who, hermesId));
    }

    /// CREATE2: the salt is the account, the code is fixed, so the address is known before it exists.
    function _box(bytes32 id) private view returns (address) {
        return address(uint160(uint256(keccak256(abi.encodePacked(bytes1(0xff), address(this), id, boxHash)))));
    }

    function _u96(uint256 amount) private pure returns (uint96) {
        if (amount > type(uint96).max) revert AmountTooLarge(amount);
        return uint96(amount);
    }

    function _min(uint256 a, uint256 b) private pure returns (uint256) {
        return a < b ? a : b;
    }
}
