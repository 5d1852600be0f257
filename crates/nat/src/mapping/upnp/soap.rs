//! The XML of UPnP: what a box says about itself, and what it is told and answers. Pure text; it refuses to keep more than the
//! few words that are looked for, however deep they are buried.

use std::net::{Ipv4Addr, SocketAddrV4};

use quick_xml::Reader;
use quick_xml::events::Event;

use super::super::Refusal;
use super::search::of_gateway;

/// Services that map ports, the best first.
const MAPPERS: [&str; 3] = [
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];
/// The longest word that is kept.
const LONGEST_WORD: usize = 256;

/// The part of a box that maps ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::mapping) struct Service {
    pub(super) kind: &'static str,
    /// Where it is told what to do.
    pub(in crate::mapping) path: String,
    /// On which port, if not on that of its description.
    pub(super) port: Option<u16>,
}

/// Why a box did not act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::mapping) enum Fault {
    /// Its reason as UPnP numbers them, and in words.
    Code(u16, String),
    Other(Refusal),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Code(_, why) => Self::Refused(why),
            Fault::Other(refusal) => refusal,
        }
    }
}

impl Service {
    /// The best one in a description.
    pub(in crate::mapping) fn in_description(xml: &[u8], gateway: Ipv4Addr) -> Option<Self> {
        let mut best: Option<(usize, Self)> = None;
        let (mut kind, mut control) = (None, None);
        let mut look = |name: &[u8], text: &str| match name {
            b"serviceType" => kind = MAPPERS.iter().position(|mapper| *mapper == text),
            b"controlURL" => control = control_at(text, gateway),
            b"service" => {
                if let (Some(rank), Some((port, path))) = (kind.take(), control.take())
                    && best.as_ref().is_none_or(|(other, _)| rank < *other)
                {
                    let kind = MAPPERS[rank];
                    best = Some((rank, Self { kind, path, port }));
                }
            }
            _ => {}
        };
        // What was read before it became unreadable may do.
        let _ = walk(xml, &mut look);
        best.map(|(_, service)| service)
    }

    /// What lets it act.
    pub(super) fn envelope(&self, action: &str, arguments: &str) -> String {
        let kind = self.kind;
        format!(
            "<?xml version=\"1.0\"?>\r\n\
            <s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
            s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
            <u:{action} xmlns:u=\"{kind}\">{arguments}</u:{action}></s:Body></s:Envelope>\r\n"
        )
    }
}

/// A path, or a whole address on the gateway.
fn control_at(text: &str, gateway: Ipv4Addr) -> Option<(Option<u16>, String)> {
    if let Some((at, path)) = of_gateway(text, gateway) {
        return Some((Some(at.port()), path));
    }
    if text.contains("://") {
        return None;
    }
    let slash = if text.starts_with('/') { "" } else { "/" };
    Some((None, format!("{slash}{text}")))
}

/// The arguments of AddPortMapping, in the order of the standard: some boxes care.
pub(super) fn mapping(local: SocketAddrV4, external: u16, lease: u32, name: &str) -> String {
    let (port, ip) = (local.port(), local.ip());
    format!(
        "{}<NewInternalPort>{port}</NewInternalPort><NewInternalClient>{ip}</NewInternalClient>\
        <NewEnabled>1</NewEnabled><NewPortMappingDescription>{name}</NewPortMappingDescription>\
        <NewLeaseDuration>{lease}</NewLeaseDuration>",
        mapping_of(external)
    )
}

/// The arguments of DeletePortMapping.
pub(super) fn mapping_of(external: u16) -> String {
    format!(
        "<NewRemoteHost></NewRemoteHost><NewExternalPort>{external}</NewExternalPort>\
        <NewProtocol>UDP</NewProtocol>"
    )
}

/// What a box answers: the address outside, if it is told.
pub(in crate::mapping) fn read(well: bool, xml: &[u8]) -> Result<Option<Ipv4Addr>, Fault> {
    let (mut external, mut code, mut why) = (None, None, String::new());
    let mut look = |name: &[u8], text: &str| match name {
        b"NewExternalIPAddress" => external = text.parse().ok(),
        b"errorCode" => code = text.parse::<u16>().ok(),
        b"errorDescription" => why = text.to_owned(),
        _ => {}
    };
    let whole = walk(xml, &mut look);
    match (well, whole, code) {
        (_, _, Some(code)) => Err(Fault::Code(code, format!("{code} {why}"))),
        (true, Some(()), None) => Ok(external),
        _ => Err(Fault::Other(Refusal::Refused(
            "its answer makes no sense".into(),
        ))),
    }
}

