//! The Linux TUN device: `/dev/net/tun`, bare IP packets, or super-packets of 64 KiB behind a vnet header.
//!
//! It sets the MTU, the queue length, the size of super-packets and the link up, which belong to the device; it refuses
//! to set addresses and routes. The device disappears with its last descriptor, also after a crash.

mod backlog;
mod receive;

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use backlog::Backlog;
use tokio::io::unix::AsyncFd;

use super::batch::{PacketBatch, SUPER_SEGMENTS};
use super::coalesce::{Allowed, coalesce};
use super::door::{check_name, checked_mtu, open_door, set_nonblocking};
use super::error::TunError;
use super::options::{Counting, Offloads, TunCounts, TunOptions};
use super::vnet::VNET_LEN;
use super::{Sent, Tun, link, sys};

/// Packets the kernel holds for us: the windows of a thousand streams (45 segments) that it sends in
/// bursts of two, with room. What overflows is lost by lot: with 2,048 a thousand consumers' shares
/// had a Jain index of 0.24, with 8,192 of 0.54, with this 0.97 to 0.99. 256 KiB of the kernel's.
const QUEUE_PACKETS: libc::c_int = 32_768;
/// `GSO_LEGACY_MAX_SIZE`: what every device may be given without further ado.
const SUPER_BYTES: usize = 65_536;

/// A TUN device of the kernel, or one queue of it.
#[derive(Debug)]
pub struct TunDevice {
    file: AsyncFd<File>,
    name: String,
    mtu: usize,
    /// A vnet header comes before each packet.
    vnet: bool,
    /// Made so that further queues are possible.
    several: bool,
    offloads: Offloads,
    /// Room that a batch must have left for one more read.
    segments: usize,
    send_tcp: AtomicBool,
    send_udp: AtomicBool,
    backlog: Mutex<Backlog>,
    counting: Counting,
}

impl TunDevice {
    /// [`create_with`](Self::create_with) the default options.
    ///
    /// # Errors
    /// As there.
    pub fn create(name: &str, mtu: usize) -> Result<Self, TunError> {
        Self::create_with(name, mtu, TunOptions::default())
    }

    /// Creates the device `name`, or one after a pattern such as `wayfare%d`, in the network
    /// namespace of the calling thread, with `mtu` bytes, and sets it up.
    ///
    /// A persistent TUN device of that name that nobody uses is taken over.
    ///
    /// # Errors
    /// [`TunError`] names the missing privilege, driver or free name and what to do about it.
    pub fn create_with(name: &str, mtu: usize, options: TunOptions) -> Result<Self, TunError> {
        check_name(name)?;
        let wanted = checked_mtu(mtu)?;
        let several = options.queues > 1;
        let segments = options.segments.clamp(1, SUPER_SEGMENTS);
        let file = open_door()?;
        let (name, vnet) = attach(&file, name, options.offload, several)?;
        let os = |step| {
            let name = &name;
            move |source| TunError::os(step, name, source)
        };
        if sys::mtu(&name).map_err(os("read the MTU of"))? != wanted {
            sys::set_mtu(&name, wanted).map_err(os("set the MTU of"))?;
        }
        if let Err(e) = sys::set_queue_length(&name, QUEUE_PACKETS) {
            // Costs throughput under bursts, nothing else.
            tracing::debug!(error = %e, "TUN queue length left at the kernel's default");
        }
        let offloads = negotiate(&file, &name, vnet);
        if offloads.tcp {
            let bytes = SUPER_BYTES.min(segments * mtu);
            let limited = link::limit_super_packets(&name, segments as u32, bytes as u32);
            if let Err(e) = limited {
                // Super-packets of many small segments then cost a second send, or do not fit into a batch.
                tracing::debug!(error = %e, "TUN super-packets left at the kernel's size");
            }
        }
        sys::bring_up(&name).map_err(os("set up"))?;
        let mut device = Self::adopt(file, name, mtu)?;
        device.several = several;
        device.segments = segments;
        Ok(device.with(vnet, offloads))
    }

