//! The kernel's packet queue as its netlink messages (nfnetlink_queue.h): bind a queue, hear of
//! packets, accept them. It refuses to look into packets: it asks for their handles only.

use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket, sockopt,
};

/// The largest message: a packet's attributes without its payload are a few hundred bytes.
pub(super) const MESSAGE: usize = 64 << 10;

/// Messages that may wait in the socket.
const RECEIVE: usize = 32 << 20;

const HEADER: usize = 16;
const GENERIC: usize = 4;

/// `NFNL_SUBSYS_QUEUE`.
const SUBSYSTEM: u16 = 3;
const MSG_PACKET: u16 = 0;
const MSG_CONFIG: u16 = 2;
const MSG_VERDICT_BATCH: u16 = 3;

const CFG_CMD: u16 = 1;
const CFG_PARAMS: u16 = 2;
const CFG_QUEUE_MAXLEN: u16 = 3;
const CFG_MASK: u16 = 4;
const CFG_FLAGS: u16 = 5;
const CMD_BIND: u8 = 1;
/// `NFQNL_COPY_META`.
const COPY_META: u8 = 1;
/// `NFQA_CFG_F_GSO`: trains of segments stay whole.
const FLAG_GSO: u32 = 4;

const PACKET_HDR: u16 = 1;
const VERDICT_HDR: u16 = 2;
/// `NF_ACCEPT`.
const ACCEPT: u32 = 1;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const ERROR: u16 = 2;

/// A bound queue.
#[derive(Debug)]
pub(super) struct Queue {
    socket: OwnedFd,
    number: u16,
}

impl Queue {
    /// Binds queue `number` of this network namespace.
    ///
    /// # Errors
    /// Without the right to, or when somebody else has it.
    pub(super) fn bind(number: u16, held: usize) -> anyhow::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )
        .context("no netlink socket")?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0)).context("cannot bind netlink")?;
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE).context("no room for messages")?;
        let queue = Self { socket, number };
        queue.configure(CFG_CMD, &[CMD_BIND, 0, 0, 0])?;
        queue.configure(CFG_PARAMS, &[0, 0, 0, 0, COPY_META])?;
        let held = u32::try_from(held).context("too many to hold")?;
        queue.configure(CFG_QUEUE_MAXLEN, &held.to_be_bytes())?;
        let mut flags = attribute(CFG_MASK, &FLAG_GSO.to_be_bytes());
        flags.extend(attribute(CFG_FLAGS, &FLAG_GSO.to_be_bytes()));
        queue.ask(&flags)?;
        Ok(queue)
    }

    /// Waits for packets and returns their handles, oldest first.
    ///
    /// # Errors
    /// When the kernel had to lose messages, or the wait was interrupted.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> Result<Vec<u32>, Errno> {
        let length = recv(self.socket.as_raw_fd(), buffer, MsgFlags::empty())?;
        Ok(messages(&buffer[..length]).filter_map(packet).collect())
    }

    /// Lets every packet go on that came no later than this one.
    pub(super) fn accept_up_to(&self, packet: u32) {
        let mut verdict = ACCEPT.to_be_bytes().to_vec();
        verdict.extend(packet.to_be_bytes());
        let attributes = attribute(VERDICT_HDR, &verdict);
        let message = message(MSG_VERDICT_BATCH, self.number, REQUEST, &attributes);
        // Sending to the kernel does not block, and a later word accepts this packet too.
        let _ = send(self.socket.as_raw_fd(), &message, MsgFlags::empty());
    }

    fn configure(&self, kind: u16, value: &[u8]) -> anyhow::Result<()> {
        self.ask(&attribute(kind, value))
    }

    /// Sends a configuration and waits until the kernel agrees.
    fn ask(&self, attributes: &[u8]) -> anyhow::Result<()> {
        let message = message(MSG_CONFIG, self.number, REQUEST | ACK, attributes);
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty()).context("cannot ask")?;
        let mut buffer = vec![0; MESSAGE];
        // No packet comes before the queue's rules are loaded; a few answers at most.
        for _ in 0..16 {
            let length = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            for message in messages(&buffer[..length]) {
                if let Some(code) = acknowledged(message) {
                    return match code {
                        0 => Ok(()),
                        code => Err(Errno::from_raw(-code))
                            .with_context(|| format!("queue {} is refused", self.number)),
                    };
                }
            }
        }
        anyhow::bail!("the kernel does not answer for queue {}", self.number)
    }
}

