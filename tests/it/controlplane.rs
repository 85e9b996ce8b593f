//! A real Kubernetes control plane on loopback: etcd, kube-apiserver and the few controllers that decide about a drain.
//!
//! The embedded API server of the tests is only worth something if the real one gives the same verdict. Nodes and
//! kubelets are played by the test; everything that would act on them by itself (node lifecycle, taint eviction, garbage
//! collection, workload controllers) stays off, so that a scenario sees its own actions and nothing else.
//!
//! Nothing outlives the test process, however that ends: a guard process waits for the end of a pipe that only the test
//! process holds open, then kills the control plane and removes its folder.
#![expect(
    clippy::disallowed_types,
    reason = "real programs are waited for in real time, even if a test has paused its own"
)]

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::future::Future;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use http::Uri;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::client::Body;
use kube::{Api, Client};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use tokio::net::TcpSocket;

// With its path, because the benches include this file from another folder.
#[cfg(test)]
#[path = "controlplane/tests.rs"]
mod tests;

/// The user behind [`ControlPlane::admin_token`], member of `system:masters`; the audit log tells it from the agent.
pub(crate) const ADMIN: &str = "test-admin";

/// The API server needs 2 to 6 s; a loaded CI machine gets a multiple of that before the test is called broken.
const START_LIMIT: Duration = Duration::from_secs(90);

/// What a kubelet asks for a projected token. The API server recognises this very number.
const POD_TOKEN_SECONDS: i64 = 3607;

/// What the guard runs: keep the process ids that come and go (`+ id`, `- id`) on standard input until its other end is
/// gone, then clean up. Removing is repeated because a process that is being killed may still create a file. The first
/// argument is the folder.
const GUARD: &str = r#"
pids=
while read -r change pid; do
    case $change in
    +) pids="$pids $pid " ;;
    -) pids="${pids%% $pid *} ${pids#* $pid }" ;;
    esac
done
for pid in $pids; do kill -KILL "$pid"; done
left=100
while ! rm -rf "$1" && [ "$left" -gt 0 ]; do left=$((left - 1)); sleep 0.1; done
"#;

/// Every request is logged, once: when it is done, and for a watch also when it begins.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
";

/// Controllers that a drain depends on. Left out on purpose: `node-lifecycle` and `taint-eviction` would judge nodes that
/// have no kubelet, `pod-garbage-collector` and `garbage-collector` would remove pods whose node or owner a test made up,
/// workload controllers would create pods that nobody runs.
const CONTROLLERS: &str = "disruption-controller,\
    serviceaccount-controller,\
    namespace-controller,\
    validatingadmissionpolicy-status-controller";

/// A running control plane. Dropping it ends the processes and removes their folder.
pub(crate) struct ControlPlane {
    processes: Processes,
    port: Port,
    ca_pem: String,
    admin_token: String,
}

/// One line of the API server's audit log.
#[derive(Clone, Debug)]
pub(crate) struct AuditEntry {
    /// The user that authorization looked at: the impersonated one if there is one.
    pub(crate) user: String,
    /// Claims of the token, such as `authentication.kubernetes.io/node-name`.
    pub(crate) extra: BTreeMap<String, Vec<String>>,
    /// `get`, `list`, `watch`, `create`, `patch`, `delete`, …
    pub(crate) verb: String,
    /// Empty for requests that are not about a resource, such as `/version`.
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Path and query.
    pub(crate) uri: String,
    pub(crate) user_agent: String,
    /// The HTTP status; a watch has it from its start.
    pub(crate) code: u16,
    /// `ResponseComplete`; for a watch also `ResponseStarted`; `Panic`.
    pub(crate) stage: String,
    pub(crate) received: jiff::Timestamp,
    pub(crate) at: jiff::Timestamp,
}

impl ControlPlane {
    /// Starts one, which takes some seconds, and minutes if the binaries have to be built first. Blocks.
    ///
    /// # Panics
    /// With the reason and the ends of the logs, if it does not come up.
    pub(crate) fn start() -> Self {
        Self::try_start().unwrap_or_else(|reason| panic!("{reason}"))
    }

