//! The asking end of the prober. It refuses to guess: what does not answer twice is told as not
//! answering.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::super::kind::{Filtering, Mapping, Ports};
use super::{PROBED, Seen, TCP, Udp, udp4, udp6};

/// For an answer: well above any round trip to the services, 400 ms on the longest way.
const ANSWER: Duration = Duration::from_millis(600);

/// How often something is asked before it counts as unanswered.
const TRIES: usize = 2;

/// Ports of a sequence are no farther apart: others may have been given one in between.
const STEP: u16 = 16;

/// Where NAT-PMP and PCP are asked.
const MAPPER: u16 = 5_351;

/// How many seconds a mapping is asked for.
const LEASE: u32 = 60;

/// Everything there is to see.
///
/// # Errors
/// When no socket can be had.
pub fn look(gateway: Option<Ipv4Addr>) -> anyhow::Result<Seen> {
    let connects = |port: u16| {
        let to = SocketAddr::new(PROBED[0].parse().expect("a constant address"), port);
        TcpStream::connect_timeout(&to, ANSWER * 2).is_ok()
    };
    let mapper = match gateway {
        Some(gateway) => gives_ports(gateway)?,
        None => false,
    };
    Ok(Seen {
        udp: udp()?,
        tcp443: connects(TCP[0]),
        tcp: connects(TCP[1]),
        v6_open: v6_open()?,
        mapper,
    })
}

/// Whether an answer that is given this much later still finds its way in.
///
/// # Errors
/// When no socket can be had, or nothing answers at all.
pub(super) fn outlives(seconds: u64) -> anyhow::Result<bool> {
    let asker = Asker::new(false)?;
    let to = udp4()[0][0];
    asker.ask(to, "-")?.context("nothing answers")?;
    asker
        .socket
        .send_to(format!("ask life +{seconds}").as_bytes(), to)?;
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        crate::interrupt::check()?;
        if asker.hears(|text| text.starts_with("got life"))?.is_some() {
            return Ok(true);
        }
    }
    Ok(asker.hears(|text| text.starts_with("got life"))?.is_some())
}

fn udp() -> anyhow::Result<Option<Udp>> {
    let asker = Asker::new(false)?;
    let [one, other] = udp4();
    let Some(first) = asker.ask(one[0], "-")? else {
        return Ok(None);
    };
    let mut seen = vec![first];
    for to in [other[0], other[1], one[1]] {
        seen.extend(asker.ask(to, "-")?);
    }
    let own = own_address(one[0])?;
    let ports: Vec<u16> = seen.iter().map(SocketAddr::port).collect();
    let mapping = mapping(first.ip() == own, &ports);
    let (filtering, race) = filtering()?;
    Ok(Some(Udp {
        mapping: mapping.word().to_owned(),
        filtering: filtering.word().to_owned(),
        ports: chosen(asker.port()?, &ports).word().to_owned(),
        seen: ports,
        hairpin: hairpin()?,
        race,
    }))
}

/// By the ports of one socket, in the order of [`Udp::seen`].
fn mapping(public: bool, ports: &[u16]) -> Mapping {
    match ports {
        [a, b, c, d] if a == b && b == c && c == d => {
            if public {
                Mapping::Untouched
            } else {
                Mapping::Eim
            }
        }
        [a, b, c, d] if a == d && b == c => Mapping::Adm,
        _ => Mapping::Edm,
    }
}

fn chosen(own: u16, ports: &[u16]) -> Ports {
    if ports.iter().all(|port| *port == own) {
        return Ports::Kept;
    }
    let rising = |pair: &[u16]| (1..=STEP).contains(&pair[1].wrapping_sub(pair[0]));
    if ports.len() > 2 && ports.windows(2).all(rising) {
        Ports::Sequential
    } else {
        Ports::Random
    }
}

/// Who gets in, and whether a stranger's early datagram spoils the mapping. A socket of its own:
/// it has sent to one address and one port only.
fn filtering() -> anyhow::Result<(Filtering, bool)> {
    let asker = Asker::new(false)?;
    let [one, other] = udp4();
    let before = asker.ask(one[0], "-")?;
    if asker.ask(one[0], "ip")?.is_some() {
        return Ok((Filtering::Eif, false));
    }
    let filtering = match asker.ask(one[0], "p")? {
        Some(_) => Filtering::Adf,
        None => Filtering::Apdf,
    };
    // The stranger that was just refused is now sent to: does it see the same port?
    let after = asker.ask(other[1], "-")?;
    let kept = |address: Option<SocketAddr>| -> anyhow::Result<bool> {
        Ok(address.map(|it| it.port()) == Some(asker.port()?))
    };
    Ok((filtering, kept(before)? && !kept(after)?))
}

