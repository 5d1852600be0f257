//! What a home's way out is made of, as a person types it: `pr+cgn`, `sym:upnp`, `7xpr`. It refuses
//! to build anything, and what cannot exist: a public host behind another NAT, two meanings for one
//! word.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, bail, ensure};

/// More layers than any home has; addresses are numbered by them.
const LAYERS: usize = 9;

/// How a box translates, by the words of the field: mapping, ports, filtering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    /// No box: the host has a public address.
    Pub,
    /// A stateful firewall before a public address.
    Fw,
    /// Full cone, ports kept.
    Fc,
    /// Address-restricted cone, ports kept.
    Ar,
    /// Port-restricted cone, ports kept.
    Pr,
    /// Full cone, random ports.
    Fcr,
    /// Address-restricted cone, random ports.
    Arr,
    /// Port-restricted cone, random ports.
    Prr,
    /// The kernel's own masquerade, nothing let in.
    Masq,
    /// The same, where the box itself takes what comes in: an early packet spoils the mapping.
    Masqacc,
    /// Symmetric: another random port for each destination.
    Sym,
    /// Symmetric: the next port for each destination.
    Symseq,
    /// Another random port for each destination address.
    Adm,
    /// A carrier's, as `prr`.
    Cgn,
    /// A carrier's, as `fcr`.
    Cgnfc,
    /// A carrier's, as `sym`.
    Cgnsym,
    /// No IPv4 at all; IPv6 behind a stateful firewall.
    V6only,
}

const NAMES: &[(&str, Nat)] = &[
    ("pub", Nat::Pub),
    ("fw", Nat::Fw),
    ("fc", Nat::Fc),
    ("ar", Nat::Ar),
    ("pr", Nat::Pr),
    ("fcr", Nat::Fcr),
    ("arr", Nat::Arr),
    ("prr", Nat::Prr),
    ("masq", Nat::Masq),
    ("masqacc", Nat::Masqacc),
    ("sym", Nat::Sym),
    ("symseq", Nat::Symseq),
    ("adm", Nat::Adm),
    ("cgn", Nat::Cgn),
    ("cgnfc", Nat::Cgnfc),
    ("cgnsym", Nat::Cgnsym),
    ("v6only", Nat::V6only),
];

/// Whether the external port depends on the destination (RFC 4787 §4.1), weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mapping {
    /// Nothing is translated.
    Untouched,
    /// Endpoint-independent.
    Eim,
    /// Address-dependent.
    Adm,
    /// Address- and port-dependent.
    Edm,
}

/// Whose packets are let in (RFC 4787 §5), most liberal first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filtering {
    /// Anybody's.
    Eif,
    /// Those of addresses that were sent to.
    Adf,
    /// Those of addresses and ports that were sent to.
    Apdf,
}

/// How an external port is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// The internal one.
    Kept,
    /// Any.
    Random,
    /// The one after the last.
    Sequential,
}

impl Nat {
    /// How its mapping depends on the destination.
    pub fn mapping(self) -> Mapping {
        match self {
            Self::Pub | Self::Fw | Self::V6only => Mapping::Untouched,
            Self::Fc | Self::Ar | Self::Pr | Self::Masq | Self::Masqacc => Mapping::Eim,
            Self::Fcr | Self::Arr | Self::Prr | Self::Cgn | Self::Cgnfc => Mapping::Eim,
            Self::Adm => Mapping::Adm,
            Self::Sym | Self::Symseq | Self::Cgnsym => Mapping::Edm,
        }
    }

    /// Whom it lets in.
    pub fn filtering(self) -> Filtering {
        match self {
            Self::Pub | Self::Fc | Self::Fcr | Self::Cgnfc => Filtering::Eif,
            Self::Ar | Self::Arr => Filtering::Adf,
            Self::Fw | Self::Pr | Self::Prr | Self::Masq | Self::Masqacc => Filtering::Apdf,
            Self::Sym | Self::Symseq | Self::Adm => Filtering::Apdf,
            Self::Cgn | Self::Cgnsym | Self::V6only => Filtering::Apdf,
        }
    }

