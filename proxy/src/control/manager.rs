//! What the control thread tells the service manager.

use super::Control;
use crate::server::watchdog::Look;
use crate::worker::Worker;

impl Control {
    /// Tells the service manager that it serves, and what.
    pub(crate) fn tell_ready(&self) {
        if self.notifier.is_there() {
            self.notifier.ready(&self.status.line());
        }
    }

    /// Tells the service manager that all is well, if it is.
    pub(super) fn tell_life(&mut self) {
        match self.watchdog.look(self.workers.iter().map(Worker::ticks)) {
            Look::Well => self.notifier.alive(),
            Look::Stuck { worker, news: true } => tracing::error!(
                "worker {worker} hangs: the watchdog hears nothing until it goes on"
            ),
            Look::Stuck { .. } => {}
        }
    }
}
