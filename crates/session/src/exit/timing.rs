//! What an exit does by the clock: reports, time that has to be paid for, sessions to be given up.
//! It refuses to search: each session has one entry in the agenda, and those that are due are looked at.

use std::time::Instant;

use super::{Exit, ExitOutput, REPORT_EVERY};
use crate::{Deadline, ProviderFrame, Why};

impl Exit {
    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.endpoint.handle_timeout(now);
        self.drain_tunnel(now);
        self.collector.handle_timeout(now);
        if now >= self.next_report {
            self.next_report = now + REPORT_EVERY;
            self.report(now);
        }
        for slot in self.roster.due(now) {
            self.look_at(slot, now);
        }
        self.drain_collector(now);
    }

    /// When [`Exit::handle_timeout`] wants to be called, and why. Never too late; sometimes there is nothing to do yet.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let tunnel = self.endpoint.poll_timeout().map(|deadline| Deadline {
            at: deadline.at,
            why: Why::Tunnel,
        });
        let payment = self.collector.poll_timeout().map(|deadline| Deadline {
            at: deadline.at,
            why: Why::Payment,
        });
        let report = (!self.roster.is_empty()).then_some(Deadline {
            at: self.next_report,
            why: Why::Report,
        });
        let look = self.roster.first_look().map(|(at, session)| Deadline {
            at,
            why: if session.tell_at.is_some_and(|tell_at| tell_at <= at) {
                Why::Payment
            } else {
                Why::Silence
            },
        });
        [tunnel, payment, report, look]
            .into_iter()
            .flatten()
            .min_by_key(|deadline| deadline.at)
    }

    fn report(&mut self, now: Instant) {
        for slot in self.roster.slots() {
            self.update_payments(slot, now);
            self.update_gate(slot, now);
            let Some(session) = self.roster.session(slot) else {
                continue;
            };
            let (token, usage) = (session.token, session.meter.usage(now));
            self.push(ExitOutput::Frame {
                token,
                frame: ProviderFrame::Usage(usage),
            });
        }
    }

    /// Time costs something too, with or without packets: it is asked for before it has used up the credit. And what stays silent or
    /// unpaid for too long is given up.
    fn look_at(&mut self, slot: u32, now: Instant) {
        let Some(session) = self.roster.session(slot) else {
            return;
        };
        if session.tell_at.is_some_and(|at| now >= at) {
            self.update_payments(slot, now);
            self.update_gate(slot, now);
        }
        if self
            .roster
            .session(slot)
            .is_some_and(|s| now >= s.gives_up_at())
        {
            self.give_up(slot, now);
        } else {
            self.roster.looked_at(slot);
        }
    }
}
