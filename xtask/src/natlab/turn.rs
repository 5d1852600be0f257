//! Who may load the machine. Worlds that stand side by side wait side by side; a stream that is
//! measured has the machine to itself. It refuses to keep such a stream waiting for longer than one
//! attempt of everybody else.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// What all turns are taken of.
#[derive(Debug, Default)]
pub struct Floor(RwLock<()>);

/// One worker's right to go on.
#[derive(Debug)]
pub struct Turn<'a> {
    floor: &'a Floor,
    held: Option<RwLockReadGuard<'a, ()>>,
}

impl<'a> Turn<'a> {
    /// Beside everybody else.
    pub fn begin(floor: &'a Floor) -> Self {
        let mut turn = Self { floor, held: None };
        turn.pass();
        turn
    }

    /// Lets those go first who want to be alone.
    pub fn pass(&mut self) {
        self.held = None;
        let held = self.floor.0.read();
        self.held = Some(held.unwrap_or_else(PoisonError::into_inner));
    }

    /// Does something while nobody else does anything.
    pub fn alone<T>(&mut self, work: impl FnOnce() -> T) -> T {
        self.held = None;
        let alone = self.floor.0.write();
        let alone = alone.unwrap_or_else(PoisonError::into_inner);
        let done = work();
        drop(alone);
        self.pass();
        done
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn whoever_wants_to_be_alone_is() {
        let floor = Floor::default();
        let (beside, alone) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut turn = Turn::begin(&floor);
                    for _ in 0..200 {
                        beside.fetch_add(1, Ordering::SeqCst);
                        std::thread::yield_now();
                        beside.fetch_sub(1, Ordering::SeqCst);
                        turn.alone(|| {
                            assert_eq!(beside.load(Ordering::SeqCst), 0);
                            alone.fetch_add(1, Ordering::SeqCst);
                        });
                        turn.pass();
                    }
                });
            }
        });
        assert_eq!(alone.into_inner(), 800);
    }
}
