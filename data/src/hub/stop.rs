//! A flag that a thread can sleep on.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Set once, when nobody wants the files any more.
#[derive(Default)]
pub(crate) struct Stop {
    set: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Wakes all who sleep.
    pub fn set(&self) {
        *self.lock() = true;
        self.changed.notify_all();
    }

    /// Whether it was set.
    pub fn is_set(&self) -> bool {
        *self.lock()
    }

    /// Sleeps for `time` unless stopped before; whether it was set.
    pub fn sleep(&self, time: Duration) -> bool {
        let (set, _) = self
            .changed
            .wait_timeout_while(self.lock(), time, |set| !*set)
            .unwrap_or_else(PoisonError::into_inner);
        *set
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