    /// How it chooses ports.
    pub fn ports(self) -> Ports {
        match self {
            Self::Pub | Self::Fw | Self::V6only => Ports::Kept,
            Self::Fc | Self::Ar | Self::Pr | Self::Masq | Self::Masqacc => Ports::Kept,
            Self::Fcr | Self::Arr | Self::Prr | Self::Sym | Self::Adm => Ports::Random,
            Self::Cgn | Self::Cgnfc | Self::Cgnsym => Ports::Random,
            Self::Symseq => Ports::Sequential,
        }
    }

    /// Whether it translates IPv4 at all.
    pub fn translates(self) -> bool {
        self.mapping() != Mapping::Untouched
    }

    /// Whether its inside is the carrier's address block, 100.64.0.0/10.
    pub fn is_carrier(self) -> bool {
        matches!(self, Self::Cgn | Self::Cgnfc | Self::Cgnsym)
    }

    /// Whether an external port belongs to one internal endpoint by a map of ours.
    pub(super) fn has_maps(self) -> bool {
        self.mapping() == Mapping::Eim && !matches!(self, Self::Masq | Self::Masqacc)
    }
}

/// One box on the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// How it translates.
    pub nat: Nat,
    /// Packets from inside to its own outside come back in (RFC 4787 REQ-9).
    pub hairpin: bool,
    /// No UDP passes.
    pub udpblock: bool,
    /// Nothing but TCP to port 443 passes.
    pub tcp443: bool,
    /// Hosts may ask for a port by UPnP-IGD, NAT-PMP and PCP.
    pub upnp: bool,
    /// Seconds after which a silent UDP mapping is forgotten; the kernel's choice otherwise.
    pub timeout: Option<u32>,
    /// The outer link's MTU.
    pub mtu: Option<u32>,
}

/// What a home has of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum V6 {
    /// Nothing.
    None,
    /// A public address that everybody reaches.
    Open,
    /// A public address behind a stateful firewall.
    Firewalled,
}

/// A home's way out: its boxes, nearest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    text: String,
    /// The boxes, nearest the host first; none for a public host.
    pub layers: Vec<Layer>,
    /// What it has of IPv6.
    pub v6: V6,
}

impl Kind {
    /// The same home, with one more box around it.
    pub fn behind(&self, shared: &Layer) -> Self {
        let mut kind = self.clone();
        kind.layers.push(*shared);
        kind
    }

    /// How the whole chain maps: as its most dependent box.
    pub fn mapping(&self) -> Mapping {
        let all = self.layers.iter().map(|layer| layer.nat.mapping());
        all.max().unwrap_or(Mapping::Untouched)
    }

    /// Whom the whole chain lets in: those whom its strictest box does.
    pub fn filtering(&self) -> Filtering {
        let all = self.layers.iter().map(|layer| layer.nat.filtering());
        all.max().unwrap_or(Filtering::Eif)
    }

    /// How the outside sees ports chosen: by the outermost box that does not keep them.
    pub fn ports(&self) -> Ports {
        let mut outside_in = self.layers.iter().rev().map(|layer| layer.nat.ports());
        outside_in
            .find(|ports| *ports != Ports::Kept)
            .unwrap_or(Ports::Kept)
    }

    /// Whether it has no IPv4.
    pub fn is_v6_only(&self) -> bool {
        self.layers.iter().any(|layer| layer.nat == Nat::V6only)
    }

    /// Whether any box lets no UDP out.
    pub fn blocks_udp(&self) -> bool {
        self.layers
            .iter()
            .any(|layer| layer.udpblock || layer.tcp443)
    }

