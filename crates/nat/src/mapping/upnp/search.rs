//! The search for the router's page (SSDP, UPnP Device Architecture section 1.3). It refuses answers of anybody but the gateway,
//! and pages that lie elsewhere: a search is heard by the whole network, and a page is fetched.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::super::Refusal;
use super::super::gateway::Inside;

/// Who listens for questions: section 1.3.2.
const EVERYBODY: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);
const SSDP: u16 = 1_900;
/// How long is waited after each question: boxes answer within a second, as they are asked to.
const WAITS: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_millis(1_000),
    Duration::from_millis(1_500),
];
/// Gateways of the first version answer the second question only, those of the second version both.
const SOUGHT: [&str; 2] = [
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
];
/// Datagrams that are looked at after one question: more are a flood.
const MOST_HEARD: usize = 64;
/// Longer than any answer in one frame.
const LONGEST: usize = 1_500;
/// The longest path of a page.
const LONGEST_PATH: usize = 256;

/// Where the box describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::mapping) struct Page {
    pub(in crate::mapping) at: SocketAddrV4,
    pub(in crate::mapping) path: String,
}

/// Asks the gateway, and everybody: some boxes answer only the one or the other.
pub(super) async fn search(inside: Inside) -> Result<Page, Refusal> {
    let open = async {
        let socket = UdpSocket::bind(SocketAddrV4::new(inside.local, 0)).await?;
        if let Some(mark) = inside.mark {
            SockRef::from(&socket).set_mark(mark)?;
        }
        SockRef::from(&socket).set_multicast_if_v4(&inside.local)?;
        Ok::<_, std::io::Error>(socket)
    };
    let socket = open.await.map_err(|_| Refusal::Silent)?;
    let mut datagram = [0; LONGEST];
    for wait in WAITS {
        for whom in [inside.gateway, EVERYBODY] {
            for sought in SOUGHT {
                // One of them may not be reachable.
                let _ = socket.send_to(&question(sought), (whom, SSDP)).await;
            }
        }
        let until = Instant::now() + wait;
        for _ in 0..MOST_HEARD {
            let Ok(heard) = timeout_at(until, socket.recv_from(&mut datagram)).await else {
                break;
            };
            // An error here is what somebody's host says about our question.
            if let Ok((len, SocketAddr::V4(from))) = heard
                && *from.ip() == inside.gateway
                && let Some(page) = page_in(&datagram[..len], inside.gateway)
            {
                return Ok(page);
            }
        }
        tokio::time::sleep_until(until).await;
    }
    Err(Refusal::Silent)
}

fn question(sought: &str) -> Vec<u8> {
    format!(
        "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: {sought}\r\n\r\n"
    )
    .into_bytes()
}

/// The page that an answer points to, if it lies on the gateway.
pub(in crate::mapping) fn page_in(answer: &[u8], gateway: Ipv4Addr) -> Option<Page> {
    let text = std::str::from_utf8(answer).ok()?;
    let mut lines = text.lines();
    let mut first = lines.next()?.split_ascii_whitespace();
    if !first.next()?.starts_with("HTTP/1.") || first.next()? != "200" {
        return None;
    }
    let location = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim()
            .eq_ignore_ascii_case("location")
            .then(|| value.trim())
    })?;
    let (at, path) = of_gateway(location, gateway)?;
    Some(Page { at, path })
}

/// Takes an address of a page apart, if it is of plain HTTP, and on the gateway.
pub(super) fn of_gateway(url: &str, gateway: Ipv4Addr) -> Option<(SocketAddrV4, String)> {
    let uri: hyper::Uri = url.parse().ok()?;
    let ip: IpAddr = uri.host()?.parse().ok()?;
    if uri.scheme_str() != Some("http") || ip != IpAddr::V4(gateway) {
        return None;
    }
    let path = uri.path_and_query()?.as_str();
    let at = SocketAddrV4::new(gateway, uri.port_u16().unwrap_or(80));
    // A query may follow the host at once.
    let slash = if path.starts_with('/') { "" } else { "/" };
    (path.len() <= LONGEST_PATH).then(|| (at, format!("{slash}{path}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

    #[test]
    fn only_a_page_of_the_gateway_is_found() {
        for (location, found) in [
            (
                "http://192.168.1.1:5000/root.xml",
                Some((5_000, "/root.xml")),
            ),
            ("http://192.168.1.1/a?b=c", Some((80, "/a?b=c"))),
            ("http://192.168.1.1", Some((80, "/"))),
            ("http://192.168.1.1:50?rot", Some((50, "/?rot"))),
            ("http://192.168.1.2:5000/root.xml", None),
            ("http://192.168.1.1@10.0.0.1/root.xml", None),
            ("https://192.168.1.1/root.xml", None),
            ("http://router.local/root.xml", None),
            ("/root.xml", None),
            ("", None),
        ] {
            let answer = format!("HTTP/1.1 200 OK\r\nST: x\r\nLocation: {location}\r\n\r\n");
            let page = page_in(answer.as_bytes(), GATEWAY);
            let expected = found.map(|(port, path)| Page {
                at: SocketAddrV4::new(GATEWAY, port),
                path: path.to_owned(),
            });
            assert_eq!(page, expected, "{location}");
        }
        let other = b"HTTP/1.1 404 No\r\nLocation: http://192.168.1.1/\r\n\r\n";
        assert_eq!(page_in(other, GATEWAY), None);
        let shouted = b"NOTIFY * HTTP/1.1\r\nLocation: http://192.168.1.1/\r\n\r\n";
        assert_eq!(page_in(shouted, GATEWAY), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_harm(tail in prop::collection::vec(any::<u8>(), 0..200), url in "[ -~]{0,80}") {
            let mut bytes = format!("HTTP/1.1 200 OK\r\nLOCATION: {url}\r\n").into_bytes();
            bytes.extend(tail);
            let _ = page_in(&bytes, GATEWAY);
        }
    }
}
