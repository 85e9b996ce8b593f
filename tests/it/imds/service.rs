//! The simulated service against the rules of the real one, seen through a plain socket.

use std::time::Duration;

use rstest::rstest;
use spotwarden::sim::imds::{Fault, FaultKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::World;

const INSTANCE_ID: &str = "/latest/meta-data/instance-id";

/// Sends a request line with headers; everything that comes back until the service closes.
async fn ask(world: &World, line: &str, headers: &[&str]) -> String {
    let address = world.config.endpoint.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let headers = headers.iter().flat_map(|header| [*header, "\r\n"]).collect::<String>();
    stream.write_all(format!("{line} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn status(world: &World, line: &str, headers: &[&str]) -> u16 {
    ask(world, line, headers).await.split(' ').nth(1).unwrap().parse().unwrap()
}

/// A header with a token of so many seconds.
async fn token(world: &World, ttl: u32) -> String {
    let header = format!("X-aws-ec2-metadata-token-ttl-seconds: {ttl}");
    let answer = ask(world, "PUT /latest/api/token", &[&header]).await;
    assert!(answer.contains(&header), "the TTL is not repeated: {answer}");
    format!("X-aws-ec2-metadata-token: {}", answer.split("\r\n\r\n").nth(1).unwrap())
}

#[rstest]
#[case::shortest("PUT /latest/api/token", &["X-aws-ec2-metadata-token-ttl-seconds: 1"], 200)]
#[case::longest("PUT /latest/api/token", &["x-AWS-ec2-metadata-token-ttl-seconds: 21600"], 200)]
#[case::too_long("PUT /latest/api/token", &["X-aws-ec2-metadata-token-ttl-seconds: 21601"], 400)]
#[case::zero("PUT /latest/api/token", &["X-aws-ec2-metadata-token-ttl-seconds: 0"], 400)]
#[case::no_ttl("PUT /latest/api/token", &[], 400)]
#[case::through_a_proxy(
    "PUT /latest/api/token",
    &["X-aws-ec2-metadata-token-ttl-seconds: 60", "X-Forwarded-For: 10.0.0.1"],
    403
)]
#[case::versioned_path("PUT /2021-03-23/api/token", &["X-aws-ec2-metadata-token-ttl-seconds: 60"], 403)]
#[case::other_verb("GET /latest/api/token", &[], 405)]
#[case::no_token("GET /latest/meta-data/instance-id", &[], 401)]
#[case::foreign_token("GET /latest/meta-data/instance-id", &["X-aws-ec2-metadata-token: AQAEAL=="], 401)]
#[tokio::test(start_paused = true)]
async fn the_token_rules_hold(#[case] line: &str, #[case] headers: &[&str], #[case] expected: u16) {
    assert_eq!(status(&World::new().await, line, headers).await, expected);
}

#[tokio::test(start_paused = true)]
async fn another_verb_on_the_token_path_is_told_which_ones_there_are() {
    let answer = ask(&World::new().await, "GET /latest/api/token", &[]).await;
    assert!(answer.contains("\r\nAllow: OPTIONS, PUT\r\n"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_token_expires_on_the_service_clock_and_the_time_left_is_told() {
    let world = World::new().await;
    let token = token(&world, 60).await;
    let line = format!("GET {INSTANCE_ID}");
    tokio::time::sleep(Duration::from_secs(59)).await;
    let answer = ask(&world, &line, &[&token]).await;
    assert!(answer.contains("X-aws-ec2-metadata-token-ttl-seconds: 1\r\n"), "{answer}");
    assert!(answer.contains("\r\nServer: EC2ws\r\n") && answer.contains("\r\nConnection: close\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\ni-0123456789abcdef0"), "{answer}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(status(&world, &line, &[&token]).await, 401);
}

#[tokio::test(start_paused = true)]
async fn what_is_absent_is_the_recorded_page() {
    let world = World::new().await;
    let token = token(&world, 60).await;
    let answer = ask(&world, "GET /latest/meta-data/spot/instance-action", &[&token]).await;
    let page = "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 \
                Transitional//EN\"\n\t\t \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n<html \
                xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n <head>\n  <title>404 - Not \
                Found</title>\n </head>\n <body>\n  <h1>404 - Not Found</h1>\n </body>\n</html>\n";
    assert_eq!(answer.split_once("\r\n\r\n").unwrap().1, page);
    assert!(answer.contains("Content-Type: text/html\r\n"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_head_request_gets_the_headers_of_the_content_alone() {
    let world = World::new().await;
    let token = token(&world, 60).await;
    let answer = ask(&world, &format!("HEAD {INSTANCE_ID}"), &[&token]).await;
    assert!(answer.contains("Content-Length: 19\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert_eq!(status(&world, &format!("POST {INSTANCE_ID}"), &[&token]).await, 405);
}

#[tokio::test(start_paused = true)]
async fn modes_can_be_switched_live() {
    let world = World::new().await;
    let line = format!("GET {INSTANCE_ID}");
    world.sim.set_tokens_required(false);
    assert_eq!(status(&world, &line, &[]).await, 200);
    assert_eq!(status(&world, &line, &["X-aws-ec2-metadata-token: AQAEAL=="]).await, 401);
    world.sim.set_enabled(false);
    assert_eq!(status(&world, &line, &[]).await, 403);
    world.sim.set_enabled(true);
    world.sim.set_absent(INSTANCE_ID);
    assert_eq!(status(&world, &line, &[]).await, 404);
    world.sim.clear_raw(INSTANCE_ID);
    assert_eq!(status(&world, &line, &[]).await, 200);
}

#[tokio::test(start_paused = true)]
async fn an_announced_time_stays_while_the_clock_moves_on() {
    let world = World::new().await;
    let token = token(&world, 600).await;
    world.announce("terminate", 120);
    let line = "GET /latest/meta-data/spot/termination-time";
    for _ in 0..3 {
        assert!(ask(&world, line, &[&token]).await.ends_with("\r\n\r\n2026-03-31T16:34:24Z"));
        tokio::time::sleep(Duration::from_secs(100)).await;
    }
    world.sim.clear_spot_action();
    assert_eq!(status(&world, line, &[&token]).await, 404);
}

#[tokio::test(start_paused = true)]
async fn a_version_1_request_shows_in_the_log() {
    let world = World::new().await;
    world.sim.set_tokens_required(false);
    world.sim.fault(Fault::new(FaultKind::Close).next(1));
    assert_eq!(ask(&world, &format!("GET {INSTANCE_ID}"), &["X-Forwarded-For: 10.0.0.1"]).await, "");
    let log = world.sim.requests();
    assert_eq!((log[0].path.as_str(), log[0].status), (INSTANCE_ID, None));
    assert!(!log[0].token && log[0].forwarded_for);
}

#[tokio::test(start_paused = true)]
async fn people_who_look_on_are_answered_and_not_counted() {
    let world = World::new().await;
    assert_eq!(status(&world, &format!("GET {INSTANCE_ID}"), &["User-Agent: curl/8.5.0"]).await, 401);
    assert_eq!((world.sim.requests().len(), world.sim.most_in_flight()), (0, 0));
    assert_eq!(status(&world, &format!("GET {INSTANCE_ID}"), &["User-Agent: agent/1"]).await, 401);
    assert_eq!((world.sim.requests().len(), world.sim.most_in_flight()), (1, 1));
}
