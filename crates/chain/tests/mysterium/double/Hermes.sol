// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Myst, Signed} from "./Support.sol";

interface IRegistry {
    function isRegistered(address identity) external view returns (bool);
    function getBeneficiary(address identity) external view returns (address);
    function setBeneficiary(address identity, address beneficiary, bytes memory signature) external;
}

/// A Hermes as the documents describe it, third version: settlement to the wei, stakes, fee changes, statuses. Everything that
/// the documents do not state, such as the growth of a punishment after its first hour, is left out.
contract HermesThird {
    enum Status {
        Active,
        Paused,
        Punishment,
        Closed
    }

    struct Fee {
        uint16 value;
        uint64 validFrom;
    }

    struct Account {
        uint256 settled;
        uint256 stake;
        uint256 lastUsedNonce;
        uint256 timelock;
    }

    struct Fine {
        uint256 activationTime;
        uint256 amount;
    }

    /// How a settlement goes.
    struct Way {
        bool free;
        bool intoStake;
        address beneficiary;
    }

    uint256 private constant FEE_DELAY = 3 days;
    uint256 private constant CLOSING = 300 days;
    uint256 private constant MOST_FEE = 5000;

    // Slot 6 is documented; the others are the double's own.
    Myst internal token;
    address public owner;
    IRegistry internal registry;
    address internal operator;
    Status internal status;
    uint256 internal hermesStake;
    Fee public lastFee;
    uint256 internal totalStake;
    Fee public previousFee;
    uint256 internal minStake;
    uint256 internal maxStake;
    uint256 internal closedUntil;
    Fine public punishment;
    mapping(bytes32 => Account) public channels;

    event PromiseSettled(
        address indexed identity,
        bytes32 indexed channelId,
        address indexed beneficiary,
        uint256 amountSentToBeneficiary,
        uint256 fees,
        bytes32 lock
    );
    event NewStake(bytes32 indexed channelId, uint256 stakeAmount);
    event FundsWithdrawned(uint256 amount, address beneficiary);
    event HermesFeeUpdated(uint16 newFee, uint64 validFrom);
    event HermesClosed(uint256 timestamp);
    event HermesPunishmentActivated(uint256 timestamp);

    modifier onlyOwner() {
        require(msg.sender == owner, "double: not the owner");
        _;
    }

    /// By the registry that made this proxy; the stake is sent beside it.
    function initialize(
        address token_,
        address operator_,
        address owner_,
        uint256 stake,
        uint16 fee,
        uint256 minStake_,
        uint256 maxStake_
    ) external {
        require(address(registry) == address(0), "double: initialised");
        require(fee <= MOST_FEE, "double: fee too high");
        registry = IRegistry(msg.sender);
        token = Myst(token_);
        operator = operator_;
        owner = _ownerAtStart(operator_, owner_);
        hermesStake = stake;
        lastFee = Fee(fee, uint64(block.timestamp));
        (minStake, maxStake) = (minStake_, maxStake_);
    }

    function _ownerAtStart(address operator_, address) internal pure virtual returns (address) {
        return operator_;
    }

    // ---------------------------------------------------------------------------------------------- settlement

    function settlePromise(address identity, uint256 amount, uint256 txFee, bytes32 preimage, bytes memory signature)
        external
    {
        require(registry.isRegistered(identity), "double: not registered");
        Way memory way = Way(false, false, registry.getBeneficiary(identity));
        _settle(identity, getChannelId(identity), way, amount, txFee, preimage, signature);
    }

    function settleWithBeneficiary(
        address identity,
        uint256 amount,
        uint256 txFee,
        bytes32 preimage,
        bytes memory signature,
        address beneficiary,
        bytes memory beneficiarySignature
    ) external {
        registry.setBeneficiary(identity, beneficiary, beneficiarySignature);
        Way memory way = Way(false, false, beneficiary);
        _settle(identity, getChannelId(identity), way, amount, txFee, preimage, signature);
    }

    function settleIntoStake(address identity, uint256 amount, uint256 txFee, bytes32 preimage, bytes memory signature)
        external
    {
        require(registry.isRegistered(identity), "double: not registered");
        Way memory way = Way(false, true, address(this));
        _settle(identity, getChannelId(identity), way, amount, txFee, preimage, signature);
    }

    function settleWithDEX(address, uint256, uint256, bytes32, bytes memory) external pure {
        revert("double: no exchange here");
    }

    function payAndSettle(
        address identity,
        uint256 amount,
        uint256 txFee,
        bytes32 preimage,
        bytes memory signature,
        address beneficiary,
        bytes memory beneficiarySignature
    ) external {
        bytes32 channelId = getChannelId(identity, "withdrawal");
        bytes memory wish = abi.encodePacked(block.chainid, channelId, amount, preimage, beneficiary);
        require(Signed.by(wish, beneficiarySignature) == identity, "double: not the identity's wish");
        _settle(identity, channelId, Way(true, false, beneficiary), amount, txFee, preimage, signature);
    }

    function _settle(
        address identity,
        bytes32 channelId,
        Way memory way,
        uint256 amount,
        uint256 txFee,
        bytes32 preimage,
        bytes memory signature
    ) private {
        require(isHermesActive(), "double: not active");
        require(validatePromise(channelId, amount, txFee, preimage, signature), "double: not the operator's promise");
        Account storage account = channels[channelId];
        (uint256 settled, uint256 stake) = (account.settled, account.stake);
        require(settled > 0 || stake >= minStake || way.free || way.intoStake, "double: stake too small");
        uint256 available = availableBalance();
        if (available < stake) _punish();
        uint256 unpaid = amount - settled;
        require(unpaid > txFee, "double: nothing is owed");
        uint256 cap = maxStake > stake ? maxStake : stake;
        if (unpaid > available || unpaid > cap) unpaid = available < cap ? available : cap;
        account.settled = settled + unpaid;
        uint256 kept = way.free ? 0 : calculateHermesFee(unpaid);
        uint256 sent = unpaid - txFee - kept;
        if (txFee > 0) token.transfer(msg.sender, txFee);
        if (way.intoStake) {
            account.stake = stake + sent;
            totalStake += sent;
            emit NewStake(channelId, account.stake);
        } else {
            token.transfer(way.beneficiary, sent);
        }
        emit PromiseSettled(identity, channelId, way.beneficiary, sent, kept + txFee, preimage);
    }

    function _punish() private {
        status = Status.Punishment;
        punishment.activationTime = block.timestamp;
        emit HermesPunishmentActivated(block.timestamp);
    }

    // -------------------------------------------------------------------------------------------------- stakes

    function openChannel(address identity, uint256 stake) external {
        require(msg.sender == address(registry) && status == Status.Active, "double: not now");
        _addStake(getChannelId(identity), stake);
    }

    function increaseStake(bytes32 channelId, uint256 amount) external {
        require(status != Status.Closed, "double: closed");
        _addStake(channelId, amount);
    }

    function _addStake(bytes32 channelId, uint256 amount) private {
        token.transferFrom(msg.sender, address(this), amount);
        channels[channelId].stake += amount;
        totalStake += amount;
        emit NewStake(channelId, channels[channelId].stake);
    }

    function decreaseStake(address identity, uint256 amount, uint256 txFee, bytes memory signature) external {
        bytes32 channelId = getChannelId(identity);
        Account storage account = channels[channelId];
        account.lastUsedNonce += 1;
        bytes memory wish = abi.encodePacked(
            "Stake return request", block.chainid, channelId, amount, txFee, account.lastUsedNonce
        );
        require(Signed.by(wish, signature) == identity, "double: not the identity's wish");
        account.stake -= amount;
        totalStake -= amount;
        if (txFee > 0) token.transfer(msg.sender, txFee);
        token.transfer(registry.getBeneficiary(identity), amount - txFee);
        emit NewStake(channelId, account.stake);
    }

    // --------------------------------------------------------------------------------------------- owner, operator

    function withdraw(address beneficiary, uint256 amount) external onlyOwner {
        require(amount <= availableBalance(), "double: not available");
        token.transfer(beneficiary, amount);
        emit FundsWithdrawned(amount, beneficiary);
    }

    function setHermesFee(uint16 fee) external onlyOwner {
        require(fee <= MOST_FEE, "double: fee too high");
        require(block.timestamp >= lastFee.validFrom, "double: one change at a time");
        previousFee = lastFee;
        lastFee = Fee(fee, uint64(block.timestamp + FEE_DELAY));
        emit HermesFeeUpdated(fee, lastFee.validFrom);
    }

    function setMinStake(uint256 stake) external onlyOwner {
        minStake = stake;
    }

    function setMaxStake(uint256 stake) external onlyOwner {
        maxStake = stake;
    }

    function increaseHermesStake(uint256 amount) external onlyOwner {
        require(status != Status.Closed, "double: closed");
        token.transferFrom(msg.sender, address(this), amount);
        hermesStake += amount;
    }

    function pauseChannelOpening() external {
        require(msg.sender == _pauser() && status == Status.Active, "double: not now");
        status = Status.Paused;
    }

    function activateChannelOpening() external {
        require(msg.sender == _pauser() && status == Status.Paused, "double: not now");
        status = Status.Active;
    }

    function _pauser() internal view virtual returns (address) {
        return owner;
    }

    function closeHermes() external onlyOwner {
        require(isHermesActive(), "double: not active");
        status = Status.Closed;
        closedUntil = block.timestamp + CLOSING;
        emit HermesClosed(block.timestamp);
    }

    function getStakeBack(address beneficiary) external onlyOwner {
        require(status == Status.Closed && block.timestamp >= closedUntil, "double: too early");
        uint256 stake = hermesStake;
        hermesStake = 0;
        token.transfer(beneficiary, stake);
    }

    function resolveEmergency() external {
        require(status == Status.Punishment, "double: no emergency");
        require(token.balanceOf(address(this)) >= minimalExpectedBalance(), "double: still short");
        status = Status.Active;
    }

    // --------------------------------------------------------------------------------------------------- views

    function validatePromise(bytes32 channelId, uint256 amount, uint256 txFee, bytes32 preimage, bytes memory signature)
        public
        view
        returns (bool)
    {
        bytes memory cheque =
            abi.encodePacked(block.chainid, channelId, amount, txFee, keccak256(abi.encodePacked(preimage)));
        return Signed.by(cheque, signature) == operator;
    }

    function minimalExpectedBalance() public view returns (uint256) {
        uint256 held = hermesStake > punishment.amount ? hermesStake : punishment.amount;
        return held + totalStake;
    }

    function availableBalance() public view returns (uint256) {
        uint256 balance = token.balanceOf(address(this));
        uint256 expected = minimalExpectedBalance();
        return balance > expected ? balance - expected : 0;
    }

    function getActiveFee() public view returns (uint256) {
        return block.timestamp >= lastFee.validFrom ? lastFee.value : previousFee.value;
    }

    function calculateHermesFee(uint256 amount) public view returns (uint256) {
        return ((amount * getActiveFee()) / 100 + 99) / 100;
    }

    function getStatus() external view returns (Status) {
        return status;
    }

    function isHermesActive() public view returns (bool) {
        return status == Status.Active || status == Status.Paused;
    }

    function getOperator() external view returns (address) {
        return operator;
    }

    function getHermesStake() external view returns (uint256) {
        return hermesStake;
    }

    function getStakeThresholds() external view returns (uint256, uint256) {
        return (minStake, maxStake);
    }

    function getRegistry() external view returns (address) {
        return address(registry);
    }

    function getChannelId(address identity) public view returns (bytes32) {
        return keccak256(abi.encodePacked(identity, address(this)));
    }

    function getChannelId(address identity, string memory kind) public view returns (bytes32) {
        return keccak256(abi.encodePacked(identity, address(this), kind));
    }

    function isChannelOpened(bytes32 channelId) external view returns (bool) {
        return channels[channelId].settled != 0 || channels[channelId].stake != 0;
    }
}

/// The first and second version: the owner is whoever registered, and the operator pauses.
contract HermesFirst is HermesThird {
    function _ownerAtStart(address, address owner_) internal pure override returns (address) {
        return owner_;
    }

    function _pauser() internal view override returns (address) {
        return operator;
    }
}