    /// The one that all tests of this process share; it ends with the process.
    ///
    /// # Panics
    /// As [`ControlPlane::start`]; a failure is kept, so that a hundred tests do not wait for it a hundred times.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Result<ControlPlane, String>> = OnceLock::new();
        SHARED.get_or_init(Self::try_start).as_ref().unwrap_or_else(|reason| panic!("{reason}"))
    }

    fn try_start() -> Result<Self, String> {
        let bins = binaries()?;
        let mut processes = Processes::new()?;
        let port = Port::reserve()?;
        let admin_token = random_token()?;
        match start_all(&mut processes, &bins, &port, &admin_token) {
            Ok(ca_pem) => Ok(Self { processes, port, ca_pem, admin_token }),
            Err(reason) => Err(format!("the control plane did not start: {reason}\n{}", processes.log_tails())),
        }
    }

    pub(crate) fn server_url(&self) -> String {
        self.port.url()
    }

    pub(crate) fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// For programs that take a kubeconfig, such as kubectl and helm.
    pub(crate) fn write_kubeconfig(&self, path: &Path, token: &str) {
        let content = kubeconfig(&self.server_url(), &self.processes.dir.join(CERTIFICATE), token);
        private_file(path, &content).unwrap_or_else(|reason| panic!("{reason}"));
    }

    /// Its folder, which nobody else can read. What is put there goes when the control plane goes, however that ends.
    pub(crate) fn dir(&self) -> &Path {
        &self.processes.dir
    }

    /// A client for tests that speak HTTP themselves. It knows the CA and carries no token.
    pub(crate) fn http(&self) -> reqwest::Client {
        http_client(&self.ca_pem).expect("the certificate was read at start")
    }

    /// A client of [`ADMIN`]. Made per test: its connections belong to the tokio runtime that it is called in.
    pub(crate) fn admin_client(&self) -> Client {
        self.client(&self.admin_token)
    }

    /// A client of whoever `token` belongs to. See [`ControlPlane::admin_client`].
    pub(crate) fn client(&self, token: &str) -> Client {
        kube_client(self.http(), self.server_url(), token)
    }

    /// A token of the pod's service account that is bound to the pod, as a kubelet fetches it for a projected volume.
    ///
    /// The pod must exist with `spec.serviceAccountName` set (nothing fills it in here). If it has a `spec.nodeName`, the
    /// token carries the node's name, and the node's UID if the node exists. It dies with the pod.
    pub(crate) async fn pod_token(
        &self,
        namespace: &str,
        service_account: &str,
        pod_name: &str,
        pod_uid: &str,
    ) -> String {
        let request = TokenRequest {
            spec: TokenRequestSpec {
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: Some(pod_name.into()),
                    uid: Some(pod_uid.into()),
                }),
                expiration_seconds: Some(POD_TOKEN_SECONDS),
                ..Default::default()
            },
            ..Default::default()
        };
        Api::<ServiceAccount>::namespaced(self.admin_client(), namespace)
            .create_token_request(service_account, &PostParams::default(), &request)
            .await
            .unwrap_or_else(|error| panic!("no token for {namespace}/{service_account} bound to {pod_name}: {error}"))
            .status
            .expect("a TokenRequest that was accepted has a status")
            .token
    }

    /// Every request so far, in the order of the log. A request is logged when its answer has been sent, so the entry can
    /// follow the answer by a moment: wait for what you expect instead of looking once.
    pub(crate) fn audit_log(&self) -> Vec<AuditEntry> {
        let log = fs::read_to_string(self.processes.dir.join(AUDIT_LOG)).unwrap_or_default();
        // The last line may be half written.
        let complete = log.rfind('\n').map_or("", |end| &log[..end]);
        complete
            .lines()
            .map(|line| {
                serde_json::from_str::<RawEntry>(line)
                    .unwrap_or_else(|error| panic!("audit log: {error} in {line}"))
                    .into()
            })
            .collect()
    }

    /// Kills a program, as an outage. Only for a control plane that no other test shares.
    pub(crate) fn stop(&mut self, name: &str) {
        self.processes.stop(name).unwrap_or_else(|reason| panic!("{reason}"));
    }

    /// Starts a program again after [`ControlPlane::stop`], on the same data and the same port. An API server has
    /// forgotten its watch history by that: a watch from before is answered with "too old resource version".
    pub(crate) fn resume(&mut self, name: &str) {
        let resumed = self.processes.resume(name).and_then(|()| {
            let deadline = Instant::now() + START_LIMIT;
            block_on(wait_for(&mut self.processes, &self.ca_pem, &self.port, "/readyz", &self.admin_token, deadline))
        });
        resumed.unwrap_or_else(|reason| panic!("{name} did not resume: {reason}\n{}", self.log_tails()));
    }

    /// The ends of all logs, for a test's failure message.
    pub(crate) fn log_tails(&self) -> String {
        self.processes.log_tails()
    }
}

