//! Players of games that run in VMs: each says what it does thirty times a second, and takes note of how evenly the game's updates come.

use super::latencies::Latencies;
use super::plan::Plan;
use super::segment::{MOST, write_datagram};
use super::{MAC, mac_of};
use component::Tables;
use heapless::Vec;

/// Players at most.
const MOST_PLAYERS: usize = 256;
/// The first player's address and the first VM's; the ports of players and games (Quake II's).
const FIRST_PLAYER: u32 = 0x0a03_0001;
const FIRST_VM: u32 = 0x0a00_0210;
const PLAYER_PORT: u16 = 27_901;
const GAME_PORT: u16 = 27_910;
/// Bytes that a player says, and how often: each 33 ms.
const SAID: usize = 40;
const SAYS_US: u64 = 33_000;
/// From one update to the next, as it should be.
const UPDATE_US: u64 = 100_000;
/// Before that, and for that long after it, nothing is measured: all have come in by then.
const START_MS: u64 = 300;
const SETTLES_MS: u64 = 700;

/// One of them.
#[derive(Clone, Copy, Debug)]
struct Player {
    /// When it says something next, and what number that has.
    due: u64,
    said: u32,
    /// When the last update came; 0: none has.
    last: u64,
}

/// All players.
#[derive(Debug)]
pub struct Players {
    plan: Plan,
    players: Vec<Player, MOST_PLAYERS>,
    gaps: Latencies,
    /// From when, and until when, is measured.
    from: u64,
    until: u64,
    updates: u32,
    told: bool,
}

impl Players {
    /// Those of a plan; none where it has no players.
    pub fn new(tables: &mut Tables, plan: Plan) -> Self {
        let ticks = |us: u64| plan.hz / 1000 * us / 1000;
        let count = u64::from(plan.players) * u64::from(plan.vms);
        let start = plan.start + ticks(START_MS * 1000);
        // All in turn, at different times.
        let player = |n| Player { due: start + ticks(SAYS_US) * n / count.max(1), said: 0, last: 0 };
        let players = (0..count).map(player).take(MOST_PLAYERS).collect();
        let from = start + ticks(SETTLES_MS * 1000);
        let until = from + ticks(u64::from(plan.seconds) * 1_000_000);
        Players { plan, players, gaps: Latencies::new(tables), from, until, updates: 0, told: false }
    }

    /// When one says something, or all is told.
    pub fn due(&self) -> u64 {
        let end = if self.told || self.players.is_empty() { u64::MAX } else { self.until };
        self.players.iter().map(|player| player.due).min().unwrap_or(u64::MAX).min(end)
    }

    /// Writes what a player says, when one does. The frame's length.
    pub fn next(&mut self, now: u64, frame: &mut [u8; MOST]) -> Option<usize> {
        self.tell(now);
        let gap = self.ticks(SAYS_US);
        let (index, player) = (0_u32..).zip(&mut self.players).find(|(_, player)| now >= player.due)?;
        player.due += gap;
        player.said += 1;
        let mut said = [0; SAID];
        said[..4].copy_from_slice(&player.said.to_be_bytes());
        said[4..8].copy_from_slice(&index.to_be_bytes());
        let vm = index % self.plan.vms.max(1);
        let cards = (MAC.bytes(), mac_of(vm));
        Some(write_datagram(frame, cards, (FIRST_PLAYER + index, PLAYER_PORT), (FIRST_VM + vm, GAME_PORT), &said))
    }

    /// A VM sends a datagram.
    pub fn listen(&mut self, now: u64, client: (u32, u16), vm: (u32, u16)) {
        let (index, update) = (client.0.wrapping_sub(FIRST_PLAYER), self.ticks(UPDATE_US));
        let is_measured = (self.from..self.until).contains(&now);
        let us = |ticks: u64| ticks * 1000 / (self.plan.hz / 1000).max(1);
        let player = usize::try_from(index).ok().and_then(|index| self.players.get_mut(index));
        let Some(player) = player.filter(|_| client.1 == PLAYER_PORT && vm.1 == GAME_PORT) else { return };
        let last = core::mem::replace(&mut player.last, now);
        if is_measured && last != 0 {
            let off = us(now.saturating_sub(last).abs_diff(update));
            self.gaps.add(0, u32::try_from(off).unwrap_or(u32::MAX));
            self.updates += 1;
        }
    }

    /// Says what came out, at the end.
    fn tell(&mut self, now: u64) {
        if now < self.until || self.players.is_empty() || core::mem::replace(&mut self.told, true) {
            return;
        }
        let [p50, p99, p999, most] = [500, 990, 999, 1000].map(|thousandths| self.gaps.quantile(0, thousandths));
        // Ten in a second.
        let should = u64::try_from(self.players.len()).unwrap_or(0) * u64::from(self.plan.seconds) * 10;
        log::info!(
            "load: players={} updates={} should={should} p50_us={p50} p99_us={p99} p999_us={p999} most_us={most}",
            self.players.len(),
            self.updates
        );
    }

    fn ticks(&self, us: u64) -> u64 {
        self.plan.hz / 1000 * us / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::latencies::BYTES;
    use crate::load::segment::{Heard, read};
    use abi::note::TableBytes;

    const HZ: u64 = 1_000_000_000;

    fn players(seconds: u32) -> Players {
        let per_slot = u32::try_from(BYTES).expect("few");
        let mut tables = Tables::on_heap(TableBytes { per_slot, ..TableBytes::NONE }, 4096, 0);
        Players::new(&mut tables, Plan { players: 4, seconds, vms: 2, hz: HZ, ..Plan::default() })
    }

    #[test]
    fn all_speak_in_turn_and_gaps_are_measured_from_what_they_should_be() {
        let mut players = players(4);
        let (mut now, mut said, mut update) = (0, [0_u32; 8], 0);
        while !players.told {
            let mut frame = [0; MOST];
            while let Some(len) = players.next(now, &mut frame) {
                assert_eq!(len, 82);
                // As the other end reads it.
                frame[26..34].rotate_left(4);
                frame[34..38].rotate_left(2);
                let Some(Heard::Datagram { client, vm }) = read(&frame) else { panic!("no datagram") };
                let index = client.0 - FIRST_PLAYER;
                assert_eq!(vm, (FIRST_VM + index % 2, GAME_PORT));
                said[usize::try_from(index).expect("few")] += 1;
            }
            if now >= update {
                // Every other one 3 ms late.
                let late = update / 100_000_000 % 2 * 3_000_000;
                (0..8).for_each(|n| players.listen(update + late, (FIRST_PLAYER + n, PLAYER_PORT), (0, GAME_PORT)));
                update += 100_000_000;
            }
            now = players.due().min(update).max(now + 1);
        }
        // 4.7 seconds, at 30 a second.
        assert!(said.iter().all(|&said| (142..=144).contains(&said)), "{said:?}");
        assert_eq!(players.updates, 4 * 10 * 8);
        assert!((3_000..3_100).contains(&players.gaps.quantile(0, 500)));
    }

    #[test]
    fn strangers_and_what_goes_elsewhere_are_not_counted() {
        let mut players = players(4);
        for now in [3 * HZ, 3 * HZ + 1] {
            players.listen(now, (FIRST_PLAYER + 8, PLAYER_PORT), (0, GAME_PORT));
            players.listen(now, (FIRST_PLAYER - 1, PLAYER_PORT), (0, GAME_PORT));
            players.listen(now, (FIRST_PLAYER, 1), (0, GAME_PORT));
            players.listen(now, (FIRST_PLAYER, PLAYER_PORT), (0, 1));
        }
        assert_eq!(players.updates, 0);
    }
}
