//! Locks of the standard library.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks it, also where a thread has panicked with it: what is kept behind these locks is whole after each statement.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
