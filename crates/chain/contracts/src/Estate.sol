// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Backing} from "./Backing.sol";
import {IERC20, SafeToken} from "./SafeToken.sol";
import {Signature} from "./Signature.sol";

/// The end of a Hermes that cheated or cannot pay: what it has is its holders', in proportion to what it promised them.
/// It refuses to stop anybody else: other Hermes, consumers' exits and credits go on as ever. And it gives nothing to whoever
/// reports, nor back to the owner: an owner that could report itself would have found a way around its notice.
abstract contract Estate is Backing {
    using SafeToken for IERC20;

    /// One of a Hermes that was ruined. A claim is covered when its receipt says that, when it was promised, all that was owed
    /// could be paid from what there was at the ruin; covered claims come first, the others share what is left.
    struct Ruin {
        uint96 coveredUpTo;
        uint96 covered;
        uint40 filedUntil;
        uint96 uncovered;
        uint96 paid;
    }

    struct Claim {
        uint96 covered;
        uint96 uncovered;
        uint96 paid;
    }

    uint40 private immutable _grace;
    mapping(address hermesId => Ruin) private _ruins;
    mapping(bytes32 accountId => Claim) private _claims;

    event InsolvencyDeclared(address indexed hermes, uint256 liabilities, uint256 assets, uint40 graceUntil);
    event InsolvencyCured(address indexed hermes);
    event Ruined(address indexed hermes, uint40 filedUntil, uint256 assets);
    event ClaimFiled(address indexed payee, address indexed hermes, uint256 amount, bool covered, bytes32 R);
    event ClaimPaid(address indexed payee, address indexed hermes, address beneficiary, uint256 amount);

    error NoFraud();
    error Solvent(uint256 liabilities, uint256 assets);
    error NotRuined(address hermes);

    /// `grace_`: how long a Hermes has to collect or to add collateral once somebody said that it owes more than it has.
    constructor(uint40 grace_) {
        _grace = grace_;
    }

    /// Two receipts that an honest Hermes cannot both have signed: one number for two entries, an entry that names another
    /// predecessor than the one there is, a sum that does not follow from the one before it, or a total that shrank.
    function proveFraud(
        Receipt calldata earlier,
        bytes calldata earlierSig,
        Receipt calldata later,
        bytes calldata laterSig
    ) external {
        Hermes storage h = _unruined(earlier.hermes);
        if (later.hermes != earlier.hermes) revert NoFraud();
        bytes32 first = _receiptDigest(earlier);
        bytes32 second = _receiptDigest(later);
        _ofOperator(h, Signature.signer(first, earlierSig));
        _ofOperator(h, Signature.signer(second, laterSig));
        bool fraud = false;
        if (earlier.sequence == later.sequence) {
            fraud = first != second; //@guard equivocation-is-two
            //@weak equivocation-is-two: fraud = true;
        } else if (later.sequence > earlier.sequence) {
            fraud = later.totalPromised < earlier.totalPromised
                || later.totalPromised - earlier.totalPromised < later.increment;
            if (later.sequence - earlier.sequence == 1) {
                fraud = fraud || later.previous != first
                    || later.totalPromised - earlier.totalPromised != later.increment;
            }
        }
        if (!fraud) revert NoFraud();
        _ruin(earlier.hermes, h);
    }

    /// One receipt that contradicts itself: the first entry has nothing before it, and its sum is its own increment; in any
    /// entry the total holds the increment.
    function proveBrokenReceipt(Receipt calldata receipt, bytes calldata sig) external {
        Hermes storage h = _unruined(receipt.hermes);
        _ofOperator(h, Signature.signer(_receiptDigest(receipt), sig));
        bool first = receipt.sequence == 1;
        bool sound = receipt.sequence != 0 && receipt.totalPromised >= receipt.increment
            && first == (receipt.previous == bytes32(0)) && (!first || receipt.totalPromised == receipt.increment);
        if (sound) revert NoFraud();
        _ruin(receipt.hermes, h);
    }

    /// Somebody saw that a Hermes is proven to owe more than it has. The grace is for collecting what consumers promised.
    function declareInsolvency(address hermesId) external {
        Hermes storage h = _unruined(hermesId);
        (uint256 liabilities, uint256 assets) = _balance(h);
        if (liabilities <= assets) revert Solvent(liabilities, assets);
        if (h.insolventAt != 0) revert TooEarly(h.insolventAt, block.timestamp);
        uint40 graceUntil = uint40(block.timestamp) + _grace;
        h.insolventAt = graceUntil;
        emit InsolvencyDeclared(hermesId, liabilities, assets, graceUntil);
    }

    /// After the grace: ruin, or, whenever the Hermes can pay, an end of the alarm. Anybody may call it.
    function resolveInsolvency(address hermesId) external {
        Hermes storage h = _unruined(hermesId);
        uint256 graceUntil = h.insolventAt;
        if (graceUntil == 0) revert NothingRequested();
        (uint256 liabilities, uint256 assets) = _balance(h);
        if (liabilities <= assets) {
            h.insolventAt = 0;
            emit InsolvencyCured(hermesId);
            return;
        }
        if (block.timestamp < graceUntil) revert TooEarly(graceUntil, block.timestamp); //@guard insolvency-grace
        _ruin(hermesId, h);
    }

    /// A payee files what a ruined Hermes promised it, with the receipt if it has one (`receiptSig` empty: it has none). It may
    /// file again when it finds a larger promise. The Hermes' fee is not claimed: it stays for other holders. Who files after
    /// the window is still paid, after the others, from what is left.
    function fileClaim(
        address hermesId,
        uint256 amount,
        uint256 fee,
        bytes32 R,
        bytes calldata hermesSig,
        Receipt calldata receipt,
        bytes calldata receiptSig
    ) external {
        Hermes storage h = _known(hermesId);
        if (h.state != State.Ruined) revert NotRuined(hermesId);
        bytes32 id = _accountId(msg.sender, hermesId);
        bytes32 digest = promiseDigest(id, amount, fee, R);
        _promisedByHermes(hermesId, digest, hermesSig);
        Provider storage p = _provider(id);
        uint256 settled = p.settled;
        if (amount <= settled) revert NothingOwed(amount, settled);
        p.settled = _u96(amount);
        uint256 claimed = amount - settled;
        claimed -= claimed * h.feeBps / 10_000;

        Ruin storage ruin = _ruins[hermesId];
        bool covered = false;
        if (receiptSig.length != 0) {
            if (receipt.hermes != hermesId || receipt.channel != id || receipt.promiseHash != digest) {
                revert ReceiptOfAnother(receipt.promiseHash);
            }
            _ofOperator(h, Signature.signer(_receiptDigest(receipt), receiptSig));
            covered = receipt.totalPromised <= ruin.coveredUpTo && block.timestamp < ruin.filedUntil;
        }
        Claim storage claim = _claims[id];
        if (covered) {
            claim.covered = _u96(claim.covered + claimed);
            ruin.covered = _u96(ruin.covered + claimed);
        } else {
            claim.uncovered = _u96(claim.uncovered + claimed);
            ruin.uncovered = _u96(ruin.uncovered + claimed);
        }
        emit ClaimFiled(msg.sender, hermesId, claimed, covered, R);
    }

    /// After the window: the caller's part of all that came in so far, less what it has had. Again whenever more comes in.
    function withdrawClaim(address hermesId, address beneficiary) external returns (uint256 amount) {
        if (beneficiary == address(0)) revert ZeroAddress();
        Hermes storage h = _known(hermesId);
        if (h.state != State.Ruined) revert NotRuined(hermesId);
        Ruin storage ruin = _ruins[hermesId];
        if (block.timestamp < ruin.filedUntil) revert TooEarly(ruin.filedUntil, block.timestamp); //@guard filing-window
        Claim storage claim = _claims[_accountId(msg.sender, hermesId)];
        uint256 left = h.collateral;
        uint256 share = _share(ruin, claim, left + ruin.paid);
        //@weak pro-rata: share = uint256(claim.covered) + claim.uncovered;
        amount = _min(share - _min(share, claim.paid), left);
        // Nothing to pay is an error here, not a state that a stranger's unit could prevent.
        // slither-disable-next-line incorrect-equality
        if (amount == 0) revert AccountEmpty();
        claim.paid = _u96(claim.paid + amount);
        ruin.paid = _u96(ruin.paid + amount);
        h.collateral = uint96(left - amount);
        token.safeTransfer(beneficiary, amount);
        emit ClaimPaid(msg.sender, hermesId, beneficiary, amount);
    }

    /// What a payee filed, and what of it was paid.
    function claimOf(address payee, address hermesId) external view returns (Claim memory) {
        return _claims[_accountId(payee, hermesId)];
    }

    function ruinOf(address hermesId) external view returns (Ruin memory) {
        return _ruins[hermesId];
    }

    /// What a Hermes is proven to owe and what it has.
    function balanceSheet(address hermesId) external view returns (uint256 liabilities, uint256 assets) {
        return _balance(_hermes[hermesId]);
    }

    // ------------------------------------------------------------------------------------------------- private

    /// Rounded down, twice: shares never add up to more than the pot.
    function _share(Ruin storage ruin, Claim storage claim, uint256 pot) private view returns (uint256 share) {
        uint256 first = _min(pot, ruin.covered);
        if (ruin.covered != 0) share = uint256(claim.covered) * first / ruin.covered;
        uint256 rest = _min(pot - first, ruin.uncovered);
        if (ruin.uncovered != 0) share += uint256(claim.uncovered) * rest / ruin.uncovered;
    }

    function _balance(Hermes storage h) private view returns (uint256 liabilities, uint256 assets) {
        liabilities = _liabilities(h);
        assets = uint256(h.free) + h.collateral;
    }

    /// `coveredUpTo` is all that was paid plus all that there is, before the Hermes' fee: the last total that could have been
    /// honoured. INVARIANT: a ruined Hermes has no `free`: nothing is settled out of turn.
    function _ruin(address hermesId, Hermes storage h) private {
        uint256 assets = uint256(h.free) + h.collateral;
        uint256 honoured = (uint256(h.inflow) - h.free + assets) * 10_000 / (10_000 - h.feeBps);
        uint40 filedUntil = uint40(block.timestamp) + SETTLEMENT_WINDOW;
        h.state = State.Ruined;
        (h.inflow, h.collateral, h.free) = (h.inflow - h.free, _u96(assets), 0);
        (h.requested, h.unlockAt, h.insolventAt) = (0, 0, 0);
        Ruin storage ruin = _ruins[hermesId];
        ruin.coveredUpTo = uint96(_min(honoured, type(uint96).max));
        ruin.filedUntil = filedUntil;
        emit Ruined(hermesId, filedUntil, assets);
    }
}
