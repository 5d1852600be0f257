//! The device's side: packets of the operating system go to the queue of their destination's lane.

use std::os::fd::AsFd;

use super::{SteerError, checked, program, sys};
use crate::tun::TunDevice;

/// From now on the queue number *k* of `device`, in the order in which they were opened, gets the
/// packets of lane *k* of `lanes`. To be called before the further queues are opened
/// ([`TunDevice::another_queue`]): until all are, packets go to the wrong ones.
///
/// # Errors
/// [`SteerError::Device`]: missing privilege, or a kernel without it. Nothing has changed then.
pub fn steer_device(device: &TunDevice, lanes: usize) -> Result<(), SteerError> {
    let program = program::by_destination(checked(lanes)?);
    let refused = |step| move |source| SteerError::Device { step, source };
    let program = sys::load(&program).map_err(refused("load the program"))?;
    sys::steer(device.as_fd(), program.as_fd()).map_err(refused("give it to the device"))
}