    /// Takes over a TUN device that somebody else opened (a VPN service of the operating system,
    /// a privileged parent). It must have no packet information; with a vnet header it gets all the offloads there are.
    ///
    /// # Errors
    /// [`TunError::NotATun`] for any other descriptor.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, TunError> {
        let file = File::from(fd);
        let not = |why: String| TunError::NotATun { why };
        let (name, flags) = sys::attached(&file).map_err(|e| not(e.to_string()))?;
        if flags & libc::IFF_TUN == 0 {
            return Err(not(format!("{name:?} is an Ethernet (TAP) device")));
        }
        if flags & libc::IFF_NO_PI == 0 {
            return Err(not(format!(
                "{name:?} puts packet information before its packets"
            )));
        }
        let mtu =
            sys::mtu(&name).map_err(|source| TunError::os("read the MTU of", &name, source))?;
        let mtu = usize::try_from(mtu).map_err(|_| not(format!("{name:?} has MTU {mtu}")))?;
        set_nonblocking(&file).map_err(|source| TunError::os("configure", &name, source))?;
        let vnet = flags & libc::IFF_VNET_HDR != 0;
        if vnet {
            sys::set_vnet_header(&file, VNET_LEN as libc::c_int)
                .map_err(|source| TunError::os("configure", &name, source))?;
        }
        let offloads = negotiate(&file, &name, vnet);
        let mut device = Self::adopt(file, name, mtu)?;
        device.several = flags & libc::IFF_MULTI_QUEUE != 0;
        Ok(device.with(vnet, offloads))
    }

    /// Opens a further queue of the same device; the kernel spreads flows over all queues. For a device that was made
    /// with [`TunOptions::queues`] above 1, which is not enforced as an upper bound: the kernel's is 256.
    ///
    /// # Errors
    /// [`TunError::OneQueue`], or a missing privilege.
    pub fn another_queue(&self) -> Result<Self, TunError> {
        if !self.several {
            return Err(TunError::OneQueue {
                name: self.name.clone(),
            });
        }
        let file = open_door()?;
        let (name, vnet) = attach(&file, &self.name, self.vnet, true)?;
        if name != self.name || vnet != self.vnet {
            return Err(TunError::NameTaken {
                name: self.name.clone(),
                source: io::ErrorKind::NotFound.into(),
            });
        }
        let mut queue = Self::adopt(file, name, self.mtu)?;
        queue.several = true;
        queue.segments = self.segments;
        // Offloads belong to the device, not to a queue.
        Ok(queue.with(vnet, self.offloads))
    }

    /// What the kernel leaves to us, each received packet being whole and right all the same.
    #[must_use]
    pub fn offloads(&self) -> Offloads {
        self.offloads
    }

    /// What this queue has carried in batches.
    #[must_use]
    pub fn counts(&self) -> TunCounts {
        self.counting.read()
    }

    /// Gives the descriptor away, for example to an unprivileged child; the device lives on in it. Whoever gets it must
    /// expect a vnet header unless [`TunOptions::offload`] was off.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.file.into_inner().into()
    }

    fn adopt(file: File, name: String, mtu: usize) -> Result<Self, TunError> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(TunError::NoRuntime);
        }
        let file = match sys::watch(file) {
            Ok(file) => file,
            Err(source) => return Err(TunError::os("watch", &name, source)),
        };
        Ok(Self {
            file,
            name,
            mtu,
            vnet: false,
            several: false,
            offloads: Offloads::default(),
            segments: SUPER_SEGMENTS,
            send_tcp: AtomicBool::new(false),
            send_udp: AtomicBool::new(false),
            backlog: Mutex::default(),
            counting: Counting::default(),
        })
    }

    fn with(mut self, vnet: bool, offloads: Offloads) -> Self {
        self.vnet = vnet;
        self.offloads = offloads;
        self.send_tcp = AtomicBool::new(offloads.tcp);
        self.send_udp = AtomicBool::new(offloads.udp);
        self
    }

    fn send_coalesced(&self, packets: &mut dyn Iterator<Item = &[u8]>, allowed: Allowed) -> Sent {
        let mut file = self.file.get_ref();
        let outcome = coalesce(packets, allowed, |parts| {
            file.write_vectored(parts).map(drop)
        });
        Counting::add(&self.counting.supers_sent, outcome.supers);
        Counting::add(&self.counting.segments_sent, outcome.segments);
        if outcome.tcp_refused {
            self.send_tcp.store(false, Ordering::Relaxed);
        }
        if outcome.udp_refused {
            self.send_udp.store(false, Ordering::Relaxed);
        }
        if outcome.tcp_refused || outcome.udp_refused {
            tracing::debug!(
                device = self.name,
                tcp = outcome.tcp_refused,
                udp = outcome.udp_refused,
                "the kernel refused a super-packet; packets go one by one from now on"
            );
        }
        Sent {
            taken: outcome.taken,
            lost: outcome.offered - outcome.taken,
        }
    }

    fn write_alone(&self, packet: &[u8]) -> io::Result<()> {
        let mut file = self.file.get_ref();
        // The kernel takes a packet whole or not at all.
        if self.vnet {
            let parts = [IoSlice::new(&[0; VNET_LEN]), IoSlice::new(packet)];
            file.write_vectored(&parts).map(drop)
        } else {
            file.write(packet).map(drop)
        }
    }
}

