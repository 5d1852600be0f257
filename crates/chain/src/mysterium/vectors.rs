//! Payment operations as JSON: one request object in, one answer object out. It is how this implementation is compared with
//! others. Numbers are decimal strings, bytes 0x-hex. It refuses nothing loudly: what cannot be done answers `{"error": …}`.

use alloy::primitives::{Address, B256, U256, hex, keccak256};
use serde_json::{Map, Value, json};
use wayfare_identity::{LocalSigner, SecretKey, Signature, Signer};
use wayfare_payment::{
    AgreementId, Amount, ChannelId, ExchangeMessage, Hashlock, Preimage, Promise,
};

use super::{
    Message, calldata, channel_address, hermes_address, http_authorization, open_recovery,
    withdrawal_channel,
};

/// Answers one request, bare or wrapped as `{"request": {…}}`.
#[must_use]
pub fn answer(item: &Value) -> Value {
    let request = item.get("request").unwrap_or(item);
    let Some(fields) = request.as_object() else {
        return json!({ "error": "a request is a JSON object" });
    };
    perform(&Request(fields)).unwrap_or_else(|why| json!({ "error": why }))
}

fn perform(request: &Request<'_>) -> Result<Value, String> {
    match request.text("op")? {
        "address" => Ok(json!({ "address": request.signer()?.address() })),
        "channel_address" => {
            let [registry, identity, hermes] =
                request.addresses(["registry", "identity", "hermes"])?;
            let address =
                channel_address(registry, identity, hermes, request.address("channel_impl")?);
            Ok(json!({ "address": address }))
        }
        "hermes_address" => {
            let [registry, operator, code] =
                request.addresses(["registry", "operator", "hermes_impl"])?;
            Ok(json!({ "address": hermes_address(registry, operator, code) }))
        }
        "provider_channel_id" => {
            let [identity, hermes] = request.addresses(["identity", "hermes"])?;
            let channel = match request.optional_text("kind")? {
                "" => ChannelId::of_provider(identity, hermes),
                "withdrawal" => withdrawal_channel(identity, hermes),
                other => return Err(format!("kind is \"\" or \"withdrawal\", not {other:?}")),
            };
            Ok(json!({ "channel_id": channel.0 }))
        }
        "promise" => promise(request),
        "exchange" => exchange(request),
        "recover" => recover(request),
        "calldata" => {
            let arguments = request
                .field("args")?
                .as_array()
                .ok_or("args is not an array")?;
            let data = calldata(
                request.text("contract")?,
                request.text("method")?,
                arguments,
            );
            Ok(json!({ "calldata": data.map_err(|why| why.to_string())? }))
        }
        "http_signature" => {
            let header = http_authorization(&request.signer()?, request.text("body")?.as_bytes());
            Ok(json!({ "authorization": header.map_err(|why| why.to_string())? }))
        }
        "r_recovery_decrypt" => {
            let opened = open_recovery(&request.key()?, &request.bytes("data")?)
                .map_err(|why| why.to_string())?;
            let plaintext = String::from_utf8(opened).map_err(|_| "the plaintext is not text")?;
            Ok(json!({ "plaintext": plaintext }))
        }
        op => match message(op, request)? {
            Some(message) => signed(&request.signer()?, &message.packed()),
            None => Err(format!("unknown op {op:?}")),
        },
    }
}