    /// Whether a host can have a port of the public address for the asking.
    pub fn is_mappable(&self) -> bool {
        matches!(self.layers.as_slice(), [only] if only.upnp)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Kind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut kind = Self {
            text: text.to_owned(),
            layers: Vec::new(),
            v6: V6::None,
        };
        for part in text.split('+') {
            let (times, part) = repeated(part)?;
            let mut words = part.split(':');
            let name = words.next().unwrap_or_default();
            let mut layer = Layer::plain(named(name)?);
            for word in words {
                match word {
                    "v6" => kind.v6 = V6::Open,
                    "fw6" => kind.v6 = V6::Firewalled,
                    other => layer.add(other).with_context(|| format!("in `{text}`"))?,
                }
            }
            kind.layers.extend((0..times).map(|_| layer));
        }
        kind.checked()
    }
}

impl Kind {
    /// Refuses what cannot exist.
    fn checked(mut self) -> anyhow::Result<Self> {
        let text = &self.text;
        ensure!(
            self.layers.len() <= LAYERS,
            "`{text}` has more than {LAYERS} layers"
        );
        let outermost = self.layers.len() - 1;
        for (at, layer) in self.layers.iter().enumerate() {
            let alone = self.layers.len() == 1;
            match layer.nat {
                Nat::Pub => {
                    ensure!(alone, "`pub` stands alone, not in `{text}`");
                    ensure!(
                        *layer == Layer::plain(Nat::Pub),
                        "`pub` has no box that could do `{text}`"
                    );
                }
                Nat::V6only => ensure!(alone, "`v6only` stands alone, not in `{text}`"),
                Nat::Fw => ensure!(
                    at == outermost,
                    "the inside of `fw` is public: it is the outermost box, not in `{text}`"
                ),
                other => ensure!(
                    !layer.hairpin || other.has_maps(),
                    "`{text}`: only cones and carriers' cones hairpin here"
                ),
            }
            ensure!(
                !layer.upnp || layer.nat.translates(),
                "`{text}`: nothing to map"
            );
        }
        if self.layers[0].nat == Nat::Pub {
            self.layers.clear();
        } else if self.layers[0].nat == Nat::V6only {
            self.v6 = V6::Firewalled;
        }
        Ok(self)
    }
}

impl Layer {
    /// A box without options.
    pub fn plain(nat: Nat) -> Self {
        Self {
            nat,
            hairpin: false,
            udpblock: false,
            tcp443: false,
            upnp: false,
            timeout: None,
            mtu: None,
        }
    }

    fn add(&mut self, word: &str) -> anyhow::Result<()> {
        let number = |text: &str, least: u32| -> anyhow::Result<Option<u32>> {
            let number: u32 = text.parse().context("not a number")?;
            ensure!(number >= least, "{number} is less than {least}");
            Ok(Some(number))
        };
        match word.split_once('=').unwrap_or((word, "")) {
            ("hairpin", "") => self.hairpin = true,
            ("udpblock", "") => self.udpblock = true,
            ("tcp443", "") => self.tcp443 = true,
            ("upnp", "") => self.upnp = true,
            ("timeout", seconds) => self.timeout = number(seconds, 1)?,
            // IPv6 asks for this much of every link.
            ("mtu", bytes) => self.mtu = number(bytes, 1_280)?,
            _ => bail!(
                "`{word}` is none of hairpin, udpblock, tcp443, upnp, timeout=S, mtu=N, v6, fw6"
            ),
        }
        Ok(())
    }
}

/// `7xpr` → 7 times `pr`.
fn repeated(part: &str) -> anyhow::Result<(usize, &str)> {
    let digits = part.bytes().take_while(u8::is_ascii_digit).count();
    let Some(rest) = part[digits..].strip_prefix('x').filter(|_| digits > 0) else {
        return Ok((1, part));
    };
    let times: usize = part[..digits].parse().context("not a number of layers")?;
    ensure!(
        (1..=LAYERS).contains(&times),
        "1 to {LAYERS} layers, not {times}"
    );
    Ok((times, rest))
}

fn named(name: &str) -> anyhow::Result<Nat> {
    let found = NAMES.iter().find(|(known, _)| *known == name);
    found.map(|(_, nat)| *nat).with_context(|| {
        let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
        format!("`{name}` is none of {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests;
