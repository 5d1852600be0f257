//! A link that loses, doubles, delays and thereby reorders what is sent over it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::Chance;

/// How bad a link is. Probabilities in 1/1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// Lost.
    pub loss: u64,
    /// Delivered twice.
    pub doubling: u64,
    /// The longest delay; each message draws its own.
    pub delay: Duration,
}

impl Weather {
    /// Everything arrives, once, at the next moment.
    pub const FAIR: Self = Self {
        loss: 0,
        doubling: 0,
        delay: Duration::ZERO,
    };
}

/// Messages on their way.
#[derive(Debug)]
pub struct Link<M> {
    weather: Weather,
    travelling: BTreeMap<(Instant, u64), M>,
    sent: u64,
}

impl<M: Clone> Link<M> {
    /// An empty link.
    #[must_use]
    pub fn new(weather: Weather) -> Self {
        Self {
            weather,
            travelling: BTreeMap::new(),
            sent: 0,
        }
    }

    /// The weather changes for what is sent from now on.
    pub fn turn(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// Sends a message; it may arrive never, once or twice.
    pub fn send(&mut self, message: M, now: Instant, chance: &mut Chance) {
        if chance.happens(self.weather.loss) {
            return;
        }
        if chance.happens(self.weather.doubling) {
            self.launch(message.clone(), now, chance);
        }
        self.launch(message, now, chance);
    }

    fn launch(&mut self, message: M, now: Instant, chance: &mut Chance) {
        let delay = chance.below(self.weather.delay.as_micros() as u64 + 1);
        self.travelling
            .insert((now + Duration::from_micros(delay), self.sent), message);
        self.sent += 1;
    }

    /// The next message that has arrived by `now`.
    pub fn arrived(&mut self, now: Instant) -> Option<M> {
        let first = self.travelling.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// When the next message arrives.
    #[must_use]
    pub fn next_arrival(&self) -> Option<Instant> {
        self.travelling.keys().next().map(|(at, _)| *at)
    }
}
