//! Byte pacing of client connections: which pacers a connection has, and what one message may pass.
//! A route without `pacing` costs a test of an `Option`.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use config::model::Pacing;

use super::pace::{Pacer, Turn};
use crate::request::plan::Plan;
use crate::route::table::RouteLife;
use crate::upstream::io::UpstreamIo;

/// Reads of an answer's head, which may bring along as much of its body.
const HEAD_READ: RangeInclusive<usize> = 512..=2048;
/// Routes of one connection whose pacers are kept while no request is under way.
const MOST_KEPT: usize = 32;

/// The pacers of one client connection: one of each route, whatever its generation.
#[derive(Default)]
pub struct PacerShelf(RefCell<Vec<Rc<Pacers>>>);

/// The pacers of one client connection on one route, shared by all its requests.
pub struct Pacers {
    /// Tells the route: ids change with every reload.
    life: Arc<RouteLife>,
    download: Direction,
    upload: Direction,
}

/// `None`: it is not paced.
type Direction = RefCell<Option<Pacer>>;

impl PacerShelf {
    /// The pacers of a route, at the rates that hold now, also for its requests under way.
    pub fn pacers(&self, life: &Arc<RouteLife>, pacing: &Pacing, now_ms: u64) -> Rc<Pacers> {
        let mut shelf = self.0.borrow_mut();
        if let Some(pacers) = shelf.iter().find(|pacers| Arc::ptr_eq(&pacers.life, life)) {
            set(&pacers.download, pacing.download, now_ms);
            set(&pacers.upload, pacing.upload, now_ms);
            return pacers.clone();
        }
        shelf.retain(|pacers| Rc::strong_count(pacers) > 1 || !pacers.rested(now_ms));
        if shelf.len() >= MOST_KEPT
            && let Some(unused) = shelf.iter().position(|pacers| Rc::strong_count(pacers) == 1)
        {
            shelf.remove(unused);
        }
        let new = |rate: Option<u64>| RefCell::new(rate.map(|rate| Pacer::new(rate, now_ms)));
        let (download, upload) = (new(pacing.download), new(pacing.upload));
        let pacers = Rc::new(Pacers { life: life.clone(), download, upload });
        shelf.push(pacers.clone());
        pacers
    }
}

fn set(direction: &Direction, rate: Option<u64>, now_ms: u64) {
    let pacer = &mut *direction.borrow_mut();
    match (pacer, rate) {
        (Some(pacer), Some(rate)) => pacer.set_rate(rate, now_ms),
        (pacer, rate) => *pacer = rate.map(|rate| Pacer::new(rate, now_ms)),
    }
}

impl Pacers {
    fn rested(&self, now_ms: u64) -> bool {
        [&self.download, &self.upload]
            .iter()
            .all(|pacer| pacer.borrow_mut().as_mut().is_none_or(|pacer| pacer.rested(now_ms)))
    }
}

/// The pace of one body, or of one direction of a tunnel. By default it is not paced.
#[derive(Default)]
pub struct Pace(Option<Box<Paced>>);

struct Paced {
    pacers: Rc<Pacers>,
    pick: fn(&Pacers) -> &Direction,
    /// Bytes that pass without being counted first.
    free: u64,
    turn: Turn,
}

impl Pace {
    /// Of an answer to the client.
    pub fn download(plan: &Plan) -> Pace {
        Pace::of(plan, |pacers| &pacers.download)
    }

    /// Of a request from the client.
    pub fn upload(plan: &Plan) -> Pace {
        Pace::of(plan, |pacers| &pacers.upload)
    }

    fn of(plan: &Plan, pick: fn(&Pacers) -> &Direction) -> Pace {
        let Some(pacers) = &plan.pacers else { return Pace(None) };
        if pick(pacers).borrow().is_none() {
            return Pace(None);
        }
        let free = plan.route.pacing.as_ref().map_or(0, |pacing| pacing.after);
        Pace(Some(Box::new(Paced { pacers: pacers.clone(), pick, free, turn: Turn::default() })))
    }

    pub fn is_off(&self) -> bool {
        self.0.is_none()
    }

    /// How much of `wanted` may be read now. 0: it is held back; ask again at the next tick.
    pub fn room(&mut self, now_ms: u64, wanted: usize) -> usize {
        match &mut self.0 {
            None => wanted,
            Some(paced) => paced.room(now_ms, wanted),
        }
    }

