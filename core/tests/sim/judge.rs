//! What has to hold of a whole world: after each turn, and when everything has ended.
//!
//! Does not know: how a run goes on.

use wsabi::{ErrorKind, Role};

use crate::chance::{self, Fault};
use crate::hostile::{Expected, Raw};
use crate::kernel::{self, CLIENT, SERVER, name};
use crate::memory;
use crate::model::{Seen, judge};
use crate::net::slot::Stage;
use crate::oracle::{Talk, code_for};
use crate::protocol::connection::Phase;
use crate::world::World;

impl World {
    /// What a server's budget knows is what its connections hold.
    pub(crate) fn look_at_budget(&mut self, which: usize) -> Result<(), String> {
        let this = &self.loops[which];
        let server = self.server.filter(|_| which == 0);
        let Some(server) = server.and_then(|server| this.servers.peek(server)) else {
            return Ok(());
        };
        let Some(budget) = &server.budget else {
            return Ok(());
        };
        if budget.is_over() {
            chance::hit(Fault::OverBudget);
        }
        let (mut sum, mut known) = (0, 0);
        for id in this.slots.ids() {
            let Some(slot) = this.slots.peek(id).filter(|slot| slot.server.is_some()) else {
                continue;
            };
            known += slot.held;
            if let Stage::Open(open) = &slot.stage {
                sum += open.receive.held() as u64 + this.backlog(slot);
                sum += slot
                    .unread
                    .as_ref()
                    .map_or(0, |unread| unread.capacity() as u64);
            }
        }
        if (budget.held, known) == (sum, sum) {
            return Ok(());
        }
        Err(format!(
            "a server's connections hold {sum} bytes; its budget counts {}, they {known}",
            budget.held
        ))
    }

    /// Who was pressed and has nothing waiting any more was told so.
    pub(crate) fn look_for_drains(&mut self, which: usize) -> Result<(), String> {
        for live in self.app.live.iter().filter(|live| live.in_loop == which) {
            let this = &self.loops[which];
            // Of one that has failed only the end is told.
            let is_alive = this
                .slots
                .peek(live.id)
                .is_some_and(|slot| match &slot.stage {
                    Stage::Open(open) => {
                        open.connection.phase() != Phase::Failed && this.backlog(slot) == 0
                    }
                    _ => false,
                });
            if is_alive && !self.app.talks[live.link].ends[live.side].is_drained() {
                let place = name(live.link, live.side);
                return Err(format!("{place}: nothing waits, and no drain came"));
            }
        }
        Ok(())
    }

    /// The library's memory is bounded by the limits of the connections there were.
    pub(crate) fn look_at_memory(&mut self) -> Result<(), String> {
        // A loop has a receive buffer, and a few compressors and decompressors with their room.
        let shared = if self.setup.temper.deflates {
            4_000_000
        } else {
            400_000
        };
        let mut bound = shared * self.loops.len() as u64;
        for (link, talk) in self.app.talks.iter().enumerate() {
            for (side, end) in talk.ends.iter().enumerate().filter(|(_, end)| end.is_ours) {
                let config = &end.config;
                let largest = self.setup.temper.largest + config.high_water_bytes;
                let backlog = config.max_backlog_bytes.max(largest) + 1024;
                let written = kernel::with(|kernel| kernel.links[link].pipes[side].written);
                let output = 2 * (backlog + backlog.max(written.min(65_536)));
                let unread =
                    2 * kernel::with(|kernel| kernel.links[link].plan.capacity[1 - side] as u64);
                let head = 4 * u64::from(config.max_handshake_bytes)
                    + 64 * u64::from(config.max_handshake_headers);
                let own = if config.deflate.is_some() {
                    400_000
                } else {
                    4096
                };
                bound += output + unread + head + 2 * config.max_message_bytes + own;
            }
        }
        let held = memory::take_peak() - self.memory_base;
        chance::line(|| format!("the library holds {held} bytes, may hold {bound}"));
        if held > bound as i64 {
            return Err(format!(
                "the library holds {held} bytes; all limits together are {bound}"
            ));
        }
        Ok(())
    }