fn hairpin() -> anyhow::Result<bool> {
    let (from, to) = (Asker::new(false)?, Asker::new(false)?);
    let first = udp4()[0][0];
    let Some(outside) = to.ask(first, "-")? else {
        return Ok(false);
    };
    from.ask(first, "-")?;
    if outside.ip() == own_address(first)? {
        // Nothing to turn round at.
        return Ok(false);
    }
    for _ in 0..TRIES {
        // Refused at once by a box that does not: the same as silence.
        let _ = from.socket.send_to(b"hairpin", outside);
        if to.hears(|text| text == "hairpin")?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn v6_open() -> anyhow::Result<Option<bool>> {
    let asker = Asker::new(true)?;
    let first = udp6()[0][0];
    if asker.ask(first, "-")?.is_none() {
        return Ok(None);
    }
    Ok(Some(asker.ask(first, "ip")?.is_some()))
}

/// Asks by NAT-PMP (RFC 6886 §3.3) for a port, and proves it by a stranger's datagram.
fn gives_ports(gateway: Ipv4Addr) -> anyhow::Result<bool> {
    let inside = Asker::new(false)?;
    let request = Asker::new(false)?;
    let mut message = vec![0, 1, 0, 0];
    message.extend(inside.port()?.to_be_bytes());
    message.extend(inside.port()?.to_be_bytes());
    message.extend(LEASE.to_be_bytes());
    let mut answer = [0; 64];
    for _ in 0..TRIES {
        let sent = request.socket.send_to(&message, (gateway, MAPPER));
        if sent.is_err() {
            continue;
        }
        let Ok((length, _)) = request.socket.recv_from(&mut answer) else {
            continue;
        };
        // Version 0, response to 1, result 0; then epoch, inner port, outer port.
        let granted = length >= 16 && answer[..4] == [0, 129, 0, 0];
        if !granted {
            return Ok(false);
        }
        let mapped = u16::from_be_bytes([answer[10], answer[11]]);
        // A datagram to that port of the outside, which nobody here has ever sent from.
        let question = format!("ask mapped @{mapped}");
        request.socket.send_to(question.as_bytes(), udp4()[0][0])?;
        if inside
            .hears(|text| text.starts_with("got mapped"))?
            .is_some()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The address that packets leave with.
fn own_address(towards: SocketAddr) -> anyhow::Result<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").context("no socket")?;
    socket.connect(towards).context("no way to the services")?;
    Ok(socket.local_addr()?.ip())
}

/// A socket that asks.
struct Asker {
    socket: UdpSocket,
}

impl Asker {
    fn new(v6: bool) -> anyhow::Result<Self> {
        let any = if v6 { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(any).context("no socket")?;
        socket.set_read_timeout(Some(ANSWER))?;
        Ok(Self { socket })
    }

    fn port(&self) -> anyhow::Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }

    /// Where the server at `to` sees this socket; none when nothing comes back.
    fn ask(&self, to: SocketAddr, flags: &str) -> anyhow::Result<Option<SocketAddr>> {
        for attempt in 0..TRIES {
            let token = format!("{}.{attempt}.{flags}.{to}", self.port()?);
            let sent = self
                .socket
                .send_to(format!("ask {token} {flags}").as_bytes(), to);
            if sent.is_err() {
                // Nothing leads there: as good as no answer.
                continue;
            }
            // An answer to an earlier try is as good.
            let like = format!(".{flags}.{to} ");
            if let Some(text) = self.hears(|text| text.contains(&like))? {
                let address = text.rsplit(' ').next().and_then(|word| word.parse().ok());
                return address
                    .map(Some)
                    .with_context(|| format!("the server said `{text}`"));
            }
        }
        Ok(None)
    }

    /// The next datagram that `is` wanted, within the time of an answer.
    fn hears(&self, is: impl Fn(&str) -> bool) -> anyhow::Result<Option<String>> {
        let end = Instant::now() + ANSWER;
        let mut datagram = [0; 256];
        while Instant::now() < end {
            let Ok((length, _)) = self.socket.recv_from(&mut datagram) else {
                continue;
            };
            let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
            if is(&text) {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_told_by_their_ports() {
        for (public, ports, mapping) in [
            (true, [5, 5, 5, 5], Mapping::Untouched),
            (false, [5, 5, 5, 5], Mapping::Eim),
            (false, [5, 9, 9, 5], Mapping::Adm),
            (false, [5, 9, 9, 7], Mapping::Edm),
            (false, [5, 6, 7, 8], Mapping::Edm),
        ] {
            assert_eq!(super::mapping(public, &ports), mapping, "{ports:?}");
        }
    }

    #[test]
    fn choices_are_told_by_their_order() {
        assert_eq!(chosen(7, &[7, 7, 7, 7]), Ports::Kept);
        assert_eq!(
            chosen(7, &[30_000, 30_001, 30_002, 30_004]),
            Ports::Sequential
        );
        assert_eq!(chosen(7, &[50_703, 44_131, 26_810, 900]), Ports::Random);
        assert_eq!(chosen(7, &[4_150, 4_150, 4_150, 4_150]), Ports::Random);
    }

    #[test]
    fn nothing_that_answers_is_no_answer() {
        let asker = Asker::new(false).unwrap();
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = silent.local_addr().unwrap();
        assert_eq!(asker.ask(to, "-").unwrap(), None);
    }
}
