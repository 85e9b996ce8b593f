//! The agent as a process: started as a kubelet would, killed when dropped, looked at through `/proc`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Result;

/// It needs a fraction of a second; ten of them at once on a busy machine need more.
const START_LIMIT: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What a DaemonSet's pod template tells the agent.
pub(crate) struct Settings<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) node: &'a str,
    pub(crate) kubeconfig: &'a Path,
    pub(crate) imds: &'a str,
    /// Introspection and metrics of ipamd.
    pub(crate) ipamd: &'a [String; 2],
    /// Further environment variables.
    pub(crate) more: &'a [(&'static str, String)],
    /// Where its log goes.
    pub(crate) log: PathBuf,
}

/// What a process had of the machine's cores.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shares {
    /// It had one.
    pub(crate) worked: Duration,
    /// It wanted one and had none.
    pub(crate) waited: Duration,
}

pub(crate) struct Agent {
    child: Child,
    log: PathBuf,
}

impl Agent {
    /// Starts one and waits until it says that it is ready.
    pub(crate) async fn start(settings: Settings<'_>, http: &reqwest::Client) -> Result<Self> {
        // setpriv becomes the agent, which dies with this program then, however that ends.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(fs::canonicalize(settings.binary)?)
            .arg("run")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("NODE_NAME", settings.node)
            .env("KUBECONFIG", settings.kubeconfig)
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", settings.imds)
            .env("SPOTWARDEN_CNI_INTROSPECTION_ADDRESS", &settings.ipamd[0])
            .env("SPOTWARDEN_CNI_METRICS_ADDRESS", &settings.ipamd[1])
            .env("SPOTWARDEN_ADMIN_ADDRESS", "127.0.0.1:0")
            .env("SPOTWARDEN_LOG_FORMAT", "json")
            .envs(settings.more.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&settings.log)?)
            .spawn()
            .map_err(|error| format!("cannot run setpriv (of util-linux): {error}"))?;
        let mut agent = Self { child, log: settings.log };
        let deadline = Instant::now() + START_LIMIT;
        while !agent.is_ready(http).await {
            if !agent.is_alive()? || Instant::now() > deadline {
                return Err(format!("the agent of {} does not become ready:\n{}", settings.node, agent.log()).into());
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(agent)
    }

    async fn is_ready(&self, http: &reqwest::Client) -> bool {
        let Some(admin) = self.admin() else { return false };
        let answer = http.get(format!("http://{admin}/readyz")).timeout(Duration::from_secs(2)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Where its admin server listens, from its first line.
    pub(crate) fn admin(&self) -> Option<String> {
        let first: serde_json::Value = serde_json::from_str(self.log().lines().next()?).ok()?;
        first.get("admin")?.as_str().map(str::to_owned)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn is_alive(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// A field of `/proc/PID/status` that is in kB, in bytes: `VmRSS` (now) or `VmHWM` (the most since the start).
    pub(crate) fn memory(&self, field: &str) -> Result<u64> {
        let status = fs::read_to_string(self.proc("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.split_whitespace().next()).ok_or_else(|| format!("no {field}"))?;
        Ok(kib.parse::<u64>()? * 1024)
    }

    /// CPU time so far over all threads, to the nanosecond. A thread that has ended is not in it; the agent has few.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        Ok(self.shares()()?.worked)
    }

    /// Reads what all threads together had of the cores so far; may be called on any thread.
    pub(crate) fn shares(&self) -> impl Fn() -> Result<Shares> + Send + use<> {
        let tasks = self.proc("task");
        move || {
            let mut shares = Shares::default();
            for thread in fs::read_dir(&tasks)? {
                let stat = fs::read_to_string(thread?.path().join("schedstat"))?;
                let mut times = stat.split_whitespace().map(str::parse);
                for time in [&mut shares.worked, &mut shares.waited] {
                    *time += Duration::from_nanos(times.next().ok_or("schedstat has fewer fields")??);
                }
            }
            Ok(shares)
        }
    }

    pub(crate) fn threads(&self) -> Result<usize> {
        Ok(fs::read_dir(self.proc("task"))?.count())
    }

    fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.child.id()))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Fails only for what has ended already.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
