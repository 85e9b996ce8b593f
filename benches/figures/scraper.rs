//! A scraper on a thread of its own: what is simulated here is not optimised, and its time is not the agent's.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::Result;
use crate::agent::Shares;

/// Between two scrapes: a thousand times as often as a Prometheus.
const PAUSE: Duration = Duration::from_millis(15);
/// A scrape that takes longer fails the figure.
const LIMIT: Duration = Duration::from_secs(5);

/// One scrape.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scrape {
    /// From its connection's beginning to its answer's end.
    pub(crate) took: Duration,
    /// Of this the agent worked, at this answer or at anything else,
    pub(crate) worked: Duration,
    /// and wanted to, but had no core.
    pub(crate) waited: Duration,
}

/// Scrapes `address` for so long, one scrape after the other, as a Prometheus asks. `agent` reads how long the agent's
/// threads had a core so far, and how long they waited for one.
pub(crate) async fn scrape_for(
    address: SocketAddr,
    time: Duration,
    agent: impl Fn() -> Result<Shares> + Send + 'static,
) -> Result<Vec<Scrape>> {
    let (done, scraped) = oneshot::channel();
    // Not of the runtime's pool, whose threads get other work afterwards.
    std::thread::spawn(move || {
        ahead_of_others();
        // An error can cross threads as words alone. Nobody waits for it if the figure was given up.
        done.send(scrape(address, time, agent).map_err(|error| error.to_string()))
    });
    Ok(scraped.await??)
}

fn scrape(address: SocketAddr, time: Duration, agent: impl Fn() -> Result<Shares>) -> Result<Vec<Scrape>> {
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: {address}\r\nUser-Agent: Prometheus/3.0\r\n\
         Accept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3,\
         */*;q=0.2\r\nAccept-Encoding: gzip\r\n\r\n"
    );
    let (end, mut scrapes) = (Instant::now() + time, Vec::new());
    while Instant::now() < end {
        let before = agent()?;
        let begin = Instant::now();
        let mut answer = Vec::with_capacity(64 * 1024);
        let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(request.as_bytes())?;
        // The agent closes the connection behind its answer.
        stream.read_to_end(&mut answer)?;
        let took = begin.elapsed();
        let after = agent()?;
        scrapes.push(Scrape {
            took,
            worked: after.worked.saturating_sub(before.worked),
            waited: after.waited.saturating_sub(before.waited),
        });
        if !answer.starts_with(b"HTTP/1.1 200 ") {
            let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
            return Err(format!("a scrape was answered with `{}`", String::from_utf8_lossy(line)).into());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(scrapes)
}

/// A Prometheus runs on another machine, and does not wait for a core of this one. Without the right to say so it does.
fn ahead_of_others() {
    let Ok(own) = std::fs::read_link("/proc/thread-self") else { return };
    let Some(thread) = own.file_name() else { return };
    let chrt = Command::new("chrt").args(["--fifo", "--pid", "1"]).arg(thread).stderr(Stdio::null()).status();
    // Without it the figure is the worse, never the better.
    _ = chrt;
}
