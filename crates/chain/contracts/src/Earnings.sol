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

    /// The number of a mandate to the Hermes itself, whoever its operator is: the largest of thirty bits. It is for CREDIT alone.
    uint32 private constant OPERATOR = (1 << 30) - 1;

    /// Where the members of a `Provider` begin in its slot; what is done every day reads and writes it as one word.
    uint256 private constant CREDIT_AT = 96;
    uint256 private constant RATE_AT = 192;
    uint256 private constant UNTIL_AT = 208;
    uint256 private constant MANDATE_AT = 224;
    /// And `free` in the first slot of a `Hermes`.
    uint256 private constant FREE_AT = 160;

    /// A row of `settleMany`: payee 20 ‖ amount 12 ‖ R 32 ‖ r 32 ‖ vs 32, the operator's signature in two words.
    uint256 private constant ROW = 128;
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
    /// One row of a batch: hermes 20 ‖ total settled 12, and R.
    event PromiseSettled(address indexed payee, bytes32 hermesAndTotal, bytes32 R);
    /// A batch. Which payees and totals is in the call's rows; `amountPaid` is the sum of all steps. `rowsHash` is 0 where each row
    /// has an event of its own.
    event SheetSettled(
        address indexed hermes, address indexed caller, uint256 method, bytes32 rowsHash, uint256 amountPaid
    );
    /// Which payees and totals is in the call's rows; `amount` is the sum of what became credit.
    event Credited(address indexed hermes, uint256 amount);
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

    /// The everyday settlement in the fewest bytes: the payee's own promise, without a fee, paid to its own address. In the first
    /// word: hermes 20 ‖ amount 12; the signature in two words (EIP-2098). (Some names here have small selectors: they are
    /// compared in order.)
    function drawToPayee(uint256 hermesAndAmount, bytes32 R, bytes32 r, bytes32 vs) external {
        _single(hermesAndAmount, R, r, vs, false);
    }

    /// The same, kept here as credit, which is the payee's alone and can be taken out whenever it likes.
    function keepCredit(bytes32 hermesAndAmount, bytes32 R, bytes32 r, bytes32 vs) external {
        _single(uint256(hermesAndAmount), R, r, vs, true);
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
        if (number >= OPERATOR) revert AmountTooLarge(number);
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
        Hermes storage h = _unruined(hermesId);
        Batch memory batch = _begin(h, method);
        (uint256 start, uint256 end) = _promised(h, batch.operator, hermesId, rows);
        uint256 leaves;
        (paid, leaves) = _advance(batch, hermesId, start, end);
        _announce(hermesId, start, end, rows);
        _finish(h, method, paid, leaves, start, end);
        emit SheetSettled(hermesId, msg.sender, method, 0, paid);
    }

    /// Many totals under one signature of the operator over all rows (`SettleSheet`, in two words). In the first word: hermes 20 ‖
    /// method 12. Otherwise as `settleMany`; there is no R to publish, so one event stands for all.
    function settleSheet(bytes32 hermesAndMethod, bytes32 r, bytes32 vs, bytes calldata rows)
        external
        returns (uint256 paid)
    {
        if (rows.length == 0 || rows.length % SHEET_ROW != 0) revert RowsMalformed(rows.length);
        address hermesId = address(bytes20(hermesAndMethod));
        uint256 method = uint96(uint256(hermesAndMethod));
        Hermes storage h = _unruined(hermesId);
        (uint256 start, uint256 end) = (0, 0);
        bytes32 rowsHash;
        assembly ("memory-safe") {
            start := mload(0x40)
            end := add(start, rows.length)
            mstore(0x40, end)
            calldatacopy(start, rows.offset, rows.length)
            rowsHash := keccak256(start, rows.length)
        }
        _ofOperator(h, Signature.compactSigner(_typed(keccak256(abi.encode(SETTLE_SHEET, hermesId, rowsHash))), r, vs));
        Batch memory batch = _begin(h, method);
        uint256 leaves;
        (paid, leaves) = _advance(batch, hermesId, start, end);
        _finish(h, method, paid, leaves, start, end);
        emit SheetSettled(hermesId, msg.sender, method, rowsHash, paid);
    }

    /// The operator's own transaction is its signature: many totals become credit of payees that gave a mandate to the Hermes
    /// itself, whose number is OPERATOR. Otherwise as `settleSheet`. Rows: payee 20 ‖ amount 12.
    function creditTotalsMany(address hermesId, bytes calldata rows) external returns (uint256 leaves) {
        if (rows.length == 0 || rows.length % SHEET_ROW != 0) revert RowsMalformed(rows.length);
        Hermes storage h = _hermes[hermesId];
        uint256 till;
        assembly ("memory-safe") {
            till := sload(h.slot)
        }
        if (msg.sender != address(uint160(till))) _ofOperator(h, msg.sender);
        leaves = _credit(hermesId, h.feeBps, rows);
        if (leaves != 0 && leaves <= till >> FREE_AT) {
            assembly ("memory-safe") {
                sstore(h.slot, sub(till, shl(FREE_AT, leaves)))
            }
        } else {
            _finish(_unruined(hermesId), CREDIT, leaves, leaves, 0, 0);
        }
        emit Credited(hermesId, leaves);
    }

    function withdrawCredit(address hermesId, address beneficiary) external returns (uint256 amount) {
        if (beneficiary == address(0)) revert ZeroAddress();
        Provider storage p = _provider(_accountId(msg.sender, hermesId));
        amount = p.credit;
        if (amount == 0) revert AccountEmpty();
        p.credit = 0;
        token.safeTransfer(beneficiary, amount);
        emit CreditWithdrawn(msg.sender, hermesId, beneficiary, amount);
    }

    // ------------------------------------------------------------------------------------------------- private

    /// What is the same for all rows of a batch. A payee's slot, from MANDATE_AT on and through `mask`, must be `mandate`.
    struct Batch {
        address operator;
        uint256 mandate;
        uint256 mask;
        uint256 today;
        uint256 feeBps;
        /// How far to the left what is due goes in a payee's slot: to its credit, or over the edge.
        uint256 creditAt;
    }

    function _begin(Hermes storage h, uint256 method) private view returns (Batch memory batch) {
        if (method != PAY_OUT && method != CREDIT) revert UnknownMethods(method);
        // An account without a mandate has number 0 and no methods, so number 0 settles for nobody.
        batch.mandate = uint256(callerNumber[msg.sender]) << 2 | method;
        batch.mask = (type(uint32).max - 3) | method;
        batch.today = block.timestamp / 1 days;
        (batch.operator, batch.feeBps) = (h.operator, h.feeBps);
        batch.creditAt = method == CREDIT ? CREDIT_AT : 256;
    }

    /// Every row of `settleMany` is the operator's. Their first words, payee 20 ‖ amount 12, are put into memory from `start` to
    /// `end`.
    function _promised(Hermes storage h, address operator, address hermesId, bytes calldata rows)
        private
        view
        returns (uint256 start, uint256 end)
    {
        (uint256 m, uint256 next, uint256 last, uint256 halfOrder) = (0, 0, 0, Signature.HALF_ORDER);
        assembly ("memory-safe") {
            start := mload(0x40)
            end := start
            next := rows.offset
            last := add(next, rows.length)
            // Behind it all is what a promise hashes, of which chain and fee stay, and what is asked of the precompile.
            m := add(start, shr(2, rows.length))
            mstore(0x40, add(m, 288))
            mstore(m, chainid())
            mstore(add(m, 96), 0)
        }
        while (true) {
            // Goes on as long as the operator signed.
            assembly ("memory-safe") {
                mstore(32, shl(96, hermesId))
                for {} lt(next, last) { next := add(next, 128) } {
                    let row := calldataload(next)
                    mstore(0, calldataload(add(next, 32)))
                    mstore(add(m, 128), keccak256(0, 32))
                    mstore(0, shr(96, row))
                    mstore(add(m, 32), keccak256(12, 40))
                    mstore(add(m, 64), and(row, 0xffffffffffffffffffffffff))
                    mstore(add(m, 160), keccak256(m, 160))
                    let s := calldataload(add(next, 96))
                    mstore(add(m, 192), add(27, shr(255, s)))
                    s := shr(1, shl(1, s))
                    mstore(add(m, 224), calldataload(add(next, 64)))
                    mstore(add(m, 256), s)
                    pop(staticcall(gas(), 1, add(m, 160), 128, 0, 32))
                    if or(xor(mload(0), operator), or(iszero(returndatasize()), gt(s, halfOrder))) { break }
                    mstore(end, row)
                    end := add(end, 32)
                }
            }
            if (next == last) break;
            // Another key of this Hermes, or an error.
            (uint256 odd, bytes32 R, bytes32 r, bytes32 vs) = _row(next);
            bytes32 id = _accountId(address(uint160(odd >> 96)), hermesId);
            _ofOperator(h, Signature.compactSigner(promiseDigest(id, uint96(odd), 0, R), r, vs));
            assembly ("memory-safe") {
                mstore(end, odd)
                end := add(end, 32)
                next := add(next, 128)
            }
        }
    }

    /// For rows of payee 20 ‖ amount 12 in memory: each payee's total advances, and the row becomes payee 20 ‖ due 12, or nothing
    /// where it is passed over. Nothing is transferred before every row has been read.
    /// INVARIANT: credit <= settled < 2^96, as never more becomes due than a total advances by.
    function _advance(Batch memory batch, address hermesId, uint256 start, uint256 end)
        private
        returns (uint256 paid, uint256 leaves)
    {
        (uint256 mandate, uint256 mask, uint256 today) = (batch.mandate, batch.mask, batch.today);
        (uint256 feeBps, uint256 creditAt) = (batch.feeBps, batch.creditAt);
        assembly ("memory-safe") {
            // In the scratch space, as in `_accountId`: payee 20 ‖ hermes 20, of which the second half stays.
            mstore(32, shl(96, hermesId))
            for {} lt(start, end) { start := add(start, 32) } {
                let row := mload(start)
                mstore(0, shr(96, row))
                let slot := keccak256(12, 40)
                let word := sload(slot)
                let step := sub(and(row, 0xffffffffffffffffffffffff), and(word, 0xffffffffffffffffffffffff))
                // A number and a method are equal or they are not: nothing here is an amount.
                // slither-disable-next-line incorrect-equality
                let mandated := eq(and(shr(MANDATE_AT, word), mask), mandate)
                mandated := gt(mandated, lt(and(shr(UNTIL_AT, word), 0xffff), today)) //@guard mandate-end
                mandated := or(mandated, eq(shr(96, row), caller()))
                //@weak payee-authority: mandated := 1
                if iszero(and(sgt(step, 0), mandated)) {
                    mstore(start, 0)
                    continue
                }
                let due := sub(step, div(mul(step, feeBps), 10000))
                sstore(slot, add(word, add(step, shl(creditAt, due))))
                mstore(start, or(shl(96, shr(96, row)), due))
                paid := add(paid, step)
                leaves := add(leaves, due)
            }
        }
    }

    /// `PromiseSettled` for each row of `settleMany` that was not passed over.
    function _announce(address hermesId, uint256 start, uint256 end, bytes calldata rows) private {
        bytes32 settled = PromiseSettled.selector;
        assembly ("memory-safe") {
            let offset := rows.offset
            for {} lt(start, end) { start := add(start, 32) } {
                let row := mload(start)
                if row {
                    mstore(0, or(shl(96, hermesId), shr(160, shl(160, calldataload(offset)))))
                    mstore(32, calldataload(add(offset, 32)))
                    log2(0, 64, settled, shr(96, row))
                }
                offset := add(offset, 128)
            }
        }
    }

    /// As `_advance`, for credits of the operator's own: the mandate is the Hermes', and nothing is kept of the rows.
    function _credit(address hermesId, uint256 feeBps, bytes calldata rows) private returns (uint256 leaves) {
        // What a payee's slot is at least when the Hermes has its mandate today: its number and method are the largest there are.
        uint256 least = (uint256(OPERATOR) << 2 | CREDIT) << MANDATE_AT;
        least |= (block.timestamp / 1 days) << UNTIL_AT; //@guard mandate-end
        //@weak payee-authority: least = 0;
        assembly ("memory-safe") {
            mstore(32, shl(96, hermesId))
            let start := rows.offset
            let end := add(start, rows.length)
            for {} lt(start, end) { start := add(start, 32) } {
                let row := calldataload(start)
                mstore(0, shr(96, row))
                let slot := keccak256(12, 40)
                let word := sload(slot)
                let step := sub(and(row, 0xffffffffffffffffffffffff), and(word, 0xffffffffffffffffffffffff))
                // Passed over: nothing advances, and the slot is written as it was.
                step := mul(step, gt(sgt(step, 0), lt(word, least)))
                let due := sub(step, div(mul(step, feeBps), 10000))
                leaves := add(leaves, due)
                sstore(slot, add(word, add(step, shl(CREDIT_AT, due))))
            }
        }
    }

    /// Takes what leaves from the Hermes, all of it or nothing, and pays it out unless it became credit.
    function _finish(Hermes storage h, uint256 method, uint256 paid, uint256 leaves, uint256 start, uint256 end) private {
        // A batch in which nothing advanced must fail, so that its sender need not pay for the rest.
        // slither-disable-next-line incorrect-equality
        if (paid == 0) revert AccountEmpty();
        uint256 most = uint256(h.free) + _reach(h, leaves, false);
        if (leaves > most) revert HermesInsolvent(most, leaves);
        _draw(h, leaves);
        if (method == PAY_OUT) token.safeTransfers(start, end);
    }

    /// What `drawToPayee` and `keepCredit` do where nothing is out of the ordinary: `free` pays all of it, from an account that
    /// was settled before. Everything else is `_settle`'s.
    function _single(uint256 hermesAndAmount, bytes32 R, bytes32 r, bytes32 vs, bool kept) private {
        (address hermesId, uint256 amount) = (address(uint160(hermesAndAmount >> 96)), uint96(hermesAndAmount));
        bytes32 id = _accountId(msg.sender, hermesId);
        Hermes storage h = _hermes[hermesId];
        Provider storage p = _provider(id);
        uint256 till;
        uint256 word;
        assembly ("memory-safe") {
            till := sload(h.slot)
            word := sload(p.slot)
        }
        address signer = Signature.compactSigner(promiseDigest(id, amount, 0, R), r, vs);
        if (signer != address(uint160(till))) _ofOperator(h, signer);
        uint256 ratePlusOne = uint16(word >> RATE_AT);
        unchecked {
            // What a total is above by wraps around where it is not above: then it is more than any Hermes has.
            uint256 step = amount - uint96(word);
            if (ratePlusOne == 0 || step == 0 || step > till >> FREE_AT) {
                _settle(id, msg.sender, hermesId, amount, 0, R, kept ? address(this) : msg.sender, false);
                return;
            }
            uint256 due = step - step * (ratePlusOne - 1) / 10_000;
            till -= due << FREE_AT;
            word += step; //@guard settled-advances
            if (kept) word += due << CREDIT_AT;
            assembly ("memory-safe") {
                sstore(h.slot, till)
                sstore(p.slot, word)
            }
            emit Settled(msg.sender, hermesId, step, amount, R);
            if (!kept) token.safeTransfer(msg.sender, due);
        }
    }

    function _giveMandate(address payee, address hermesId, address caller, uint256 methods, uint16 untilDay) private {
        if (methods > (PAY_OUT | CREDIT)) revert UnknownMethods(methods);
        if (caller == hermesId && methods & PAY_OUT != 0) revert UnknownMethods(methods);
        uint32 number = caller == hermesId ? OPERATOR : callerNumber[caller];
        if (number == 0) revert UnknownCaller(caller);
        nonces[payee] += 1; //@guard mandate-nonce
        Provider storage p = _provider(_accountId(payee, hermesId));
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
        Provider storage p = _provider(id);
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
        // A Hermes that can pay nothing is told so; one unit more, from anybody, is one unit paid.
        // slither-disable-next-line incorrect-equality
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
