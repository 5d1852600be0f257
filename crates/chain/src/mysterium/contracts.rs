//! The interfaces of the deployed contracts and calldata for them from JSON arguments. It refuses arguments of the wrong type
//! rather than guess.

use alloy::dyn_abi::{DynSolType, DynSolValue, JsonAbiExt, Specifier};
use alloy::json_abi::{Function, JsonAbi};
use alloy::primitives::{B256, Bytes, U256, hex};
use serde_json::Value;

// What the contracts' public interface says, written down from their selectors; none of their code.
alloy::sol! {
    #![sol(abi, all_derives)]

    interface Registry {
        function initialize(address token, address dex, uint256 minimalHermesStake, address channelImplementation, address hermesImplementation, address parentRegistry) external;
        function registerIdentity(address hermes, uint256 stake, uint256 fee, address beneficiary, bytes signature) external;
        function openConsumerChannel(address hermes, uint256 fee, bytes signature) external;
        function openConsumerChannel(address identity, address hermes) external;
        function setBeneficiary(address identity, address beneficiary, bytes signature) external;
        function registerHermes(address operator, uint256 stake, uint16 fee, uint256 minStake, uint256 maxStake, bytes url) external;
        function updateHermesURL(address hermes, bytes url, bytes signature) external;
        function setImplementations(address channelImplementation, address hermesImplementation) external;
        function setMinimalHermesStake(uint256 stake) external;
        function transferCollectedFeeTo(address beneficiary) external;
        function getChannelAddress(address identity, address hermes) external view returns (address);
        function getHermesAddress(address operator) external view returns (address);
        function getHermesAddress(address operator, uint256 version) external view returns (address);
        function getHermes(address hermes) external view returns (address operator, uint256 version, bytes24 stake, bytes url);
        function getHermesURL(address hermes) external view returns (bytes);
        function isHermes(address hermes) external view returns (bool);
        function isRegistered(address identity) external view returns (bool);
        function isChannelOpened(address identity, address hermes) external view returns (bool);
        function getBeneficiary(address identity) external view returns (address);
        function lastNonce() external view returns (uint256);
        function getLastImplVer() external view returns (uint256);
        function getChannelImplementation(uint256 version) external view returns (address);
        function getHermesImplementation(uint256 version) external view returns (address);
        function getProxyCode(address implementation) external view returns (bytes);
        function parentRegistry() external view returns (address);
        function minimalHermesStake() external view returns (uint256);
        function token() external view returns (address);
        function dex() external view returns (address);

        event RegisteredIdentity(address indexed identity, address beneficiary);
        event ConsumerChannelCreated(address indexed identity, address indexed hermes, address channel);
        event BeneficiaryChanged(address indexed identity, address beneficiary);
        event RegisteredHermes(address indexed hermes, address operator, bytes url);
        event HermesURLUpdated(address indexed hermes, bytes url);
    }

    interface HermesImplementation {
        function settlePromise(address identity, uint256 amount, uint256 fee, bytes32 preimage, bytes signature) external;
        function settleWithBeneficiary(address identity, uint256 amount, uint256 fee, bytes32 preimage, bytes signature, address beneficiary, bytes beneficiarySignature) external;
        function settleWithDEX(address identity, uint256 amount, uint256 fee, bytes32 preimage, bytes signature) external;
        function settleIntoStake(address identity, uint256 amount, uint256 fee, bytes32 preimage, bytes signature) external;
        function payAndSettle(address identity, uint256 amount, uint256 fee, bytes32 preimage, bytes signature, address beneficiary, bytes beneficiarySignature) external;
        function openChannel(address identity, uint256 stake) external;
        function increaseStake(bytes32 channel, uint256 amount) external;
        function decreaseStake(address identity, uint256 amount, uint256 fee, bytes signature) external;
        function resolveEmergency() external;
        function withdraw(address beneficiary, uint256 amount) external;
        function setHermesFee(uint16 fee) external;
        function setMinStake(uint256 stake) external;
        function setMaxStake(uint256 stake) external;
        function increaseHermesStake(uint256 amount) external;
        function pauseChannelOpening() external;
        function activateChannelOpening() external;
        function closeHermes() external;
        function getStakeBack(address beneficiary) external;
        function channels(bytes32 channel) external view returns (uint256 settled, uint256 stake, uint256 lastUsedNonce, uint256 timelock);
        function validatePromise(bytes32 channel, uint256 amount, uint256 fee, bytes32 preimage, bytes signature) external view returns (bool);
        function availableBalance() external view returns (uint256);
        function minimalExpectedBalance() external view returns (uint256);
        function getActiveFee() external view returns (uint256);
        function calculateHermesFee(uint256 amount) external view returns (uint256);
        function lastFee() external view returns (uint16 value, uint64 validFrom);
        function previousFee() external view returns (uint16 value, uint64 validFrom);
        function getStatus() external view returns (uint8);
        function isHermesActive() external view returns (bool);
        function getOperator() external view returns (address);
        function getHermesStake() external view returns (uint256);
        function getStakeThresholds() external view returns (uint256 least, uint256 most);
        function punishment() external view returns (uint256 activationTime, uint256 amount);
        function getRegistry() external view returns (address);
        function getChannelId(address identity) external view returns (bytes32);
        function getChannelId(address identity, string kind) external view returns (bytes32);
        function isChannelOpened(bytes32 channel) external view returns (bool);

        event PromiseSettled(address indexed identity, bytes32 indexed channel, address indexed beneficiary, uint256 sent, uint256 fees, bytes32 lock);
        event NewStake(bytes32 indexed channel, uint256 stake);
        event FundsWithdrawned(uint256 amount, address beneficiary);
        event HermesFeeUpdated(uint16 fee, uint64 validFrom);
        event HermesClosed(uint256 at);
        event HermesPunishmentActivated(uint256 at);
    }

    interface ChannelImplementation {
        function settlePromise(uint256 amount, uint256 fee, bytes32 preimage, bytes signature) external;
        function fastExit(uint256 amount, uint256 fee, address beneficiary, uint256 validUntil, bytes operatorSignature, bytes signature) external;
        function requestExit(address beneficiary, uint256 validUntil, bytes signature) external;
        function finalizeExit() external;
        function setFundsDestination(address destination) external;
        function setFundsDestinationByCheque(address destination, bytes signature) external;
        function claimTokens(address token) external;
        function hermes() external view returns (address operator, address contractAddress, uint256 settled);
        function operator() external view returns (address);

        event PromiseSettled(address beneficiary, uint256 amount, uint256 totalSettled, bytes32 lock);
        event Withdraw(address beneficiary, uint256 amount);
    }

    interface Erc20 {
        function balanceOf(address account) external view returns (uint256);

        event Transfer(address indexed from, address indexed to, uint256 value);
    }
}

