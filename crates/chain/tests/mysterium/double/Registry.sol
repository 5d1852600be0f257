// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Myst, Proxy, Signed} from "./Support.sol";
import {ChannelThird} from "./Channel.sol";
import {HermesThird} from "./Hermes.sol";

/// The root registry as the documents describe it: identities with beneficiaries, channels and Hermes as CREATE2 proxies whose
/// implementation is fixed when a Hermes registers. It has no parent, so views that would ask one revert.
contract Registry {
    struct Implementations {
        address channel;
        address hermes;
    }

    struct Entry {
        address operator;
        uint256 implVer;
        function() external view returns (uint256) stake;
        bytes url;
    }

    address public owner = msg.sender;
    address public token;
    address public dex;
    address public parentRegistry;
    uint256 public minimalHermesStake;
    uint256 public lastNonce;
    Implementations[] private implementations;
    mapping(address => Entry) private hermeses;
    mapping(address => address) private beneficiaries;

    event RegisteredIdentity(address indexed identity, address beneficiary);
    event ConsumerChannelCreated(address indexed identity, address indexed hermesId, address channelAddress);
    event BeneficiaryChanged(address indexed identity, address newBeneficiary);
    event RegisteredHermes(address indexed hermesId, address hermesOperator, bytes url);
    event HermesURLUpdated(address indexed hermesId, bytes newURL);

    modifier onlyOwner() {
        require(msg.sender == owner, "double: not the owner");
        _;
    }

    function initialize(
        address token_,
        address dex_,
        uint256 minimalHermesStake_,
        address channelImplementation,
        address hermesImplementation,
        address parent
    ) external onlyOwner {
        require(token == address(0), "double: initialised");
        (token, dex, minimalHermesStake, parentRegistry) = (token_, dex_, minimalHermesStake_, parent);
        implementations.push(Implementations(channelImplementation, hermesImplementation));
    }

    // ---------------------------------------------------------------------------------------------- identities

    /// The identity is whoever signed: a bent message registers a stranger.
    function registerIdentity(address hermes, uint256 stake, uint256 txFee, address beneficiary, bytes memory signature)
        external
    {
        bytes memory wish = abi.encodePacked(block.chainid, address(this), hermes, stake, txFee, beneficiary);
        address identity = Signed.by(wish, signature);
        require(identity != address(0), "double: nobody signed");
        require(isHermes(hermes) && uint256(HermesThird(hermes).getStatus()) == 0, "double: no active Hermes");
        address channel = _open(identity, hermes, stake + txFee);
        if (beneficiary == address(0)) beneficiary = channel;
        beneficiaries[identity] = beneficiary;
        if (stake > 0) {
            Myst(token).approve(hermes, stake);
            HermesThird(hermes).openChannel(identity, stake);
        }
        if (txFee > 0) Myst(token).transfer(msg.sender, txFee);
        emit RegisteredIdentity(identity, beneficiary);
    }

    function openConsumerChannel(address hermes, uint256 txFee, bytes memory signature) external {
        bytes memory wish = abi.encodePacked(block.chainid, address(this), hermes, txFee);
        address identity = Signed.by(wish, signature);
        require(identity != address(0), "double: nobody signed");
        require(isHermes(hermes), "double: no Hermes");
        address channel = _open(identity, hermes, txFee);
        if (beneficiaries[identity] == address(0)) {
            beneficiaries[identity] = channel;
            emit RegisteredIdentity(identity, channel);
        }
        if (txFee > 0) Myst(token).transfer(msg.sender, txFee);
    }

    function openConsumerChannel(address, address) external pure {
        revert("double: not on the root");
    }

    function _open(address identity, address hermes, uint256 due) private returns (address channel) {
        channel = Proxy.make(_salt(identity, hermes), implementations[hermeses[hermes].implVer].channel);
        ChannelThird(channel).initialize(token, identity, hermeses[hermes].operator, hermes, due);
        emit ConsumerChannelCreated(identity, hermes, channel);
    }

    function setBeneficiary(address identity, address beneficiary, bytes memory signature) external {
        lastNonce += 1;
        bytes memory wish = abi.encodePacked(block.chainid, address(this), identity, beneficiary, lastNonce);
        require(isRegistered(identity), "double: not registered");
        require(Signed.by(wish, signature) == identity, "double: not the identity's wish");
        beneficiaries[identity] = beneficiary;
        emit BeneficiaryChanged(identity, beneficiary);
    }

    // -------------------------------------------------------------------------------------------------- Hermes

    function registerHermes(
        address operator,
        uint256 stake,
        uint16 fee,
        uint256 minStake,
        uint256 maxStake,
        bytes memory url
    ) external {
        require(stake >= minimalHermesStake, "double: stake too small");
        uint256 version = implementations.length - 1;
        address hermes = Proxy.make(bytes32(uint256(uint160(operator))), implementations[version].hermes);
        HermesThird(hermes).initialize(token, operator, msg.sender, stake, fee, minStake, maxStake);
        Myst(token).transferFrom(msg.sender, hermes, stake);
        hermeses[hermes] = Entry(operator, version, HermesThird(hermes).getHermesStake, url);
        emit RegisteredHermes(hermes, operator, url);
    }

    function updateHermesURL(address hermes, bytes memory url, bytes memory signature) external {
        bytes memory wish = abi.encodePacked(address(this), hermes, url, lastNonce++);
        require(isHermes(hermes) && Signed.by(wish, signature) == hermeses[hermes].operator, "double: not the operator");
        hermeses[hermes].url = url;
        emit HermesURLUpdated(hermes, url);
    }

    // --------------------------------------------------------------------------------------------------- owner

    function setImplementations(address channelImplementation, address hermesImplementation) external onlyOwner {
        implementations.push(Implementations(channelImplementation, hermesImplementation));
    }

    function setMinimalHermesStake(uint256 stake) external onlyOwner {
        minimalHermesStake = stake;
    }

    function transferCollectedFeeTo(address beneficiary) external onlyOwner {
        Myst(token).transfer(beneficiary, Myst(token).balanceOf(address(this)));
    }

    // --------------------------------------------------------------------------------------------------- views

    function getChannelAddress(address identity, address hermes) public view returns (address) {
        return Proxy.place(_salt(identity, hermes), implementations[hermeses[hermes].implVer].channel);
    }

    function getHermesAddress(address operator) external view returns (address) {
        return getHermesAddress(operator, implementations.length - 1);
    }

    function getHermesAddress(address operator, uint256 version) public view returns (address) {
        return Proxy.place(bytes32(uint256(uint160(operator))), implementations[version].hermes);
    }

    function getHermes(address hermes) public view returns (Entry memory) {
        // A registry with a parent would ask it; the root has none to ask.
        if (!isHermes(hermes)) return Registry(parentRegistry).getHermes(hermes);
        return hermeses[hermes];
    }

    function getHermesURL(address hermes) external view returns (bytes memory) {
        return hermeses[hermes].url;
    }

    function isHermes(address hermes) public view returns (bool) {
        return hermeses[hermes].operator != address(0);
    }

    function isRegistered(address identity) public view returns (bool) {
        return beneficiaries[identity] != address(0);
    }

    function isChannelOpened(address identity, address hermes) external view returns (bool) {
        if (getChannelAddress(identity, hermes).code.length != 0) return true;
        return Registry(parentRegistry).isChannelOpened(identity, hermes);
    }

    function getBeneficiary(address identity) external view returns (address) {
        return beneficiaries[identity];
    }

    function getLastImplVer() external view returns (uint256) {
        return implementations.length - 1;
    }

    function getChannelImplementation(uint256 version) external view returns (address) {
        return implementations[version].channel;
    }

    function getHermesImplementation(uint256 version) external view returns (address) {
        return implementations[version].hermes;
    }

    function getProxyCode(address implementation) external pure returns (bytes memory) {
        return Proxy.code(implementation);
    }

    function _salt(address identity, address hermes) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(identity, hermes));
    }
}
