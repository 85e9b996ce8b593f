//! What a reading of ipamd takes of memory for a moment: what is allocated at most beyond what stays.

use bytes::Bytes;
use peak_alloc::PeakAlloc;
use spotwarden::clock::Clock;
use spotwarden::cni::model::{Model, Reading};

use crate::Result;
use crate::pool;
use crate::report::{Row, megabytes};

/// Bytes.
const GOAL: u64 = 1_000_000;

/// Counts for the whole process, in which nothing else runs meanwhile.
#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

pub(crate) fn measure() -> Result<Vec<Row>> {
    let documents = pool::documents()?;
    let facts = documents.facts();
    let (mut model, clock) = (Model::default(), Clock::System);
    let mut most = 0;
    // The second reading and those after it find what the one before left.
    for _ in 0..3 {
        let before = ALLOCATED.current_usage();
        ALLOCATED.reset_peak_usage();
        // As they come from the connection.
        let copy = |body: &Bytes| Bytes::copy_from_slice(body);
        let (interfaces, settings, metrics) =
            (copy(&documents.interfaces), copy(&documents.settings), copy(&documents.metrics));
        let reading = Reading {
            interfaces: Some(Ok(&interfaces)),
            settings: Some(&settings),
            metrics: Some(Ok(&metrics)),
            network: None,
        };
        drop(model.observe(clock.now(), &reading, &facts));
        most = most.max(ALLOCATED.peak_usage().saturating_sub(before));
    }
    let most = u64::try_from(most)?;
    Ok(vec![Row {
        what: format!("memory allocated at most by a reading of ipamd, its answers included, {}", pool::WHAT),
        goal: format!("≤ {}", megabytes(GOAL)),
        measured: format!("{:.2} MB", most as f64 / 1e6),
        incumbent: "–",
        met: Some(most <= GOAL),
    }])
}