/// Why there is no calldata.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CalldataError {
    /// Only three contracts are known.
    #[error("unknown contract {0:?}: Registry, HermesImplementation or ChannelImplementation")]
    Contract(String),
    /// The contract has no such function.
    #[error("{contract} has no function {method:?}")]
    Method {
        /// Where it was looked for.
        contract: String,
        /// What was looked for.
        method: String,
    },
    /// A name is not enough.
    #[error("{0} is overloaded: write its full signature, one of {1}")]
    Overloaded(String, String),
    /// Wrong number of arguments.
    #[error("{signature} takes {expected} arguments, {found} were given")]
    Count {
        /// The function.
        signature: String,
        /// What it takes.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// An argument of the wrong type.
    #[error("argument {index} is not of type {kind}: {value}")]
    Argument {
        /// Counted from 0.
        index: usize,
        /// Solidity type.
        kind: String,
        /// What was given.
        value: String,
    },
}

/// Selector and arguments of a call. `method` is a name, or a full signature such as `getChannelId(address,string)`.
///
/// # Errors
/// [`CalldataError`].
pub fn calldata(contract: &str, method: &str, arguments: &[Value]) -> Result<Bytes, CalldataError> {
    let abi = match contract {
        "Registry" => Registry::abi::contract(),
        "HermesImplementation" => HermesImplementation::abi::contract(),
        "ChannelImplementation" => ChannelImplementation::abi::contract(),
        unknown => return Err(CalldataError::Contract(unknown.to_owned())),
    };
    let function = find(&abi, contract, method)?;
    if function.inputs.len() != arguments.len() {
        return Err(CalldataError::Count {
            signature: function.signature(),
            expected: function.inputs.len(),
            found: arguments.len(),
        });
    }
    let mut values = Vec::with_capacity(arguments.len());
    for (index, (input, argument)) in function.inputs.iter().zip(arguments).enumerate() {
        let read = input.resolve().ok().and_then(|kind| read(&kind, argument));
        values.push(read.ok_or_else(|| CalldataError::Argument {
            index,
            kind: input.ty.clone(),
            value: argument.to_string(),
        })?);
    }
    let encoded = function
        .abi_encode_input(&values)
        .expect("number and types were just matched");
    Ok(encoded.into())
}

fn find<'a>(abi: &'a JsonAbi, contract: &str, method: &str) -> Result<&'a Function, CalldataError> {
    let wanted: String = method.chars().filter(|c| !c.is_whitespace()).collect();
    let name = wanted.split('(').next().unwrap_or_default();
    let missing = || CalldataError::Method {
        contract: contract.to_owned(),
        method: method.to_owned(),
    };
    let named = abi.functions.get(name).ok_or_else(missing)?;
    if wanted.contains('(') {
        return named
            .iter()
            .find(|function| function.signature() == wanted)
            .ok_or_else(missing);
    }
    match &named[..] {
        [one] => Ok(one),
        many => {
            let signatures: Vec<String> = many.iter().map(Function::signature).collect();
            Err(CalldataError::Overloaded(
                name.to_owned(),
                signatures.join(", "),
            ))
        }
    }
}

/// A JSON value as a Solidity value; numbers are decimal strings or whole JSON numbers.
fn read(kind: &DynSolType, value: &Value) -> Option<DynSolValue> {
    match kind {
        DynSolType::Uint(bits) => {
            let number = number(value)?;
            (number.bit_len() <= *bits).then_some(DynSolValue::Uint(number, *bits))
        }
        DynSolType::Address => Some(DynSolValue::Address(value.as_str()?.parse().ok()?)),
        DynSolType::Bytes => Some(DynSolValue::Bytes(hex::decode(value.as_str()?).ok()?)),
        DynSolType::FixedBytes(size) => {
            let bytes = hex::decode(value.as_str()?)
                .ok()
                .filter(|bytes| bytes.len() == *size)?;
            Some(DynSolValue::FixedBytes(
                B256::right_padding_from(&bytes),
                *size,
            ))
        }
        DynSolType::Bool => value.as_bool().map(DynSolValue::Bool),
        DynSolType::String => value
            .as_str()
            .map(|text| DynSolValue::String(text.to_owned())),
        // No function of these contracts takes any other type.
        DynSolType::Int(_)
        | DynSolType::Function
        | DynSolType::Array(_)
        | DynSolType::FixedArray(..)
        | DynSolType::Tuple(_) => None,
    }
}

fn number(value: &Value) -> Option<U256> {
    match value {
        Value::Number(number) => number.as_u64().map(U256::from),
        Value::String(text)
            if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            U256::from_str_radix(text, 10).ok()
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            None
        }
    }
}

#[cfg(test)]
mod tests;