impl Tun for TunDevice {
    fn poll_recv(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if buffer.len() < self.mtu {
            // The kernel would silently cut the packet.
            let why = "the buffer is smaller than the device's MTU";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidInput, why)));
        }
        if self.vnet {
            let mut backlog = backlog::lock(&self.backlog);
            return backlog.next(buffer, |batch| self.fill(cx, batch));
        }
        loop {
            let mut ready = ready!(self.file.poll_read_ready(cx))?;
            if let Ok(done) = ready.try_io(|file| file.get_ref().read(buffer)) {
                return Poll::Ready(done);
            }
        }
    }

    fn poll_send(&self, cx: &mut Context<'_>, packet: &[u8]) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.file.poll_write_ready(cx))?;
            if let Ok(done) = ready.try_io(|_| self.write_alone(packet)) {
                return Poll::Ready(done);
            }
        }
    }

    /// A batch that is not empty and has no room for a super-packet gets nothing.
    fn poll_recv_batch(
        &self,
        cx: &mut Context<'_>,
        batch: &mut PacketBatch,
    ) -> Poll<io::Result<usize>> {
        if self.vnet {
            let moved = backlog::lock(&self.backlog).move_into(batch);
            if moved > 0 {
                return Poll::Ready(Ok(moved));
            }
        }
        self.fill(cx, batch)
    }

    fn send_each(&self, packets: &mut dyn Iterator<Item = &[u8]>) -> Sent {
        let allowed = Allowed {
            tcp: self.send_tcp.load(Ordering::Relaxed),
            udp: self.send_udp.load(Ordering::Relaxed),
        };
        let sent = if allowed.tcp || allowed.udp {
            self.send_coalesced(packets, allowed)
        } else {
            let mut sent = Sent::default();
            for packet in packets {
                match self.write_alone(packet) {
                    Ok(()) => sent.taken += 1,
                    Err(_) => sent.lost += 1,
                }
            }
            sent
        };
        Counting::add(&self.counting.lost, sent.lost);
        sent
    }

    fn mtu(&self) -> usize {
        self.mtu
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl AsFd for TunDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.get_ref().as_fd()
    }
}

/// Attaches `file` to the device, with a vnet header if wanted and possible.
fn attach(
    file: &File,
    name: &str,
    offload: bool,
    several: bool,
) -> Result<(String, bool), TunError> {
    let queue = if several { libc::IFF_MULTI_QUEUE } else { 0 };
    if offload && let Ok(name) = sys::attach(file, name, queue | libc::IFF_VNET_HDR) {
        sys::set_vnet_header(file, VNET_LEN as libc::c_int)
            .map_err(|source| TunError::os("configure", &name, source))?;
        return Ok((name, true));
    }
    let name =
        sys::attach(file, name, queue).map_err(|source| TunError::os("create", name, source))?;
    Ok((name, false))
}

/// Asks for offloads, if there is a header to tell of them.
fn negotiate(file: &File, name: &str, vnet: bool) -> Offloads {
    let offloads = if vnet {
        Offloads::most(|work| sys::set_offload(file, work).is_ok())
    } else {
        Offloads::default()
    };
    tracing::debug!(device = name, ?offloads, "TUN offloads");
    offloads
}
