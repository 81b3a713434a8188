//! Many small waits, a few of them at once.

use tokio::task::JoinSet;

/// At once, so that asking nginx about many names doesn't look like an attack.
const AT_ONCE: usize = 4;

/// The results in the order of the futures, none of which may panic.
pub(crate) async fn at_once<T, F>(futures: impl IntoIterator<Item = F>) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut results: Vec<(usize, T)> = Vec::new();
    // Dropped together with this future: nothing runs on unwatched.
    let mut running = JoinSet::new();
    for (index, future) in futures.into_iter().enumerate() {
        if running.len() >= AT_ONCE {
            results.extend(running.join_next().await.and_then(Result::ok));
        }
        running.spawn(async move { (index, future.await) });
    }
    while let Some(joined) = running.join_next().await {
        results.extend(joined.ok());
    }
    results.sort_unstable_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    #[tokio::test]
    async fn four_at_once_and_in_order() {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let waits = (0..20_usize).map(|n| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                for _ in 0..100 - n {
                    tokio::task::yield_now().await;
                }
                now.fetch_sub(1, Ordering::SeqCst);
                n
            }
        });
        assert_eq!(at_once(waits).await, (0..20).collect::<Vec<_>>());
        assert_eq!(most.load(Ordering::SeqCst), 4);
    }
}
