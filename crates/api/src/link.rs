//! Hello and welcome as messages and back, and the check that opens every service.

use std::collections::BTreeSet;

use wayfare_session::{Hello, Welcome, negotiate};

use crate::limits::{MAX_CAPABILITIES, MAX_CAPABILITY, MAX_SOFTWARE};
use crate::proto::link::v1 as pb;
use crate::{Malformed, Refusal, field};

impl From<&Hello> for pb::Hello {
    fn from(hello: &Hello) -> Self {
        Self {
            protocol_min: hello.protocol_min,
            protocol_max: hello.protocol_max,
            capabilities: hello.capabilities.iter().cloned().collect(),
            software: hello.software.clone(),
        }
    }
}

impl TryFrom<pb::Hello> for Hello {
    type Error = Malformed;

    fn try_from(hello: pb::Hello) -> Result<Self, Malformed> {
        if hello.protocol_min == 0 || hello.protocol_min > hello.protocol_max {
            let why = format!(
                "{} to {} is no range of versions",
                hello.protocol_min, hello.protocol_max
            );
            return Err(Malformed::new("protocol_min", why));
        }
        Ok(Self {
            protocol_min: hello.protocol_min,
            protocol_max: hello.protocol_max,
            capabilities: capabilities(hello.capabilities)?,
            software: field::text("software", hello.software, MAX_SOFTWARE)?,
        })
    }
}

impl From<&Welcome> for pb::Welcome {
    fn from(welcome: &Welcome) -> Self {
        Self {
            protocol: welcome.protocol,
            capabilities: welcome.capabilities.iter().cloned().collect(),
            software: welcome.software.clone(),
        }
    }
}

impl TryFrom<pb::Welcome> for Welcome {
    type Error = Malformed;

    fn try_from(welcome: pb::Welcome) -> Result<Self, Malformed> {
        Ok(Self {
            protocol: welcome.protocol,
            capabilities: capabilities(welcome.capabilities)?,
            software: field::text("software", welcome.software, MAX_SOFTWARE)?,
        })
    }
}

fn capabilities(names: Vec<String>) -> Result<BTreeSet<String>, Malformed> {
    if names.len() > MAX_CAPABILITIES {
        let why = format!(
            "at most {MAX_CAPABILITIES} are allowed, not {}",
            names.len()
        );
        return Err(Malformed::new("capabilities", why));
    }
    names
        .into_iter()
        .map(|name| field::text("capabilities", name, MAX_CAPABILITY))
        .collect()
}

/// Reads the hello of a first message and answers it with what this release can do.
pub(crate) fn welcome(theirs: Option<pb::Hello>) -> Result<Welcome, Refusal> {
    let theirs: Hello = field::nested("hello", theirs)?;
    Ok(negotiate(&Hello::ours(), &theirs)?)
}

/// A server must choose a version that was offered, and no capability that was not.
pub(crate) fn check_welcome(ours: &Hello, welcome: &Welcome) -> Result<(), Malformed> {
    if welcome.protocol < ours.protocol_min || welcome.protocol > ours.protocol_max {
        let why = format!("version {} was not offered", welcome.protocol);
        return Err(Malformed::new("welcome.protocol", why));
    }
    if !welcome.capabilities.is_subset(&ours.capabilities) {
        return Err(Malformed::new(
            "welcome.capabilities",
            "one of them was not offered",
        ));
    }
    Ok(())
}