/// The operations that are a message to a contract, signed.
fn message(op: &str, request: &Request<'_>) -> Result<Option<Message>, String> {
    Ok(Some(match op {
        "register" => Message::Register {
            chain_id: request.number("chain_id")?,
            registry: request.address("registry")?,
            hermes: request.address("hermes")?,
            stake: request.amount("stake")?,
            fee: request.amount("fee")?,
            beneficiary: request.address("beneficiary")?,
        },
        "open_consumer_channel" => Message::OpenConsumerChannel {
            chain_id: request.number("chain_id")?,
            registry: request.address("registry")?,
            hermes: request.address("hermes")?,
            fee: request.amount("fee")?,
        },
        "set_beneficiary" => Message::SetBeneficiary {
            chain_id: request.number("chain_id")?,
            registry: request.address("registry")?,
            identity: request.address("identity")?,
            beneficiary: request.address("beneficiary")?,
            nonce: request.number("nonce")?,
        },
        "pay_and_settle" => Message::PayAndSettle {
            chain_id: request.number("chain_id")?,
            channel: ChannelId(request.word("channel_id")?),
            amount: request.amount("amount")?,
            preimage: Preimage(request.word("preimage")?),
            beneficiary: request.address("beneficiary")?,
        },
        "decrease_stake" => Message::DecreaseStake {
            chain_id: request.number("chain_id")?,
            channel: ChannelId(request.word("channel_id")?),
            amount: request.amount("amount")?,
            fee: request.amount("fee")?,
            nonce: request.number("nonce")?,
        },
        "fast_exit" => Message::FastExit {
            chain_id: request.number("chain_id")?,
            channel: request.address("channel")?,
            amount: request.amount("amount")?,
            fee: request.amount("fee")?,
            beneficiary: request.address("beneficiary")?,
            valid_until: request.number("valid_until")?,
            nonce: request.number("nonce")?,
        },
        "request_exit_v1" => Message::RequestExitV1 {
            channel: request.address("channel")?,
            beneficiary: request.address("beneficiary")?,
            valid_until: request.number("valid_until")?,
        },
        "update_url" => Message::UpdateUrl {
            registry: request.address("registry")?,
            hermes: request.address("hermes")?,
            url: request.text("url")?.to_owned(),
            nonce: request.number("nonce")?,
        },
        "funds_destination" => Message::FundsDestination {
            channel: request.address("channel")?,
            destination: request.address("destination")?,
            nonce: request.number("nonce")?,
        },
        _ => return Ok(None),
    }))
}

fn promise(request: &Request<'_>) -> Result<Value, String> {
    let promise = request.promise()?;
    let mut answer = signed(&request.signer()?, &promise.packed())?;
    answer["hashlock"] = json!(promise.hashlock.0);
    Ok(answer)
}

fn exchange(request: &Request<'_>) -> Result<Value, String> {
    let fields = request
        .field("promise")?
        .as_object()
        .ok_or("promise is not an object")?;
    let promise = Request(fields)
        .promise()
        .map_err(|why| format!("in promise: {why}"))?;
    let hermes = match request.optional("hermes_id") {
        None => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(_) => Some(request.address("hermes_id")?),
    };
    let message = ExchangeMessage {
        chain_id: request.chain_id()?,
        promise_digest: promise.digest(),
        agreement: AgreementId(request.number("agreement_id")?),
        agreement_total: request.amount("agreement_total")?,
        provider: request.address("provider")?,
        hermes,
    };
    signed(&request.signer()?, &message.packed())
}

fn recover(request: &Request<'_>) -> Result<Value, String> {
    let signature =
        Signature::from_slice(&request.bytes("signature")?).map_err(|why| why.to_string())?;
    let signer = signature
        .recover(request.word("hash")?)
        .map_err(|why| why.to_string())?;
    Ok(json!({ "address": signer }))
}

fn signed(signer: &LocalSigner, packed: &[u8]) -> Result<Value, String> {
    let hash = keccak256(packed);
    let signature = signer.sign_digest(hash).map_err(|why| why.to_string())?;
    Ok(json!({
        "packed": hex::encode_prefixed(packed),
        "hash": hash,
        "signature": hex::encode_prefixed(signature.as_bytes()),
        "signer": signer.address(),
    }))
}

/// A request's fields, each read with its type; the error names the field.
struct Request<'a>(&'a Map<String, Value>);

