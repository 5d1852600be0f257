//! A cell of the matrix: a consumer's home, a provider's home, what lies between, and the bars it is
//! held to. It refuses to be lenient: what two homes should reach follows from their kinds alone.
//!
//! As typed: `A:B`, the consumer's kind first; `A:B@S` for both behind one box `S`; `~200ms` for
//! that much time from one home to the other and `~2%` for that much loss, each way.

mod tables;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use super::kind::{Filtering, Kind, Layer, Mapping, Ports, V6};

pub use tables::{SHORT, all, kinds, kinds_of, mix};

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    /// The consumer's home.
    pub a: Kind,
    /// The provider's home.
    pub b: Kind,
    /// The one box that both are behind.
    pub shared: Option<Layer>,
    /// From one home to the other, one way, if not the usual time.
    pub delay: Option<Duration>,
    /// Packets lost each way, in a thousand.
    pub loss: u32,
}

/// How long a run looks for a direct path, in milliseconds: no bar can be higher.
const WINDOW: f64 = 10_000.0;

/// How two homes should come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Both ports are stable, or one side lets everybody in: a simultaneous open is enough.
    Stable,
    /// One side's next port can be told.
    Predicted,
    /// One side's port must be found by chance.
    Birthday,
    /// One side has a mapped port.
    Mapped,
    /// Both have IPv6.
    V6,
    /// Both are in one network.
    Lan,
    /// Only a relay is left.
    Relayed,
}

/// The bars of a class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bars {
    /// Least share of the runs that end up direct.
    pub direct: f64,
    /// From connect to direct, median and 95th percentile, in milliseconds.
    pub direct_ms: Option<(f64, f64)>,
    /// From connect to the first byte, 95th percentile, in milliseconds.
    pub first_byte_ms: f64,
    /// Least throughput in megabits a second.
    pub mbps: Option<f64>,
}

impl Class {
    /// As the report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Predicted => "predicted",
            Self::Birthday => "birthday",
            Self::Mapped => "mapped",
            Self::V6 => "ipv6",
            Self::Lan => "lan",
            Self::Relayed => "relayed",
        }
    }

    fn bars(self) -> Bars {
        let direct = |direct, p50, p95| Bars {
            direct,
            direct_ms: Some((p50, p95)),
            first_byte_ms: 3_000.0,
            mbps: None,
        };
        match self {
            Self::Stable | Self::V6 => direct(1.0, 1_100.0, 2_600.0),
            Self::Predicted => direct(0.98, 1_200.0, 2_500.0),
            Self::Birthday => direct(0.97, 2_000.0, 5_000.0),
            Self::Mapped => direct(1.0, 1_200.0, 2_600.0),
            Self::Lan => direct(1.0, 1_100.0, 2_600.0),
            Self::Relayed => Bars {
                direct: 0.0,
                direct_ms: None,
                first_byte_ms: 1_000.0,
                mbps: Some(200.0),
            },
        }
    }
}

impl Cell {
    /// How the two should come together.
    pub fn class(&self) -> Class {
        let (a, b) = (&self.a, &self.b);
        if a.blocks_udp() || b.blocks_udp() {
            return Class::Relayed;
        }
        if let Some(shared) = &self.shared {
            return self.class_behind(shared);
        }
        if a.v6 != V6::None && b.v6 != V6::None {
            return Class::V6;
        }
        if a.is_v6_only() || b.is_v6_only() {
            return Class::Relayed;
        }
        if a.is_mappable() || b.is_mappable() {
            return Class::Mapped;
        }
        let hard = |kind: &Kind| kind.mapping() >= Mapping::Adm;
        let strict = |kind: &Kind| kind.filtering() == Filtering::Apdf;
        let blocked = |hard_one: &Kind, other: &Kind| hard(hard_one) && strict(other);
        let one = match (blocked(a, b), blocked(b, a)) {
            (false, false) => return Class::Stable,
            (true, false) => a,
            (false, true) => b,
            (true, true) => return Class::Relayed,
        };
        if one.ports() == Ports::Sequential {
            Class::Predicted
        } else {
            Class::Birthday
        }
    }

    fn class_behind(&self, shared: &Layer) -> Class {
        if self.a.layers.is_empty() && self.b.layers.is_empty() {
            return Class::Lan;
        }
        // The way out of the shared box and in again exists only where it hairpins.
        if shared.hairpin {
            Class::Stable
        } else {
            Class::Relayed
        }
    }