    /// The same for bytes of an endpoint, once it has sent some. Pending: it has not, and the task
    /// will be woken. 0: they are held back.
    pub fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut UpstreamIo,
        now_ms: u64,
        wanted: usize,
    ) -> Poll<usize> {
        if !self.is_off() {
            // The read shows an error.
            let _ = ready!(io.poll_read_ready(cx));
        }
        Poll::Ready(self.room(now_ms, wanted))
    }

    /// The same for the head of an answer: not counted itself, but read in small pieces.
    pub fn poll_head_room(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut UpstreamIo,
        now_ms: u64,
        wanted: usize,
    ) -> Poll<usize> {
        let room = ready!(self.poll_room(cx, io, now_ms, wanted));
        let held_or_off = room == 0 || self.is_off();
        let paced = || room.clamp(*HEAD_READ.start(), *HEAD_READ.end()).min(wanted);
        Poll::Ready(if held_or_off { room } else { paced() })
    }

    /// So much was read.
    pub fn passed(&mut self, bytes: usize) {
        if let Some(paced) = &mut self.0 {
            paced.passed(bytes as u64);
        }
    }
}

impl Paced {
    fn room(&mut self, now_ms: u64, wanted: usize) -> usize {
        let room = match self.free {
            0 => match &mut *(self.pick)(&self.pacers).borrow_mut() {
                Some(pacer) => pacer.ask(&mut self.turn, now_ms),
                // The route has been reloaded without it.
                None => return wanted,
            },
            free => free,
        };
        usize::try_from(room).unwrap_or(usize::MAX).min(wanted)
    }

    fn passed(&mut self, bytes: u64) {
        let counted = bytes.saturating_sub(self.free);
        self.free = self.free.saturating_sub(bytes);
        if let Some(pacer) = &mut *(self.pick)(&self.pacers).borrow_mut() {
            pacer.pass(&mut self.turn, counted);
        }
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        if let Some(pacer) = &mut *(self.pick)(&self.pacers).borrow_mut() {
            pacer.leave(&mut self.turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pacing(download: u64) -> Pacing {
        Pacing { download: Some(download), upload: None, after: 0 }
    }

    /// Uses up what may pass of answers at once.
    fn exhaust(pacers: &Pacers, now_ms: u64) -> u64 {
        let mut turn = Turn::default();
        let mut pacer = pacers.download.borrow_mut();
        let pacer = pacer.as_mut().unwrap();
        let room = pacer.ask(&mut turn, now_ms);
        pacer.pass(&mut turn, room);
        pacer.leave(&mut turn);
        room
    }

    #[test]
    fn requests_of_one_route_share_their_pacers_across_reloads() {
        let (shelf, life) = (PacerShelf::default(), Arc::default());
        assert_eq!(exhaust(&shelf.pacers(&life, &pacing(20_480), 0), 0), 2048);
        assert_eq!(exhaust(&shelf.pacers(&life, &pacing(20_480), 0), 0), 0);
        // A higher rate is no new burst.
        let under_way = shelf.pacers(&life, &pacing(40_960), 0);
        assert_eq!(exhaust(&under_way, 0), 0);
        assert_eq!(exhaust(&under_way, 50), 2048);
        assert_eq!(exhaust(&shelf.pacers(&Arc::default(), &pacing(20_480), 50), 50), 2048);
        let upload = Pacing { download: None, upload: Some(1024), after: 0 };
        shelf.pacers(&life, &upload, 50);
        assert!(under_way.download.borrow().is_none() && under_way.upload.borrow().is_some());
    }

    #[test]
    fn only_pacers_that_matter_are_kept() {
        let shelf = PacerShelf::default();
        let lives: Vec<Arc<RouteLife>> = (0..2 * MOST_KEPT).map(|_| Arc::default()).collect();
        let in_use = shelf.pacers(&lives[0], &pacing(1024), 0);
        for life in &lives {
            exhaust(&shelf.pacers(life, &pacing(1024), 0), 0);
            assert!(shelf.0.borrow().len() <= MOST_KEPT);
        }
        assert!(Rc::ptr_eq(&in_use, &shelf.pacers(&lives[0], &pacing(1024), 0)));
        // After a second of rest they are as good as new.
        shelf.pacers(&Arc::default(), &pacing(1024), 1000);
        assert_eq!(shelf.0.borrow().len(), 2);
    }
}