impl<'a> Request<'a> {
    /// A field that is neither missing nor null.
    fn optional(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn field(&self, name: &str) -> Result<&'a Value, String> {
        self.optional(name)
            .ok_or_else(|| format!("{name} is missing"))
    }

    fn text(&self, name: &str) -> Result<&'a str, String> {
        self.field(name)?
            .as_str()
            .ok_or_else(|| format!("{name} is not a string"))
    }

    fn optional_text(&self, name: &str) -> Result<&'a str, String> {
        if self.optional(name).is_none() {
            Ok("")
        } else {
            self.text(name)
        }
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, String> {
        hex::decode(self.text(name)?).map_err(|why| format!("{name} is not hex: {why}"))
    }

    fn word(&self, name: &str) -> Result<B256, String> {
        let bytes = self.bytes(name)?;
        B256::try_from(&bytes[..])
            .map_err(|_| format!("{name} has {} bytes, expected 32", bytes.len()))
    }

    fn address(&self, name: &str) -> Result<Address, String> {
        let bytes = self.bytes(name)?;
        Address::try_from(&bytes[..])
            .map_err(|_| format!("{name} has {} bytes, expected 20", bytes.len()))
    }

    fn addresses<const N: usize>(&self, names: [&str; N]) -> Result<[Address; N], String> {
        let mut found = [Address::ZERO; N];
        for (slot, name) in found.iter_mut().zip(names) {
            *slot = self.address(name)?;
        }
        Ok(found)
    }

    /// A decimal string; whole JSON numbers are taken as well.
    fn number(&self, name: &str) -> Result<U256, String> {
        let field = self.field(name)?;
        let read = match field.as_u64() {
            Some(number) => Some(U256::from(number)),
            None => field
                .as_str()
                .and_then(|text| text.parse::<Amount>().ok())
                .map(Amount::units),
        };
        read.ok_or_else(|| format!("{name} is not a decimal number below 2^256"))
    }

    fn amount(&self, name: &str) -> Result<Amount, String> {
        self.number(name).map(Amount::new)
    }

    fn chain_id(&self) -> Result<u64, String> {
        u64::try_from(self.number("chain_id")?).map_err(|_| "chain_id is above 2^64".to_owned())
    }

    fn key(&self) -> Result<SecretKey, String> {
        SecretKey::from_bytes(self.word("key")?.0).map_err(|why| why.to_string())
    }

    fn signer(&self) -> Result<LocalSigner, String> {
        self.key().map(LocalSigner::new)
    }

    /// 32 bytes, or an address to be padded.
    fn channel(&self, name: &str) -> Result<ChannelId, String> {
        let bytes = self.bytes(name)?;
        match bytes.len() {
            20 => Ok(ChannelId::of_deposit(Address::from_slice(&bytes))),
            32 => Ok(ChannelId(B256::from_slice(&bytes))),
            size => Err(format!("{name} has {size} bytes, expected 20 or 32")),
        }
    }

    fn promise(&self) -> Result<Promise, String> {
        Ok(Promise {
            chain_id: self.chain_id()?,
            channel: self.channel("channel_id")?,
            amount: self.amount("amount")?,
            fee: self.amount("fee")?,
            hashlock: self.hashlock()?,
        })
    }

    /// From the preimage, or as given; both must agree.
    fn hashlock(&self) -> Result<Hashlock, String> {
        let given = self
            .optional("hashlock")
            .map(|_| self.word("hashlock").map(Hashlock))
            .transpose()?;
        let derived = self
            .optional("preimage")
            .map(|_| self.word("preimage"))
            .transpose()?;
        match (given, derived.map(|preimage| Preimage(preimage).hashlock())) {
            (Some(given), Some(derived)) if given != derived => {
                Err("the preimage does not open the hashlock".to_owned())
            }
            (Some(hashlock), _) | (None, Some(hashlock)) => Ok(hashlock),
            (None, None) => Err("preimage or hashlock is missing".to_owned()),
        }
    }
}