    /// What it is held to.
    pub fn bars(&self) -> Bars {
        let mut bars = self.class().bars();
        if self.loss > 0 {
            bars.direct = bars.direct.min(0.99);
            bars.direct_ms = bars
                .direct_ms
                .map(|(p50, p95)| (p50.max(1_500.0), p95.max(2_600.0)));
        }
        // Every step of a longer way takes longer. The usual one is 50 ms.
        if let Some(delay) = self.delay {
            let times = (delay.as_secs_f64() / 0.05).max(1.0);
            bars.direct_ms = bars
                .direct_ms
                .map(|(p50, p95)| ((p50 * times).min(WINDOW), (p95 * times).min(WINDOW)));
            bars.first_byte_ms = (bars.first_byte_ms * times).min(3_000.0);
            bars.mbps = None;
        }
        bars
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Cell {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut parts = text.split('~');
        let homes = parts.next().unwrap_or_default();
        let (homes, shared) = match homes.split_once('@') {
            Some((homes, shared)) => (homes, Some(shared_box(shared)?)),
            None => (homes, None),
        };
        let (a, b) = pair(homes)?;
        let mut cell = Self {
            text: text.to_owned(),
            a,
            b,
            shared,
            delay: None,
            loss: 0,
        };
        for part in parts {
            if let Some(ms) = part.strip_suffix("ms") {
                let ms: u64 = ms
                    .parse()
                    .with_context(|| format!("`~{part}` in `{text}`"))?;
                ensure!((2..=2_000).contains(&ms), "`{text}`: 2 to 2000 ms");
                cell.delay = Some(Duration::from_millis(ms));
            } else if let Some(percent) = part.strip_suffix('%') {
                let percent: u32 = percent
                    .parse()
                    .with_context(|| format!("`~{part}` in `{text}`"))?;
                ensure!((1..=50).contains(&percent), "`{text}`: 1 to 50 %");
                cell.loss = percent * 10;
            } else {
                bail!("`~{part}` in `{text}` is neither ~Nms nor ~N%");
            }
        }
        let both = [&cell.a, &cell.b];
        let inside = |kind: &&Kind| {
            kind.v6 == V6::None && kind.layers.iter().all(|layer| layer.nat.translates())
        };
        ensure!(
            cell.shared.is_none() || both.iter().all(inside),
            "`{text}`: behind a shared box there is neither IPv6 nor `fw`"
        );
        Ok(cell)
    }
}

fn shared_box(text: &str) -> anyhow::Result<Layer> {
    let kind: Kind = text.parse()?;
    let [layer] = kind.layers.as_slice() else {
        bail!("`@{text}`: what is shared is one box");
    };
    ensure!(
        layer.nat.translates() && kind.v6 == V6::None,
        "`@{text}`: what is shared translates IPv4"
    );
    Ok(*layer)
}

/// Options are written with colons too. No option is called like a kind, so one colon only can
/// part the homes.
fn pair(text: &str) -> anyhow::Result<(Kind, Kind)> {
    let colons = text.match_indices(':').map(|(at, _)| at);
    let mut found = colons.filter_map(|at| {
        let (a, b) = (text[..at].parse().ok()?, text[at + 1..].parse().ok()?);
        Some((a, b))
    });
    if let Some(pair) = found.next() {
        return Ok(pair);
    }
    // Say what is wrong with the likeliest reading.
    let Some((a, b)) = text.split_once(':') else {
        bail!("`{text}` is no pair of kinds, such as pr:sym");
    };
    a.parse::<Kind>()?;
    b.parse::<Kind>()?;
    bail!("`{text}` is no pair of kinds")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(text: &str) -> Cell {
        text.parse().unwrap()
    }

    #[test]
    fn one_colon_parts_the_homes() {
        for (text, a, b) in [
            ("pr:sym", "pr", "sym"),
            ("pr:upnp:sym", "pr:upnp", "sym"),
            ("sym:pr:upnp", "sym", "pr:upnp"),
            (
                "pr:timeout=5+cgn:hairpin:7xpr:fw6",
                "pr:timeout=5+cgn:hairpin",
                "7xpr:fw6",
            ),
        ] {
            let cell = cell(text);
            assert_eq!(
                (cell.a.to_string(), cell.b.to_string()),
                (a.into(), b.into()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_lies_between_is_read_too() {
        let shared = cell("pub:pub@pr:hairpin~200ms~2%");
        assert!(shared.shared.unwrap().hairpin);
        assert_eq!(shared.delay, Some(Duration::from_millis(200)));
        assert_eq!(shared.loss, 20);
        for (text, why) in [
            ("pr", "no pair"),
            ("pr:", "is none of"),
            ("pr:warp", "is none of"),
            ("pr:pr~2", "neither"),
            ("pr:pr~0%", "1 to 50"),
            ("pr:pr@pr+cgn", "one box"),
            ("pr:pr@fw", "translates"),
            ("pr:v6:pr@cgn", "neither IPv6"),
        ] {
            let error = format!("{:#}", text.parse::<Cell>().unwrap_err());
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn classes_follow_the_theory() {
        for (text, class) in [
            ("pub:sym", Class::Stable),
            ("fc:sym", Class::Stable),
            ("ar:adm", Class::Stable),
            ("prr:prr", Class::Stable),
            ("7xprr:7xprr", Class::Stable),
            ("fw:sym", Class::Birthday),
            ("sym:prr", Class::Birthday),
            ("pr:adm", Class::Birthday),
            ("pr+cgn:symseq", Class::Predicted),
            ("sym:sym", Class::Relayed),
            ("adm:adm", Class::Relayed),
            ("pub:pr:udpblock", Class::Relayed),
            ("pr:tcp443:pub", Class::Relayed),
            ("sym:upnp:adm", Class::Mapped),
            ("sym:fw6:sym:fw6", Class::V6),
            ("v6only:pr:fw6", Class::V6),
            ("v6only:pr", Class::Relayed),
            ("pub:pub@pr", Class::Lan),
            ("pr:pr@cgn", Class::Relayed),
            ("pr:pr@cgn:hairpin", Class::Stable),
        ] {
            assert_eq!(cell(text).class(), class, "{text}");
        }
    }

    #[test]
    fn longer_ways_and_loss_have_looser_bars() {
        let usual = cell("pr:pr").bars();
        assert_eq!(
            cell("pr:pr~200ms").bars().direct_ms,
            Some((4_400.0, 10_000.0))
        );
        assert_eq!(cell("pr:pr~2%").bars().direct_ms, Some((1_500.0, 2_600.0)));
        assert_eq!((usual.direct, usual.mbps), (1.0, None));
        let relayed = cell("sym:sym").bars();
        assert_eq!(
            (relayed.first_byte_ms, relayed.mbps),
            (1_000.0, Some(200.0))
        );
        assert!(cell("sym:sym~200ms").bars().first_byte_ms <= 3_000.0);
    }
}