const CERTIFICATE: &str = "apiserver.crt";
const KEY: &str = "apiserver.key";
const AUDIT_LOG: &str = "audit.log";

/// The folder with the binaries, built if need be. The script says what is missing on standard error, which is ours.
fn binaries() -> Result<PathBuf, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/controlplane/build.sh");
    let output = Command::new("bash")
        .arg(&script)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run bash {}: {error}", script.display()))?;
    if !output.status.success() {
        return Err(format!(
            "no control plane to test against: {} ended with {}, its reason is on standard error",
            script.display(),
            output.status
        ));
    }
    let folder = String::from_utf8(output.stdout).map_err(|_| "the cache folder's name is not UTF-8")?;
    Ok(PathBuf::from(folder.trim_end_matches('\n')))
}

/// Brings everything up and returns the server's certificates.
fn start_all(processes: &mut Processes, bins: &Path, port: &Port, admin_token: &str) -> Result<String, String> {
    let dir = processes.dir.clone();
    let deadline = Instant::now() + START_LIMIT;
    // Its own user, so that the audit log does not mix the controllers with the tests.
    let controller_token = random_token()?;
    private_file(
        &dir.join("tokens.csv"),
        &format!(
            "{admin_token},{ADMIN},1,system:masters\n\
             {controller_token},system:kube-controller-manager,2,system:masters\n"
        ),
    )?;
    private_file(&dir.join("audit-policy.yaml"), AUDIT_POLICY)?;

    // A unix socket in our own folder: no port to race for, and nobody else on the machine can open it. The name is
    // relative because the path of a socket may not be longer than about 100 bytes; etcd insists on something like a port.
    processes.spawn(
        &bins.join("etcd"),
        &[
            "--name=test",
            "--data-dir=etcd",
            "--listen-client-urls=unix://etcd.sock:0",
            "--advertise-client-urls=unix://etcd.sock:0",
            "--listen-peer-urls=unix://peer.sock:0",
            "--initial-advertise-peer-urls=unix://peer.sock:0",
            "--initial-cluster=test=unix://peer.sock:0",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ],
    )?;

    processes.spawn(
        &bins.join("kube-apiserver"),
        &[
            "--etcd-servers=unix://etcd.sock:0",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            &format!("--secure-port={}", port.address.port()),
            "--permit-port-sharing",
            // It signs a certificate for itself here. That happens before the next two are read, so the one key does.
            "--cert-dir=.",
            &format!("--service-account-signing-key-file={KEY}"),
            &format!("--service-account-key-file={KEY}"),
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.0.0.0/24",
            // Loopback is not a valid endpoint of the `kubernetes` service, and no pod is going to use it.
            "--endpoint-reconciler-type=none",
            "--token-auth-file=tokens.csv",
            "--authorization-mode=RBAC",
            "--allow-privileged",
            // ServiceAccount: pods may be created without waiting for the namespace's default account, and keep the
            // volumes that the test gave them. TaintNodesByCondition: nobody would take its not-ready taint off again.
            "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
            "--audit-policy-file=audit-policy.yaml",
            &format!("--audit-log-path={AUDIT_LOG}"),
            "--profiling=false",
        ],
    )?;

    let ca_pem = loop {
        processes.check(deadline)?;
        match fs::read_to_string(dir.join(CERTIFICATE)) {
            Ok(pem) if pem.ends_with("-----END CERTIFICATE-----\n") => break pem,
            _ => thread::sleep(Duration::from_millis(20)),
        }
    };
    block_on(wait_for(processes, &ca_pem, port, "/readyz", admin_token, deadline))?;

    // Only now: it gives up if the API server is not healthy within 10 s.
    private_file(
        &dir.join("controllers.kubeconfig"),
        &kubeconfig(&port.url(), &dir.join(CERTIFICATE), &controller_token),
    )?;
    processes.spawn(
        &bins.join("kube-controller-manager"),
        &[
            "--kubeconfig=controllers.kubeconfig",
            &format!("--controllers={CONTROLLERS}"),
            "--leader-elect=false",
            // It serves nothing, so it needs no port.
            "--secure-port=0",
            // The default would let a burst of scenarios wait for their budgets' status.
            "--kube-api-qps=500",
            "--kube-api-burst=500",
            "--profiling=false",
        ],
    )?;

    // The controllers start together; the first default account shows that they are at work.
    let account = "/api/v1/namespaces/default/serviceaccounts/default";
    block_on(wait_for(processes, &ca_pem, port, account, admin_token, deadline))?;
    Ok(ca_pem)
}

