//! What the connections of one server may hold together: who is not read meanwhile, and who has to
//! go when that does not help.
//!
//! Does not know: how anything is read or written.

use core::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::net::context::{Context, LogLevel};
use crate::net::listener::Budget;
use crate::net::number::{ConnId, ServerId};
use crate::net::poller::Poller;
use crate::net::slot::Stage;

/// How long a server stays over its budget before a connection has to go.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long after that the next one has to.
const NEXT: Duration = Duration::from_millis(100);
/// An unfinished message is large from this part of the budget on.
const LARGE_PART: u64 = 64;

impl Context {
    fn budget_of(&mut self, id: ConnId) -> Option<&mut Budget> {
        let server = self.slots.at(id.index()).server?;
        self.servers.get(server)?.budget.as_deref_mut()
    }

    /// Takes note of what a connection holds now.
    #[inline]
    pub(crate) fn account(&mut self, id: ConnId) {
        if self.slots.at(id.index()).flags.budgeted {
            self.account_for(id);
        }
    }

    fn account_for(&mut self, id: ConnId) {
        let slot = self.slots.at(id.index());
        let mut now = 0;
        if let Stage::Open(established) = &slot.stage {
            now += established.receive.held() as u64;
            now += slot.unread.as_ref().map_or(0, |unread| unread.capacity()) as u64;
            now += slot
                .output
                .map_or(0, |output| self.outputs.get(output).len() as u64);
        }
        let before = core::mem::replace(&mut slot.held, now);
        if now != before
            && let Some(budget) = self.budget_of(id)
        {
            budget.held = budget.held - before + now;
        }
    }

    /// Whether a connection is not to be read now, because its server is over its budget and this
    /// one is amid a large message that would take more. It is read again when there is relief; one
    /// that has its memory already goes on, because its end is relief.
    pub(crate) fn has_to_wait(&mut self, id: ConnId) -> bool {
        let now = self.now;
        let slot = self.slots.at(id.index());
        let held = slot.held;
        let is_growing = match &slot.stage {
            Stage::Open(established) => established.receive.is_growing(),
            _ => false,
        };
        let Some(budget) = self.budget_of(id) else {
            return false;
        };
        let is_far_over = budget.held.saturating_sub(budget.max) > budget.max / 4;
        let is_large = held >= budget.max / LARGE_PART || is_far_over;
        if !(budget.is_over() && is_growing && is_large) {
            return false;
        }
        budget.waiting.push(id);
        let slot = self.slots.at(id.index());
        slot.flags.waiting = true;
        if let Stage::Open(established) = &mut slot.stage {
            established.connection.pause(now);
        }
        self.update_interest(id);
        true
    }

    /// Sees who is over budget, and lets those read on whose server is not any more.
    pub(crate) fn check_budgets(&mut self) {
        let mut relieved = Vec::new();
        // Outside of a dispatch the loop's own time may be an old one.
        let (now, is_dispatching) = (self.now, self.dispatching);
        let now = || if is_dispatching { now } else { Poller::now() };
        for server in self.servers.iter_mut() {
            let Some(budget) = &mut server.budget else {
                continue;
            };
            if budget.is_over() {
                if budget.relief_at.is_none() {
                    budget.relief_at = Some(now().after(PATIENCE));
                }
            } else if budget.relief_at.take().is_some() {
                relieved.append(&mut budget.waiting);
            }
        }
        for id in relieved {
            self.stop_waiting(id);
        }
    }

    fn stop_waiting(&mut self, id: ConnId) {
        let now = self.now;
        let Some(slot) = self.slots.get(id) else {
            return;
        };
        if !std::mem::take(&mut slot.flags.waiting) || slot.flags.paused {
            return;
        }
        if let Stage::Open(established) = &mut slot.stage {
            established.connection.resume(now);
        }
        self.read_again(id);
    }

    /// Ends the largest connection of each server that is still over its budget.
    pub(crate) fn relieve(&mut self) {
        let now = self.now;
        let mut due: Vec<(ServerId, u64, u64)> = Vec::new();
        for server in self.servers.iter_mut() {
            if let Some(budget) = &mut server.budget
                && budget.relief_at.is_some_and(|at| at <= now)
            {
                budget.relief_at = Some(now.after(NEXT));
                due.push((server.id, budget.held, budget.max));
            }
        }
        for (server, held, max) in due {
            let all = self.connections_of(server);
            let largest = all
                .into_iter()
                .max_by_key(|id| self.slots.at(id.index()).held);
            if let Some(id) = largest.filter(|_| held > max) {
                self.end_largest(id, held, max);
            }
        }
    }

    fn end_largest(&mut self, id: ConnId, held: u64, max: u64) {
        let slot = self.slots.at(id.index());
        let own = slot.held;
        let error = Error::new(
            ErrorKind::OverBudget,
            format!(
                "the server's connections hold {held} bytes, more than max_buffered_bytes, {max}, and this one {own} of them"
            ),
        );
        self.log(LogLevel::Warn, || format!("{id}: {error}"));
        let slot = self.slots.at(id.index());
        let backlog = slot
            .output
            .map_or(0, |output| self.outputs.get(output).len());
        let is_open =
            matches!(&slot.stage, Stage::Open(established) if established.connection.is_open());
        if is_open && (backlog as u64) < own / 2 {
            self.fail(id, error);
            self.account(id);
        } else {
            // Behind what waits to be written a Close frame would not get through, and what waits is
            // what has to go.
            self.end(id, error, true);
        }
    }
}
