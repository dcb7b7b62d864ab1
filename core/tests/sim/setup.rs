//! What a run is made of: limits and times, links and what becomes of them, who connects and when.
//! Everything by chance, and fit together so that a run ends.
//!
//! Does not know: the loop, or the model.

use std::time::Duration;

use wsabi::Config;

use crate::config::DeflateOptions;

use crate::app::Temper;
use crate::chance::Chance;
use crate::kernel::{CLIENT, Connect, Kill, Plan, SERVER, Weather};

/// Who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// A client of the library to the library's server.
    Client,
    /// A raw client to the library's server.
    RawClient,
    /// A client of the library to a raw server.
    ToRawServer,
}

#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) temper: Temper,
    pub(crate) weather: Weather,
    pub(crate) server: Config,
    /// What the server's connections may hold together.
    pub(crate) server_budget: Option<u64>,
    /// When who connects.
    pub(crate) starts: Vec<(u64, Start)>,
    /// Whether one loop has all ends.
    pub(crate) one_loop: bool,
    pub(crate) max_events: u32,
    pub(crate) defers: bool,
    /// Commands given in all.
    pub(crate) budget: u32,
    /// When everything begins to come to its end.
    pub(crate) ending_at: u64,
    /// When the clock jumps, if it does.
    pub(crate) jump_at: Option<u64>,
    /// When the server is stopped, and the time it gives; at the end, if absent.
    pub(crate) stop_at: Option<(u64, Duration)>,
    /// When the loops are freed amid everything, if they are.
    pub(crate) free_at: Option<u64>,
    /// In how many of 1000 turns a loop is kept from its turn, and for how long at most.
    pub(crate) late: (u64, u64),
    pub(crate) spurious_dispatch: u64,
    /// In how many of 1000 turns a loop waits, and is dispatched later.
    pub(crate) waits: u64,
    /// How many connections are made inside callbacks.
    pub(crate) reconnects: u64,
}

/// A time that is never reached in a run where nothing is to be lost.
const NEVER: Duration = Duration::from_secs(48 * 3600);

impl Setup {
    pub(crate) fn new(chance: &mut Chance) -> Self {
        let is_rough = chance.hits(700);
        let largest = *chance.pick(&[40, 300, 300, 300, 1500, 1500, 9000]);
        let largest = if chance.hits(15) { 150_000 } else { largest };
        let temper = Temper {
            is_rough,
            deflates: chance.hits(250),
            storm: *chance.pick(&[0, 50, 200, 500]),
            closes: chance.hits(800),
            largest,
            over_limit: *chance.pick(&[0, 0, 50]),
            hold: if is_rough {
                *chance.pick(&[0, 100, 400])
            } else {
                0
            },
            refuse: if is_rough { *chance.pick(&[0, 50]) } else { 0 },
            leaves_pongs: chance.hits(150),
        };
        let mut rarely = |most: u64| *chance.pick(&[0, most / 8, most / 2, most]);
        let weather = Weather {
            chunk: rarely(1000),
            short_write: rarely(600),
            again: rarely(300),
            again_ms: 20,
            duplicate: rarely(200),
            spurious: rarely(200),
            accept_fails: rarely(300),
        };
        let mut starts: Vec<_> = (0..chance.between(1, 3))
            .map(|_| (chance.scale(200), Start::Client))
            .collect();
        if is_rough {
            for start in [Start::RawClient, Start::ToRawServer] {
                for _ in 0..chance.scale(2) {
                    starts.push((chance.scale(400), start));
                }
            }
        }
        starts.sort_by_key(|&(at, _)| at);
        let rough = |chance: &mut Chance, per_mille| is_rough && chance.hits(per_mille);
        Self {
            server: config(chance, &temper),
            server_budget: rough(chance, 250).then(|| chance.scale(4 * largest)),
            one_loop: chance.hits(300),
            max_events: if chance.hits(150) {
                chance.between(1, 6) as u32
            } else {
                4096
            },
            defers: chance.hits(150),
            budget: chance.between(20, 200) as u32,
            ending_at: 100 + chance.scale(6000),
            jump_at: rough(chance, 60).then(|| chance.scale(3000)),
            stop_at: rough(chance, 120).then(|| {
                (
                    chance.scale(3000),
                    Duration::from_millis(chance.scale(2000)),
                )
            }),
            free_at: rough(chance, 30).then(|| chance.scale(2000)),
            late: (rarely_late(chance), if is_rough { 8000 } else { 200 }),
            spurious_dispatch: *chance.pick(&[0, 0, 50]),
            waits: *chance.pick(&[0, 0, 50, 400]),
            reconnects: chance.scale(2),
            temper,
            weather,
            starts,
        }
    }