fn message(kind: u16, queue: u16, flags: u16, attributes: &[u8]) -> Vec<u8> {
    let length = HEADER + GENERIC + attributes.len();
    let length = u32::try_from(length).expect("our messages are short");
    let mut message = length.to_ne_bytes().to_vec();
    message.extend((SUBSYSTEM << 8 | kind).to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence and port: the kernel's answers are told apart by their kind.
    message.extend([0; 8]);
    // Family unspecified, version 0, the queue in network order.
    message.extend([0, 0]);
    message.extend(queue.to_be_bytes());
    message.extend(attributes);
    message
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("our attributes are short");
    let mut attribute = length.to_ne_bytes().to_vec();
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

/// The messages of one read; a broken one ends them.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        if length < HEADER || length > bytes.len() {
            return None;
        }
        let (message, rest) = (&bytes[..length], length.next_multiple_of(4));
        bytes = bytes.get(rest..).unwrap_or_default();
        Some(message)
    })
}

/// The handle of a packet message.
fn packet(message: &[u8]) -> Option<u32> {
    let kind = u16::from_ne_bytes([message[4], message[5]]);
    if kind != SUBSYSTEM << 8 | MSG_PACKET {
        return None;
    }
    let mut attributes = message.get(HEADER + GENERIC..)?;
    while let Some(head) = attributes.first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & 0x3fff;
        if length < 4 {
            return None;
        }
        if kind == PACKET_HDR {
            let id = attributes.get(4..8)?.first_chunk()?;
            return Some(u32::from_be_bytes(*id));
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// The code of an acknowledgement: 0, or a negative error number.
fn acknowledged(message: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes([message[4], message[5]]);
    let code = message.get(HEADER..HEADER + 4)?.first_chunk()?;
    (kind == ERROR).then(|| i32::from_ne_bytes(*code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_found_behind_other_attributes() {
        let mut attributes = attribute(9, &[1, 2, 3]);
        let mut header = 77_u32.to_be_bytes().to_vec();
        header.extend([0x08, 0, 2]);
        attributes.extend(attribute(PACKET_HDR, &header));
        let mut read = message(MSG_PACKET, 3, 0, &attributes);
        read.extend(message(MSG_CONFIG, 3, 0, &[]));
        let all: Vec<_> = messages(&read).map(packet).collect();
        assert_eq!(all, [Some(77), None]);
    }

    #[test]
    fn broken_messages_end_the_reading() {
        for bytes in [&[][..], &[1, 0, 0, 0], &[200, 0, 0, 0, 0, 0]] {
            assert_eq!(messages(bytes).count(), 0);
        }
        let mut cut = message(MSG_PACKET, 1, 0, &attribute(PACKET_HDR, &[0; 7]));
        cut.truncate(22);
        let length = u32::try_from(cut.len()).unwrap();
        cut[..4].copy_from_slice(&length.to_ne_bytes());
        assert_eq!(messages(&cut).filter_map(packet).count(), 0);
    }

    #[test]
    fn errors_are_told_from_agreement() {
        let mut agreed = message(MSG_CONFIG, 1, 0, &[]);
        agreed[4..6].copy_from_slice(&ERROR.to_ne_bytes());
        agreed[HEADER..HEADER + 4].copy_from_slice(&(-1_i32).to_ne_bytes());
        assert_eq!(acknowledged(&agreed), Some(-1));
        assert_eq!(acknowledged(&message(MSG_CONFIG, 1, 0, &[])), None);
    }
}