    /// What has to hold when everything has ended.
    pub(crate) fn judge_end(&mut self) -> Result<(), String> {
        self.app.look_at_wires()?;
        if self.app.stopped != 1 {
            return Err(format!("on_stopped came {} times", self.app.stopped));
        }
        for (link, talk) in self.app.talks.iter().enumerate() {
            for (side, end) in talk.ends.iter().enumerate().filter(|(_, end)| end.is_ours) {
                let place = name(link, side);
                let expects_close = side == CLIENT || end.opened;
                if expects_close != end.closed.is_some() {
                    return Err(format!(
                        "{place}: on_close is due: {expects_close}; {}",
                        end.summary()
                    ));
                }
                if end.handed > end.accepted.len() {
                    return Err(format!(
                        "{place}: more was handed over than accepted; {}",
                        end.summary()
                    ));
                }
                let is_whole = end.closed.as_ref().is_some_and(|closed| closed.is_clean());
                if !self.setup.temper.is_rough && !is_whole {
                    return Err(format!(
                        "{place}: nothing was done to it, and it did not close; {}",
                        end.summary()
                    ));
                }
            }
        }
        for this in &mut self.loops {
            let (stats, timer) = (this.stats(), this.timers.next());
            if stats.connections + stats.pending_handshakes + stats.buffered_bytes > 0
                || timer.is_some()
            {
                return Err(format!("left behind: {stats:?}, timer {timer:?}"));
            }
        }
        self.raws
            .iter()
            .try_for_each(|raw| judge_raw(raw, &self.app.talks[raw.link]))
    }
}

/// What has to hold for an end of the library whose peer was raw.
fn judge_raw(raw: &Raw, talk: &Talk) -> Result<(), String> {
    let side = 1 - raw.side;
    let (end, place) = (&talk.ends[side], name(raw.link, side));
    let (killed, all_sent) = (
        kernel::with(|kernel| kernel.links[raw.link].killed),
        raw.head <= raw.sent.len(),
    );
    match raw.expected {
        Expected::Status(status) => {
            if end.opened {
                return Err(format!("{place}: a broken request opened a connection"));
            }
            // It may have been too late, or one too many, or the server was stopping.
            if !matches!(end.status, 0 | 408 | 503) && end.status != status {
                return Err(format!(
                    "{place}: the status was {}; expected {status}",
                    end.status
                ));
            }
            return Ok(());
        }
        Expected::Kind(_) if end.opened => {
            return Err(format!("{place}: a broken response opened a connection"));
        }
        Expected::Kind(expected) => {
            let kind = end
                .closed
                .as_ref()
                .and_then(|closed| closed.error.as_ref())
                .map(|error| error.kind());
            let elsewhere = [
                ErrorKind::Lost,
                ErrorKind::HandshakeTimeout,
                ErrorKind::Terminated,
                ErrorKind::Stopped,
            ];
            if kind != Some(expected) && !kind.is_some_and(|kind| elsewhere.contains(&kind)) {
                return Err(format!(
                    "{place}: ended for {kind:?}; expected {expected:?}"
                ));
            }
            return Ok(());
        }
        Expected::Open if !all_sent || !end.opened => return Ok(()),
        Expected::Open => {}
    }
    let role = if side == SERVER {
        Role::Server
    } else {
        Role::Client
    };
    let plain = raw.plain.unwrap_or(raw.sent.len()).min(raw.sent.len());
    let mut verdict = judge(&raw.sent[raw.head..plain], role, &end.config);
    let is_packed = raw.sent.len() > plain;
    if is_packed {
        let after = end.seen.get(verdict.seen.len());
        let hello = Seen::Text(b"Hello".to_vec());
        // No octets at all are an empty message.
        let is_fine = matches!(after, Some(Seen::Binary(_)))
            || [Some(&hello), Some(&Seen::Text(Vec::new()))].contains(&after);
        verdict.seen.extend(after.filter(|_| is_fine).cloned());
    }
    if !verdict.seen.starts_with(&end.seen) {
        return Err(format!(
            "{place}: heard {:?}; expected {:?}",
            end.seen, verdict.seen
        ));
    }
    let kind = end
        .closed
        .as_ref()
        .and_then(|closed| closed.error.as_ref())
        .map(|error| error.kind());
    let is_of_peer = matches!(
        kind,
        Some(
            ErrorKind::Protocol
                | ErrorKind::InvalidText
                | ErrorKind::InvalidDeflate
                | ErrorKind::MessageTooBig
                | ErrorKind::TooManyFragments
        )
    );
    if is_of_peer && !is_packed && (kind != verdict.failure || end.seen != verdict.seen) {
        return Err(format!(
            "{place}: failed for {kind:?} after {:?}; expected {verdict:?}",
            end.seen
        ));
    }
    let lost_for_nothing =
        kind == Some(ErrorKind::Lost) && !killed && !raw.has_reset && end.failed.is_none();
    if lost_for_nothing && verdict.failure.is_some() && raw.has_said_all {
        return Err(format!(
            "{place}: lost after {:?}; expected {verdict:?}",
            end.seen
        ));
    }
    let spoke_before = end.called_close || end.heard_close;
    if let (Some(kind), Some((code, _)), false) = (end.failed, &end.sent_close, spoke_before) {
        // A server that is stopping has sent 1001 before.
        if *code != code_for(kind) && *code != 1001 {
            return Err(format!(
                "{place}: failed for {kind:?} with the close code {code}"
            ));
        }
    }
    Ok(())
}
