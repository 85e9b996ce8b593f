//! The hop limit on real routers: the packets that answer the token request carry it as their IP TTL, so that with a limit
//! of 1 they never reach a pod that has a network namespace of its own.
//!
//! `hop_limit.sh` lays out pod, node and service in network namespaces that end with their processes, and runs the helpers
//! at the end of this file in them. Where the machine does not allow that, the test says why and does nothing.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::Duration;

use prometheus_client::registry::Registry;
use spotwarden::clock::Clock;
use spotwarden::config::parse::run_config;
use spotwarden::config::settings::Environment;
use spotwarden::imds::{Client, Item};
use spotwarden::metrics::imds::ImdsMetrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

const ADDRESSES: [(&str, &str); 2] = [("IPv4", "169.254.169.254"), ("IPv6", "[fd00:ec2::254]")];

/// The service's ports, and the hop limit on each.
const LIMITS: [(u16, u8); 2] = [(80, 1), (8080, 2)];

/// Longer than everything takes together; the helpers are gone after it, whatever happens.
const PATIENCE: &str = "50";

#[test]
fn behind_a_router_the_token_never_comes_and_the_error_names_the_hop_limit() {
    let isolation = match isolation() {
        Ok(isolation) => isolation,
        Err(reason) => {
            eprintln!("skipped, the hop limit was not tried on real routers: {reason}");
            return;
        }
    };
    let exe = std::env::current_exe().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/imds/hop_limit.sh");
    let output = Command::new("timeout")
        .args(["--kill-after=5", PATIENCE])
        .args(isolation)
        .args(["sh", script])
        .arg(exe)
        .output()
        .unwrap();
    let all = text(&output);
    assert!(output.status.success(), "{all}");
    let results: BTreeMap<&str, &str> =
        all.lines().filter_map(|line| line.strip_prefix("RESULT ")?.split_once(": ")).collect();
    assert_eq!(results.len(), 8, "{all}");
    for (family, _) in ADDRESSES {
        // On the node itself no router is in between: this is what hostNetwork amounts to.
        for place in [format!("node {family} 1"), format!("node {family} 2"), format!("pod {family} 2")] {
            assert_eq!(results[place.as_str()], "a token and an answer", "{place}");
        }
        let lost = results[format!("pod {family} 1").as_str()];
        assert!(lost.contains("HttpPutResponseHopLimit") && lost.contains("hostNetwork"), "{family}: {lost}");
    }
}

/// How to run something as the lord of a network namespace of its own, or why that cannot be done here.
fn isolation() -> Result<Vec<&'static str>, String> {
    for (tool, version) in [("ip", "-V"), ("unshare", "--version"), ("nsenter", "--version"), ("timeout", "--version")]
    {
        match Command::new(tool).arg(version).output() {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(format!("`{tool}` is not installed")),
            Err(error) => return Err(format!("`{tool}` cannot be run: {error}")),
        }
    }
    let ways = [vec!["unshare", "--net"], vec!["unshare", "--net", "--user", "--map-root-user"]];
    let mut refusals = Vec::new();
    for way in ways {
        // The namespace and what is in it end with the shell.
        let probe = "ip link add probe type veth && echo 1 > /proc/sys/net/ipv4/ip_forward && unshare --net true \
                     && test -e /proc/sys/net/ipv6/conf/all/forwarding";
        let output = Command::new("timeout").arg("10").args(&way).args(["sh", "-c", probe]).output().unwrap();
        if output.status.success() {
            return Ok(way);
        }
        refusals.push(format!("`{}`: {}", way.join(" "), text(&output).trim()));
    }
    Err(format!(
        "it takes CAP_NET_ADMIN, user namespaces or IPv6 that are not to be had here ({})",
        refusals.join("; ")
    ))
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A client in the namespace that it was started in: what comes of asking each address at each hop limit.
#[tokio::test]
#[ignore = "run by hop_limit.sh"]
#[allow(clippy::disallowed_methods, reason = "handed over by hop_limit.sh")]
async fn client() {
    let place = std::env::var("CLIENT").unwrap();
    for (family, host) in ADDRESSES {
        for (port, limit) in LIMITS {
            reach(&format!("{host}:{port}")).await;
            // The real addresses are found by the mode alone.
            let endpoint = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", format!("http://{host}:{port}"));
            let mode = ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", family.to_owned());
            let variable = if port == 80 { mode } else { endpoint };
            let environment: Environment = [("NODE_NAME", "n1".to_owned()), variable].into_iter().collect();
            let config = run_config(&|_| None, &environment).unwrap().agent;
            let metrics = ImdsMetrics::register(&mut Registry::default());
            let client = Client::new(&config.imds, Clock::System, metrics).unwrap();
            let result = match client.get(Item::SpotAction).await {
                Ok(_) => "a token and an answer".to_owned(),
                Err(error) => error.to_string(),
            };
            println!("\nRESULT {place} {family} {limit}: {result}");
        }
    }
}

/// A request without a token goes there and its answer comes back, as soon as the service is up: whatever is lost later is
/// not lost on the way there.
async fn reach(address: &str) {
    for _ in 0..100 {
        if let Ok(Ok(mut stream)) = timeout(Duration::from_secs(1), TcpStream::connect(address)).await {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            timeout(Duration::from_secs(2), stream.read_to_string(&mut answer)).await.unwrap().unwrap();
            assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("{address} cannot be reached");
}

/// The metadata service as far as the hop limit is concerned. One connection after the other, as the limit of IPv6 is a
/// property of the interface here.
#[tokio::test]
#[ignore = "run by hop_limit.sh"]
async fn service() {
    let mut listeners = Vec::new();
    for (_, host) in ADDRESSES {
        for (port, limit) in LIMITS {
            listeners.push((TcpListener::bind(format!("{host}:{port}")).await.unwrap(), limit));
        }
    }
    let serve = async {
        loop {
            let accepted: Vec<_> = listeners.iter().map(|(listener, _)| Box::pin(listener.accept())).collect();
            let (stream, index, _) = futures::future::select_all(accepted).await;
            if let Ok((stream, peer)) = stream {
                let _ = answer(stream, peer, listeners[index].1).await;
            }
        }
    };
    // Ended by the shell; this is for a shell that cannot do it.
    let _: Result<(), _> = timeout(Duration::from_secs(60), serve).await;
}

async fn answer(mut stream: TcpStream, peer: SocketAddr, limit: u8) -> std::io::Result<()> {
    let mut head = [0; 4096];
    let read = timeout(Duration::from_secs(5), stream.read(&mut head)).await??;
    let is_put = head[..read].starts_with(b"PUT /latest/api/token ");
    let body = if is_put { "TOKEN" } else { "" };
    let status = if is_put { "200 OK" } else { "404 Not Found" };
    if is_put {
        limit_hops(&stream, peer, limit)?;
    }
    let length = body.len();
    let reply = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await?;
    // Until the client is done, so that no packet is sent again with another limit.
    let _ = timeout(Duration::from_secs(5), async { while stream.read(&mut head).await.is_ok_and(|read| read > 0) {} })
        .await;
    limit_hops(&stream, peer, 64)
}

/// From now on the packets of this connection get so far.
fn limit_hops(stream: &TcpStream, peer: SocketAddr, hops: u8) -> std::io::Result<()> {
    if peer.is_ipv4() {
        return stream.set_ttl(u32::from(hops));
    }
    std::fs::write("/proc/sys/net/ipv6/conf/eth0/hop_limit", hops.to_string())
}