/// Until a GET of `path` succeeds.
async fn wait_for(
    processes: &mut Processes,
    ca_pem: &str,
    port: &Port,
    path: &str,
    token: &str,
    deadline: Instant,
) -> Result<(), String> {
    let http = http_client(ca_pem)?;
    let url = format!("{}{path}", port.url());
    loop {
        let answer = http.get(&url).bearer_auth(token).timeout(Duration::from_secs(5)).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            return Ok(());
        }
        processes.check(deadline)?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// On its own thread, because the caller may be inside a tokio runtime, which does not allow a second one.
fn block_on<T: Send>(work: impl Future<Output = Result<T, String>> + Send) -> Result<T, String> {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| format!("no runtime: {error}"))?
                .block_on(work)
        });
        worker.join().map_err(|_| "the thread that waits for the control plane panicked".to_owned())?
    })
}

/// The started programs, their folder, and the guard that ends both.
struct Processes {
    dir: PathBuf,
    guard: Child,
    programs: Vec<Program>,
}

struct Program {
    name: String,
    path: PathBuf,
    args: Vec<String>,
    /// None while it is stopped.
    child: Option<Child>,
}

impl Processes {
    fn new() -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("spotwarden-controlplane-{}-{count}-{}", std::process::id(), &random_token()?[..8]);
        let dir = std::env::temp_dir().join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .map_err(|error| format!("cannot create the folder {}: {error}", dir.display()))?;
        let guard = Command::new("sh")
            .args(["-c", GUARD, "spotwarden-controlplane-guard"])
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Out of the process group, so that Ctrl-C ends the tests and not the guard.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot run sh: {error}"))?;
        Ok(Self { dir, guard, programs: Vec::new() })
    }

    fn spawn(&mut self, path: &Path, args: &[&str]) -> Result<(), String> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        self.programs.push(Program { name: name.clone(), path: path.to_owned(), args, child: None });
        self.resume(&name)
    }

    fn resume(&mut self, name: &str) -> Result<(), String> {
        let (dir, program) = (&self.dir, find(&mut self.programs, name)?);
        if program.child.is_some() {
            return Err(format!("{name} is running already"));
        }
        let log = OpenOptions::new().append(true).create(true).open(dir.join(format!("{name}.log")));
        let log = log.map_err(|error| format!("{name}.log: {error}"))?;
        let log_too = log.try_clone().map_err(|error| format!("{name}.log: {error}"))?;
        let child = Command::new(&program.path)
            .args(&program.args)
            .current_dir(dir)
            // ETCD_* and proxies of the caller's environment would change what runs.
            .env_clear()
            .env("HOME", dir)
            .env("TMPDIR", dir)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too)
            .spawn()
            .map_err(|error| format!("cannot run {}: {error}", program.path.display()))?;
        let id = child.id();
        program.child = Some(child);
        self.tell_guard('+', id)
    }

    fn stop(&mut self, name: &str) -> Result<(), String> {
        let stopped = find(&mut self.programs, name)?.child.take();
        let mut child = stopped.ok_or_else(|| format!("{name} is not running"))?;
        child.kill().map_err(|error| format!("cannot kill {name}: {error}"))?;
        // Before it is reaped, after which its id may mean another process.
        self.tell_guard('-', child.id())?;
        child.wait().map_err(|error| format!("cannot wait for {name}: {error}"))?;
        Ok(())
    }

    fn tell_guard(&mut self, change: char, id: u32) -> Result<(), String> {
        let pipe = self.guard.stdin.as_mut().ok_or("the guard has no pipe")?;
        writeln!(pipe, "{change} {id}").map_err(|error| format!("the guard is gone: {error}"))
    }

    /// An error if a program has ended by itself or time is up.
    fn check(&mut self, deadline: Instant) -> Result<(), String> {
        for program in &mut self.programs {
            if let Some(Ok(Some(status))) = program.child.as_mut().map(Child::try_wait) {
                return Err(format!("{} ended with {status}", program.name));
            }
        }
        if Instant::now() > deadline {
            return Err(format!("not ready after {} s", START_LIMIT.as_secs()));
        }
        Ok(())
    }

    fn log_tails(&self) -> String {
        const LINES: usize = 25;
        let mut tails = String::new();
        for Program { name, .. } in &self.programs {
            let log = fs::read_to_string(self.dir.join(format!("{name}.log"))).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LINES)..];
            tails.extend(["--- the end of ", name, "'s log\n", &tail.join("\n"), "\n"]);
        }
        tails
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // The guard kills. The children are reaped after it is done, so none of its ids can mean another process.
        drop(self.guard.stdin.take());
        // A wait fails only for what has been waited for already.
        let _ = self.guard.wait();
        for child in self.programs.iter_mut().filter_map(|program| program.child.as_mut()) {
            let _ = child.wait();
        }
    }
}