    /// What becomes of a link; one end is raw, or none.
    pub(crate) fn plan(&self, chance: &mut Chance) -> Plan {
        let rough = self.temper.is_rough;
        let most = *chance.pick(&[0, 0, 1, 10, 50]);
        let largest = self.temper.largest;
        let mut capacity = || match largest {
            40 if chance.hits(300) => chance.between(1, 16),
            _ => chance.between(largest / 8 + 16, 4 * largest + 600),
        } as usize;
        let capacity = [capacity(), capacity()];
        let kill = (rough && chance.hits(350)).then(|| {
            let kill = match chance.below(4) {
                0 | 1 => Kill::Reset,
                2 => Kill::Fin,
                _ => Kill::Silence {
                    both: chance.coin(),
                },
            };
            let side = if chance.coin() { CLIENT } else { SERVER };
            (side, chance.scale(6 * largest + 400), kill)
        });
        Plan {
            connect: match rough {
                true if chance.hits(30) => Connect::Refused,
                true if chance.hits(20) => Connect::Unanswered,
                _ => Connect::Made,
            },
            latency: (chance.below(most + 1), most),
            capacity,
            kill,
        }
    }
}

fn rarely_late(chance: &mut Chance) -> u64 {
    *chance.pick(&[0, 0, 30, 200])
}

/// Limits and times: small ones, so that each is met now and then.
pub(crate) fn config(chance: &mut Chance, temper: &Temper) -> Config {
    let is_rough = temper.is_rough;
    let mut time = |most: u64| match is_rough {
        true => Duration::from_millis(chance.scale(most) + 20),
        false => NEVER,
    };
    let (handshake_timeout, hold_timeout) = (time(5000), time(3000));
    let (ping_timeout, close_timeout, idle) = (time(3000), time(3000), time(6000));
    let ping_interval = chance
        .coin()
        .then(|| Duration::from_millis(chance.scale(3000) + 20));
    let high_water_bytes = chance.scale(2 * temper.largest);
    Config {
        max_message_bytes: temper.largest * *chance.pick(&[1, 1, 2]) / *chance.pick(&[1, 1, 3]) + 1,
        max_fragments: *chance.pick(&[1, 2, 5, 64, 65_536]),
        max_handshake_bytes: *chance.pick(&[512, 1000, 16 << 10]),
        max_handshake_headers: *chance.pick(&[10, 20, 100]),
        handshake_timeout,
        hold_timeout,
        ping_interval,
        ping_timeout,
        idle_timeout: (is_rough && chance.hits(400)).then_some(idle),
        close_timeout,
        max_pending_handshakes: if is_rough {
            *chance.pick(&[1, 2, 1024])
        } else {
            1024
        },
        high_water_bytes,
        low_water_bytes: chance.scale(high_water_bytes),
        max_backlog_bytes: high_water_bytes + chance.scale(4 * temper.largest),
        no_delay: chance.coin(),
        stream_messages: chance.hits(250),
        deflate: (temper.deflates && chance.hits(850)).then(|| deflate(chance, temper)),
    }
}

fn deflate(chance: &mut Chance, temper: &Temper) -> DeflateOptions {
    let is_large = chance.hits(100);
    let mut bits = || chance.between(9, if is_large { 15 } else { 10 }) as u8;
    let (server_max_window_bits, client_max_window_bits) = (bits(), bits());
    DeflateOptions {
        server_max_window_bits,
        client_max_window_bits,
        server_context_takeover: chance.coin(),
        client_context_takeover: chance.coin(),
        level: chance.between(1, 9) as u8,
        mem_level: if is_large { 8 } else { 1 },
        min_bytes: chance.scale(temper.largest),
        max_ratio: None,
    }
}