/// Tells the name of each element as it ends, and the text since the last tag. `None` if it becomes unreadable.
fn walk(xml: &[u8], on_end: &mut impl FnMut(&[u8], &str)) -> Option<()> {
    let mut reader = Reader::from_reader(xml);
    let mut text = String::new();
    let push = |text: &mut String, more: &str| {
        let room = LONGEST_WORD.saturating_sub(text.len());
        text.extend(more.chars().take(room));
    };
    loop {
        match reader.read_event().ok()? {
            Event::Start(_) | Event::Empty(_) => text.clear(),
            Event::Text(more) => push(&mut text, &more.decode().ok()?),
            Event::CData(more) => push(&mut text, &more.decode().ok()?),
            Event::GeneralRef(name) => {
                let name = name.decode().ok()?;
                push(
                    &mut text,
                    quick_xml::escape::resolve_predefined_entity(&name)?,
                );
            }
            Event::End(tag) => {
                on_end(tag.local_name().as_ref(), text.trim());
                text.clear();
            }
            Event::Eof => return Some(()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

    fn service(kind: &str, control: &str) -> String {
        format!(
            "<service><serviceType>urn:schemas-upnp-org:service:{kind}</serviceType>\
            <serviceId>x</serviceId><controlURL>{control}</controlURL></service>"
        )
    }

    fn described(services: &[String]) -> Option<Service> {
        let services = services.concat();
        let xml = format!(
            "<?xml version=\"1.0\"?><root xmlns=\"urn:schemas-upnp-org:device-1-0\"><device>\
            <serviceList>{}</serviceList><deviceList><device><serviceList>\n{services}</serviceList>\
            </device></deviceList></device></root>",
            service("Layer3Forwarding:1", "/no")
        );
        Service::in_description(xml.as_bytes(), GATEWAY)
    }

    #[test]
    fn the_service_that_maps_ports_is_found() {
        let ip = service("WANIPConnection:1", "/ctl?a=1&amp;b=2");
        let ppp = service("WANPPPConnection:1", "ctl/ppp");
        let kind = "urn:schemas-upnp-org:service:WANIPConnection:1";
        let path = "/ctl?a=1&b=2".to_owned();
        let expected = Service {
            kind,
            path,
            port: None,
        };
        assert_eq!(described(&[ppp.clone(), ip.clone()]), Some(expected));
        assert_eq!(described(&[ppp]).unwrap().path, "/ctl/ppp");
        let whole = service("WANIPConnection:2", "http://192.168.1.1:49000/x");
        let found = described(&[ip.clone(), whole]).unwrap();
        assert_eq!((found.port, found.path.as_str()), (Some(49_000), "/x"));
        let elsewhere = service("WANIPConnection:2", "http://192.168.1.7:49000/x");
        assert_eq!(described(&[elsewhere]), None);
        assert_eq!(described(&[]), None);
    }

    #[test]
    fn answers_and_faults_are_read() {
        let told = "<s:Envelope><s:Body><u:GetExternalIPAddressResponse>\
            <NewExternalIPAddress>11.0.1.2</NewExternalIPAddress>\
            </u:GetExternalIPAddressResponse></s:Body></s:Envelope>";
        let external = Some(Ipv4Addr::new(11, 0, 1, 2));
        assert_eq!(read(true, told.as_bytes()), Ok(external));
        assert_eq!(read(true, b"<a><b/></a>"), Ok(None));
        let fault = b"<s:Fault><detail><UPnPError><errorCode>718</errorCode>\
            <errorDescription>Conflict</errorDescription></UPnPError></detail></s:Fault>";
        let expected = Err(Fault::Code(718, "718 Conflict".into()));
        assert_eq!(read(false, fault), expected);
        assert!(matches!(read(false, b"<a></a>"), Err(Fault::Other(_))));
        assert!(matches!(read(true, b"<a></b>"), Err(Fault::Other(_))));
    }

    #[test]
    fn depth_and_length_do_no_harm() {
        let deep = "<a>".repeat(20_000);
        assert!(read(true, deep.as_bytes()).is_ok());
        let long = format!(
            "<errorDescription>{}</errorDescription><errorCode>1</errorCode>",
            "x".repeat(60_000)
        );
        let Err(Fault::Code(1, why)) = read(false, long.as_bytes()) else {
            panic!("no code");
        };
        assert!(why.len() <= LONGEST_WORD + 2, "{}", why.len());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "[<>/a-z&;!\\[\\]\"= -]{0,300}") {
            let _ = read(true, &bytes);
            let _ = read(true, text.as_bytes());
            let _ = Service::in_description(&bytes, GATEWAY);
            let _ = Service::in_description(text.as_bytes(), GATEWAY);
        }
    }
}