fn find<'a>(programs: &'a mut [Program], name: &str) -> Result<&'a mut Program, String> {
    programs.iter_mut().find(|program| program.name == name).ok_or_else(|| format!("there is no program {name}"))
}

/// A port that stays ours. The API server may bind it too, as both ask for port sharing; only it listens, so only it gets
/// connections; and the kernel gives the number to nobody else.
struct Port {
    address: SocketAddr,
    _reserved: TcpSocket,
}

impl Port {
    fn reserve() -> Result<Self, String> {
        let reserve = || {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseport(true)?;
            socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
            Ok(Self { address: socket.local_addr()?, _reserved: socket })
        };
        reserve().map_err(|error: std::io::Error| format!("no free port on loopback: {error}"))
    }

    fn url(&self) -> String {
        format!("https://{}", self.address)
    }
}

fn random_token() -> Result<String, String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(|error| format!("/dev/urandom: {error}"))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

/// Tokens are in it, so it is for the owner only.
fn private_file(path: &Path, content: &str) -> Result<(), String> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// JSON is YAML, and does the quoting.
fn kubeconfig(server: &str, certificates: &Path, token: &str) -> String {
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority": certificates}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    })
    .to_string()
}

fn http_client(ca_pem: &str) -> Result<reqwest::Client, String> {
    // reqwest comes without a provider; an error means that another test has installed it.
    rustls::crypto::ring::default_provider().install_default().ok();
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        let certificate = certificate.map_err(|error| format!("the server's certificate: {error}"))?;
        roots.add(certificate).map_err(|error| format!("the server's certificate: {error}"))?;
    }
    let mut tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .build()
        .map_err(|error| format!("no HTTP client: {error}"))
}

fn kube_client(http: reqwest::Client, server: String, token: &str) -> Client {
    let bearer = format!("Bearer {token}");
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (http, server, bearer) = (http.clone(), server.clone(), bearer.clone());
        async move {
            let (mut parts, body) = request.into_parts();
            let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
            parts.uri = format!("{server}{target}").parse::<Uri>()?;
            parts.headers.insert(http::header::AUTHORIZATION, bearer.parse()?);
            let body = body.collect_bytes().await?;
            let answer = http.execute(http::Request::from_parts(parts, body).try_into()?).await?;
            Ok::<http::Response<reqwest::Body>, Box<dyn std::error::Error + Send + Sync>>(answer.into())
        }
    });
    Client::new(service, "default")
}

/// The parts of `audit.k8s.io/v1` that [`AuditEntry`] is made of.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEntry {
    stage: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    user: RawUser,
    impersonated_user: Option<RawUser>,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<RawObject>,
    response_status: Option<RawStatus>,
    request_received_timestamp: jiff::Timestamp,
    stage_timestamp: jiff::Timestamp,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawUser {
    username: String,
    extra: BTreeMap<String, Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawObject {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
struct RawStatus {
    #[serde(default)]
    code: u16,
}

impl From<RawEntry> for AuditEntry {
    fn from(raw: RawEntry) -> Self {
        let user = raw.impersonated_user.unwrap_or(raw.user);
        let object = raw.object_ref.unwrap_or_default();
        Self {
            user: user.username,
            extra: user.extra,
            verb: raw.verb,
            resource: object.resource,
            subresource: object.subresource,
            namespace: object.namespace,
            name: object.name,
            uri: raw.request_uri,
            user_agent: raw.user_agent,
            code: raw.response_status.map_or(0, |status| status.code),
            stage: raw.stage,
            received: raw.request_received_timestamp,
            at: raw.stage_timestamp,
        }
    }
}
