//! The keeper in simulated time: it orders from the mock CA as it would for weeks, in seconds.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use acme::ca::{CaConfig, ChallengeKind};
use acme::keeper::{Issuer, Keeper, KeyKind, Role, Row, Settings, View, Wanted, WantedCertificate};
use acme::ledger::{Limits, Priority};

use crate::harness::acme::MockCa;
use crate::harness::{Lab, wait_until};

pub struct Sim {
    pub lab: Arc<Lab>,
    /// Unix seconds, of the keeper and of the CAs.
    pub clock: Arc<AtomicI64>,
    /// Seconds that have passed.
    uptime: Arc<AtomicI64>,
    pub wanted: Wanted,
    keeper: Option<Keeper>,
}

impl Sim {
    /// Wants one certificate for each of these hosts from this CA, whose clock it shares.
    pub fn start(ca: &MockCa, hosts: &[&str]) -> Sim {
        let mut sim = Sim::idle(ca);
        sim.wanted.certificates = hosts.iter().map(|host| certificate(host)).collect();
        sim.run();
        sim
    }

    /// Wants nothing and does not run yet.
    pub fn idle(ca: &MockCa) -> Sim {
        let clock = Arc::new(AtomicI64::new(real_now()));
        let uptime = Arc::default();
        let sim = Sim { lab: Lab::new(), clock, uptime, wanted: Wanted::default(), keeper: None };
        sim.with_issuer("main", ca)
    }

    /// A further issuer.
    pub fn with_issuer(mut self, name: &str, ca: &MockCa) -> Sim {
        ca.set(|knobs| knobs.clock = Some(self.clock.clone()));
        self.wanted.issuers.insert(name.to_owned(), issuer(ca));
        self
    }

    pub fn issuer(&mut self, name: &str) -> &mut Issuer {
        self.wanted.issuers.get_mut(name).unwrap()
    }

    // === life ===

    /// Starts the keeper and tells it what is wanted.
    pub fn run(&mut self) {
        let (clock, uptime) = (self.clock.clone(), self.uptime.clone());
        let seconds = move || u64::try_from(uptime.load(Ordering::SeqCst)).unwrap();
        let settings = Settings {
            state_dir: self.lab.path().join("state"),
            challenges: Arc::default(),
            changed: Box::new(|| ()),
            asked: Arc::new(|_, _| ()),
            clock: Box::new(move || clock.load(Ordering::SeqCst)),
            uptime: Arc::new(move || Duration::from_secs(seconds())),
            poll: Duration::from_millis(10),
        };
        self.keeper = Some(Keeper::start(settings).unwrap());
        self.want();
    }

    /// Tells the running keeper what is wanted by now.
    pub fn want(&self) {
        self.keeper().want(self.wanted.clone()).expect("within 5 s");
    }

    pub fn stop(&mut self) {
        self.keeper = None;
    }

    /// As a new process: what is in memory is gone.
    pub fn restart(&mut self) {
        self.stop();
        self.run();
        wait_until("the right to order", || {
            self.poke();
            matches!(self.view().role, Role::Owner | Role::Broken(_))
        });
    }

    fn keeper(&self) -> &Keeper {
        self.keeper.as_ref().unwrap()
    }

    /// Makes the keeper look at its clock and at what is due.
    pub fn poke(&self) {
        // A command that changes nothing; when the second is answered the first has had its effect.
        for _ in 0..2 {
            wait(self.keeper().renew("nobody.invalid".to_owned(), false)).unwrap_err();
        }
    }

    pub fn renew(&self, host: &str, force: bool) {
        wait(self.keeper().renew(host.to_owned(), force)).unwrap();
    }

    // === time ===

    pub fn now(&self) -> i64 {
        self.clock.load(Ordering::SeqCst)
    }

    /// Time goes by, without a look at what happens.
    pub fn skip(&self, seconds: i64) {
        // In this order, a look in between is one at a clock that lags: less than 10 minutes is no
        // jump, more is told and asked about, and makes no difference to what is ordered.
        self.uptime.fetch_add(seconds, Ordering::SeqCst);
        self.clock.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Sets the clock that far off, without a look at what happens.
    pub fn jump(&self, seconds: i64) {
        self.clock.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Until nothing is under way and nothing is due.
    pub fn settle(&self) {
        wait_until("the keeper to be idle", || {
            self.poke();
            let view = self.view();
            view.tasks == 0 && !view.rows.iter().any(|row| row.next_why == "it is its turn")
        });
    }

    /// Lets so many seconds pass: stops wherever something is due, and every `step` seconds.
    pub fn pass_by(&self, seconds: i64, step: i64) {
        let end = self.now() + seconds;
        self.settle();
        while self.now() < end {
            let next = self.view().rows.iter().map(|row| row.next_at).min().unwrap_or(end);
            let now = self.now();
            self.skip(next.clamp(now + 1, now + step).min(end) - now);
            self.settle();
        }
    }

    pub fn pass(&self, seconds: i64) {
        self.pass_by(seconds, i64::MAX / 4);
    }

    // === what it shows ===

    pub fn view(&self) -> Arc<View> {
        self.keeper().view()
    }

    pub fn row(&self, host: &str) -> Row {
        let view = self.view();
        view.rows.iter().find(|row| row.label == host).cloned().unwrap()
    }

    /// The serial number of what serves.
    pub fn serial(&self, host: &str) -> Option<String> {
        self.row(host).leaf().and_then(|leaf| leaf.certificate.serial())
    }

    pub fn state_file(&self, name: &str) -> std::path::PathBuf {
        self.lab.path().join("state/acme").join(name)
    }
}

pub fn certificate(host: &str) -> WantedCertificate {
    WantedCertificate {
        label: host.to_owned(),
        names: vec![host.to_owned()],
        issuer: "main".to_owned(),
        profile: None,
        key: KeyKind::P256,
        priority: Priority::Route,
    }
}

fn issuer(ca: &MockCa) -> Issuer {
    let mut config = CaConfig::new(ca.directory());
    config.limits.poll = Duration::from_millis(5);
    config.limits.validation = Duration::from_millis(100);
    config.limits.issuance = Duration::from_millis(100);
    Issuer {
        name: "mock".to_owned(),
        ca: config,
        contact: None,
        eab: None,
        challenge: ChallengeKind::Http01,
        fallback: None,
        staging: None,
        limits: Limits::default(),
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap()
    });
    RUNTIME.block_on(future)
}

pub fn real_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}
