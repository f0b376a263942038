//! Waiting for a condition instead of for a while.

use std::fmt::Debug;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(50);

/// Calls `probe` until it returns `Ok`, whose value is the result.
///
/// # Panics
/// After `timeout`, with `what` was waited for and the last `Err`: what was seen instead.
pub async fn eventually<T, E: Debug>(
    timeout: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let start = Instant::now();
    loop {
        match probe().await {
            Ok(value) => return value,
            Err(seen) if start.elapsed() >= timeout => give_up(timeout, what, &seen),
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// [`eventually`] for callers without a runtime. It blocks its thread.
pub fn eventually_blocking<T, E: Debug>(
    timeout: Duration,
    what: &str,
    mut probe: impl FnMut() -> Result<T, E>,
) -> T {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(seen) if start.elapsed() >= timeout => give_up(timeout, what, &seen),
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

fn give_up(timeout: Duration, what: &str, seen: &dyn Debug) -> ! {
    panic!("waited {timeout:?} in vain for {what}; last seen: {seen:?}")
}
