// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Backing} from "./Backing.sol";
import {IERC20, SafeToken} from "./SafeToken.sol";
import {Signature} from "./Signature.sol";

/// Payees' money: settlements one by one, in batches, and as credit. It refuses to advance a payee's total without the payee:
/// its own transaction, its signature for this one settlement, or its mandate, which names a caller, methods and a last day.
///
/// `free` pays at once. Collateral pays at once too, as long as no receipt has shown what the Hermes owes; afterwards a promise
/// without a receipt reaches only what is left above that, so that a straw payee cannot carry off what others earned.
abstract contract Earnings is Backing {
    using SafeToken for IERC20;

    /// What the payee of a relayed settlement agrees to: who may send it, where the money goes, the most it may cost.
    bytes32 private constant SETTLE_CONSENT = keccak256(
        "SettleConsent(address payee,address hermes,address caller,address beneficiary,uint256 amount,uint256 maxFee,uint256 deadline)"
    );
    /// What a payee agrees to for all its settlements until a day: by which caller, in which ways.
    bytes32 private constant SETTLE_MANDATE = keccak256(
        "SettleMandate(address payee,address hermes,address caller,uint256 methods,uint256 untilDay,uint256 nonce,uint256 deadline)"
    );
    /// Many totals under one signature of the operator.
    bytes32 private constant SETTLE_SHEET = keccak256("SettleSheet(address hermes,bytes rows)");

    /// Methods of a mandate: tokens to the payee's own address, and credit that stays here until the payee takes it.
    uint256 private constant PAY_OUT = 1;
    uint256 private constant CREDIT = 2;

    /// Where the members of a `Provider` begin in its slot; batches read and write it as one word.
    uint256 private constant CREDIT_AT = 96;
    uint256 private constant METHODS_AT = 208;
    uint256 private constant MANDATE_AT = 210;
    uint256 private constant MANDATE_MASK = type(uint32).max >> 2;
    uint256 private constant UNTIL_AT = 240;

    /// A row of `settleMany`: payee 20 ‖ amount 12 ‖ R 32 ‖ the operator's signature 65.
    uint256 private constant ROW = 129;
    /// A row of `settleSheet`: payee 20 ‖ amount 12.
    uint256 private constant SHEET_ROW = 32;

    mapping(address caller => uint32 number) public callerNumber;
    mapping(address identity => uint256 nonce) public nonces;
    uint32 private _callers;

    event CallerRegistered(address indexed caller, uint32 number);
    event MandateChanged(
        address indexed payee, address indexed hermes, address indexed caller, uint256 methods, uint16 untilDay
    );
    /// `amountPaid` is by how much the settled total advanced; the beneficiary got it less the Hermes' fee.
    event Settled(
        address indexed payee, address indexed hermes, uint256 amountPaid, uint256 totalSettled, bytes32 R
    );
    /// Out of what a settlement brought, to whom the payee let send it.
    event Relayed(address indexed payee, address indexed caller, uint256 fee);
    /// Which payees and totals is in the call's rows; `amountPaid` is the sum of all steps.
    event SheetSettled(
        address indexed hermes, address indexed caller, uint256 method, bytes32 rowsHash, uint256 amountPaid
    );
    event CreditWithdrawn(address indexed payee, address indexed hermes, address beneficiary, uint256 amount);

    error FeeAboveConsent(uint256 fee, uint256 maxFee);
    error FeeAboveAmount(uint256 fee, uint256 amount);
    error UnknownCaller(address caller);
    error UnknownMethods(uint256 methods);

    // ---------------------------------------------------------------------------------------------- one by one

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
        paid = _settle(id, msg.sender, hermesId, amount, 0, R, beneficiary, false);
    }

    /// The everyday settlement in the fewest bytes: the payee's own, to its own address, a promise without a fee, the
    /// signature in two words (EIP-2098). (Its name has a small selector: selectors are compared in order.)
    function settleSingle(address hermesId, uint256 amount, bytes32 R, bytes32 r, bytes32 vs) external returns (uint256 paid) {
        bytes32 id = _accountId(msg.sender, hermesId);
        _ofOperator(_hermes[hermesId], Signature.compactSigner(promiseDigest(id, amount, 0, R), r, vs));
        paid = _settle(id, msg.sender, hermesId, amount, 0, R, msg.sender, false);
    }

    /// The payee's own settlement, with the receipt that came with the promise. It reaches all the collateral of a Hermes that
    /// can pay all that it is proven to owe; the receipt itself counts as a proof.
    function settleWithReceipt(
        uint256 amount,
        bytes32 R,
        bytes calldata hermesSig,
        address beneficiary,
        Receipt calldata receipt,
        bytes calldata receiptSig
    ) external returns (uint256 paid) {
        address hermesId = receipt.hermes;
        bytes32 id = _accountId(msg.sender, hermesId);
        bytes32 digest = promiseDigest(id, amount, 0, R);
        _promisedByHermes(hermesId, digest, hermesSig);
        if (receipt.channel != id || receipt.promiseHash != digest) revert ReceiptOfAnother(receipt.promiseHash);
        _prove(_hermes[hermesId], receipt, receiptSig);
        paid = _settle(id, msg.sender, hermesId, amount, 0, R, beneficiary, true);
    }

    /// Sent by a caller that the payee named. The promise's fee, at most `maxFee`, goes to that caller, and then the whole
    /// promise is paid or nothing is: a consent must not earn its fee twice.
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
        if (fee > maxFee) revert FeeAboveConsent(fee, maxFee); //@guard fee-cap
        _agreed(
            payee,
            deadline,
            keccak256(
                abi.encode(
                    SETTLE_CONSENT,
                    payee,
                    hermesId,
                    msg.sender, //@guard fee-to-named-caller
                    //@weak fee-to-named-caller: beneficiary,
                    beneficiary,
                    amount,
                    maxFee,
                    deadline
                )
            ),
            payeeSig
        );
        bytes32 id = _accountId(payee, hermesId);
        _promisedByHermes(hermesId, promiseDigest(id, amount, fee, R), hermesSig);
        paid = _settle(id, payee, hermesId, amount, fee, R, beneficiary, false);
    }

    // ---------------------------------------------------------------------------------------------- in batches

    /// A caller that payees shall be able to name in a mandate needs a number, which is shorter than its address.
    function registerCaller() external returns (uint32 number) {
        number = callerNumber[msg.sender];
        if (number != 0) return number;
        number = ++_callers;
        // Two bits of a mandate are its methods.
        if (number > type(uint32).max >> 2) revert AmountTooLarge(number);
        callerNumber[msg.sender] = number;
        emit CallerRegistered(msg.sender, number);
    }

    /// The payee lets a caller settle for it, without a fee, to nobody but itself, through the last second of a day (days since
    /// 1970, UTC). No methods, or a day that is over, takes the mandate back.
    function giveMandate(address hermesId, address caller, uint256 methods, uint16 untilDay) external {
        _giveMandate(msg.sender, hermesId, caller, methods, untilDay);
    }

    function giveMandateBySig(
        address payee,
        address hermesId,
        address caller,
        uint256 methods,
        uint16 untilDay,
        uint256 deadline,
        bytes calldata sig
    ) external {
        uint256 nonce = nonces[payee];
        _agreed(
            payee,
            deadline,
            keccak256(abi.encode(SETTLE_MANDATE, payee, hermesId, caller, methods, untilDay, nonce, deadline)),
            sig
        );
        _giveMandate(payee, hermesId, caller, methods, untilDay);
    }

    /// Ordinary promises without a fee of one Hermes to many payees, each with its own signature of the operator. Rows that are
    /// settled already, or not mandated to this caller, are passed over: nobody can make a batch fail by being faster.
    /// A wrong signature ends the whole call. `method` says where all of the money goes.
    function settleMany(address hermesId, uint256 method, bytes calldata rows) external returns (uint256 paid) {
        if (rows.length == 0 || rows.length % ROW != 0) revert RowsMalformed(rows.length);
        Batch memory batch = _begin(hermesId, method, rows.length / ROW);
        for (uint256 i = 0; i < rows.length; i += ROW) {
            bytes calldata row = rows[i:i + ROW];
            address payee = address(bytes20(row[:20]));
            uint256 amount = uint96(bytes12(row[20:32]));
            bytes32 R = bytes32(row[32:64]);
            bytes32 id = _accountId(payee, hermesId);
            address signer = Signature.signer(promiseDigest(id, amount, 0, R), row[64:]);
            if (signer != batch.operator) _ofOperator(_hermes[hermesId], signer);
            uint256 step = _advance(batch, id, payee, amount);
            if (step != 0) emit Settled(payee, hermesId, step, amount, R);
        }
        _finish(hermesId, batch);
        paid = batch.paid;
    }

    /// Many totals under one signature of the operator over all rows. Otherwise as `settleMany`; there is no R to publish, so
    /// one event stands for all.
    function settleSheet(address hermesId, uint256 method, bytes calldata rows, bytes calldata sig)
        external
        returns (uint256 paid)
    {
        if (rows.length == 0 || rows.length % SHEET_ROW != 0) revert RowsMalformed(rows.length);
        bytes32 rowsHash = keccak256(rows);
        _promisedByHermes(hermesId, _typed(keccak256(abi.encode(SETTLE_SHEET, hermesId, rowsHash))), sig);
        Batch memory batch = _begin(hermesId, method, rows.length / SHEET_ROW);
        unchecked {
            for (uint256 i = 0; i < rows.length; i += SHEET_ROW) {
                uint256 row;
                assembly ("memory-safe") {
                    row := calldataload(add(rows.offset, i))
                }
                address payee = address(uint160(row >> 96));
                _advance(batch, _accountId(payee, hermesId), payee, uint96(row));
            }
        }
        _finish(hermesId, batch);
        paid = batch.paid;
        emit SheetSettled(hermesId, msg.sender, method, rowsHash, paid);
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

    // ------------------------------------------------------------------------------------------------- private

    /// A batch while its rows are read. `mandate` is what a payee's slot must hold above its methods.
    struct Batch {
        address operator;
        uint256 feeBps;
        uint256 method;
        uint256 mandate;
        uint256 today;
        uint256 paid;
        uint256 leaves;
        uint256 count;
        uint256[] due;
    }

    function _begin(address hermesId, uint256 method, uint256 most) private view returns (Batch memory batch) {
        if (method != PAY_OUT && method != CREDIT) revert UnknownMethods(method);
        Hermes storage h = _unruined(hermesId);
        (batch.operator, batch.feeBps, batch.method) = (h.operator, h.feeBps, method);
        // An account without a mandate has number 0 and no methods, so number 0 settles for nobody.
        batch.mandate = callerNumber[msg.sender];
        batch.today = block.timestamp / 1 days;
        if (method == PAY_OUT) batch.due = new uint256[](most);
    }

    /// One row: the payee's total, and what is to leave for it. Nothing is transferred before every row has been read.
    function _advance(Batch memory batch, bytes32 id, address payee, uint256 amount) private returns (uint256 step) {
        Provider storage p = _providers[id];
        uint256 word;
        assembly ("memory-safe") {
            word := sload(p.slot)
        }
        uint256 settled = uint96(word);
        if (amount <= settled) return 0;
        bool mandated = payee == msg.sender;
        if (!mandated) {
            mandated = (word >> MANDATE_AT) & MANDATE_MASK == batch.mandate && word >> METHODS_AT & batch.method != 0
                && batch.today <= word >> UNTIL_AT //@guard mandate-end
            ;
        }
        //@weak payee-authority: mandated = true;
        if (!mandated) return 0;
        unchecked {
            // INVARIANT: settled < amount < 2^96; a rate is at most a fifth.
            step = amount - settled;
            uint256 due = step - step * batch.feeBps / 10_000;
            word += step;
            batch.paid += step;
            batch.leaves += due;
            if (batch.method == CREDIT) {
                if (uint256(uint96(word >> CREDIT_AT)) + due > type(uint96).max) revert AmountTooLarge(due);
                word += due << CREDIT_AT;
            } else {
                batch.due[batch.count++] = uint256(uint160(payee)) << 96 | due;
            }
        }
        assembly ("memory-safe") {
            sstore(p.slot, word)
        }
    }

    function _finish(address hermesId, Batch memory batch) private {
        if (batch.paid == 0) revert AccountEmpty();
        Hermes storage h = _hermes[hermesId];
        uint256 most = uint256(h.free) + _reach(h, batch.leaves, false);
        if (batch.leaves > most) revert HermesInsolvent(most, batch.leaves);
        _draw(h, batch.leaves);
        for (uint256 i = 0; i < batch.count; ++i) {
            token.safeTransfer(address(uint160(batch.due[i] >> 96)), uint96(batch.due[i]));
        }
    }

    function _giveMandate(address payee, address hermesId, address caller, uint256 methods, uint16 untilDay) private {
        if (methods > (PAY_OUT | CREDIT)) revert UnknownMethods(methods);
        uint32 number = callerNumber[caller];
        if (number == 0) revert UnknownCaller(caller);
        nonces[payee] += 1; //@guard mandate-nonce
        Provider storage p = _providers[_accountId(payee, hermesId)];
        p.mandate = number << 2 | uint32(methods);
        p.untilDay = untilDay;
        emit MandateChanged(payee, hermesId, caller, methods, untilDay);
    }

    function _settle(
        bytes32 id,
        address payee,
        address hermesId,
        uint256 amount,
        uint256 fee,
        bytes32 R,
        address beneficiary,
        bool withReceipt
    ) private returns (uint256 paid) {
        if (beneficiary == address(0)) revert ZeroAddress();
        Provider storage p = _providers[id];
        (uint256 settled, uint256 feeBps) = (p.settled, p.ratePlusOne);
        if (amount <= settled) revert NothingOwed(amount, settled);

        Hermes storage h = _hermes[hermesId];
        if (feeBps == 0) {
            feeBps = uint256(h.feeBps) + 1;
            p.ratePlusOne = uint16(feeBps);
        }
        feeBps -= 1;
        //@weak fee-rate: feeBps = h.feeBps;
        uint256 due;
        (paid, due) = _take(hermesId, h, amount - settled, fee, feeBps, withReceipt);
        settled = _u96(settled + paid);
        p.settled = uint96(settled); //@guard settled-advances
        if (beneficiary == address(this)) p.credit = _u96(p.credit + due);
        emit Settled(payee, hermesId, paid, settled, R);

        if (beneficiary != address(this)) token.safeTransfer(beneficiary, due);
        if (fee != 0) {
            token.safeTransfer(msg.sender, fee);
            emit Relayed(payee, msg.sender, fee);
        }
    }

    /// Pays up to `owed` out of a Hermes: free first, then collateral. Its own fee stays in free, rounded down.
    /// `due` is what is left for the beneficiary.
    function _take(address hermesId, Hermes storage h, uint256 owed, uint256 fee, uint256 feeBps, bool withReceipt)
        private
        returns (uint256 paid, uint256 due)
    {
        uint256 most = h.free;
        if (owed > most) {
            if (h.state == State.Ruined) revert HermesRuined(hermesId);
            most += _reach(h, owed, withReceipt);
        }
        paid = _min(owed, most);
        if (paid == 0 || (fee != 0 && paid < owed)) revert HermesInsolvent(most, owed);
        uint256 leaves = paid - paid * feeBps / 10_000;
        if (fee > leaves) revert FeeAboveAmount(fee, leaves);
        _draw(h, leaves);
        due = leaves - fee;
    }

    /// How much of the collateral may pay now. Where nothing is proven: all. A holder with a receipt reaches all that a Hermes
    /// has which can pay all that is proven; others what is left above that. INVARIANT: no more than the collateral.
    function _reach(Hermes storage h, uint256 owed, bool withReceipt) private view returns (uint256) {
        if (owed <= h.free) return 0;
        uint256 collateral = h.collateral;
        if (h.proven == 0) return collateral;
        uint256 liabilities = _liabilities(h);
        if (withReceipt) return liabilities <= h.free + collateral ? collateral : 0;
        collateral -= _min(collateral, liabilities); //@guard guarded-collateral
        return collateral;
    }

    /// INVARIANT: `leaves` is at most free and what `_reach` allowed. What collateral gives goes through `free`, so that
    /// `inflow - free` stays the sum of all that was paid.
    function _draw(Hermes storage h, uint256 leaves) private {
        uint256 free = h.free;
        if (leaves <= free) {
            unchecked {
                h.free = uint96(free - leaves);
            }
            return;
        }
        uint256 more = leaves - free;
        h.free = 0;
        h.inflow = _u96(h.inflow + more);
        h.collateral = uint96(h.collateral - more);
    }
}
