//! One test per status rule, named after the rule.

use std::time::Duration;

use rstest::rstest;
use spotwarden::imds::{Error, Item};
use spotwarden::sim::imds::{Fault, FaultKind, IdentitySpec};
use tokio::time::{Instant, sleep, timeout};

use super::{SPOT, TOKEN, World};

fn put(kind: FaultKind) -> Fault {
    Fault::new(kind).path(TOKEN)
}

fn get(kind: FaultKind) -> Fault {
    Fault::new(kind).path("/latest/meta-data/")
}

#[tokio::test(start_paused = true)]
async fn status_200_is_the_body_and_status_404_is_an_absence() {
    let world = World::new().await;
    let client = world.client();
    let answer = client.get(Item::SpotAction).await.unwrap();
    assert!(answer.body.is_none());
    assert_eq!(answer.timing.date, Some("2026-03-31T16:32:24Z".parse().unwrap()));
    world.announce("terminate", 120);
    let body = client.get(Item::SpotAction).await.unwrap().body.unwrap();
    assert_eq!(&body[..], br#"{"action":"terminate","time":"2026-03-31T16:34:24Z"}"#);
    assert_eq!(world.log(), ["PUT 200", "GET 404", "GET 200"]);
    assert_eq!((world.requests("spot", "ok"), world.requests("spot", "error")), (2, 0), "absence is an answer");
    assert_eq!(world.requests("token", "ok"), 1);
    world.assert_well_behaved();
}

#[rstest]
#[case::bad_request(400, "protocol")]
#[case::forbidden(403, "denied")]
#[case::no_tokens_here(404, "protocol")]
#[case::wrong_method(405, "protocol")]
#[case::throttled(429, "throttled")]
#[case::broken(500, "server_error")]
#[case::unavailable(503, "server_error")]
#[case::no_content(204, "protocol")]
#[tokio::test(start_paused = true)]
async fn any_other_status_is_an_error_without_a_retry(#[case] status: u16, #[case] reason: &str) {
    let world = World::new().await;
    let client = world.client();
    world.sim.fault(put(FaultKind::Status(status)).next(1));
    assert_eq!(client.get(Item::SpotAction).await.unwrap_err().reason(), reason);
    assert_eq!((world.failures(reason), world.requests("token", "error")), (1, 1));
    if status != 404 {
        world.sim.fault(get(FaultKind::Status(status)).next(1));
        assert_eq!(client.get(Item::SpotAction).await.unwrap_err().reason(), reason);
        assert_eq!((world.failures(reason), world.requests("spot", "error")), (2, 1));
        assert_eq!(world.log(), [format!("PUT {status}"), "PUT 200".into(), format!("GET {status}")]);
    }
    world.assert_well_behaved();
}

#[tokio::test(start_paused = true)]
async fn status_401_brings_one_fresh_token_and_one_immediate_retry() {
    let world = World::new().await;
    let client = world.client();
    client.get(Item::SpotAction).await.unwrap();
    world.sim.forget_tokens();
    let started = Instant::now();
    assert!(client.get(Item::SpotAction).await.unwrap().body.is_none());
    assert!(started.elapsed() < Duration::from_millis(50));
    assert_eq!(world.log(), ["PUT 200", "GET 404", "GET 401", "PUT 200", "GET 404"]);
    world.assert_well_behaved();
}

#[tokio::test(start_paused = true)]
async fn a_second_401_in_a_row_is_an_error() {
    let world = World::new().await;
    world.sim.fault(get(FaultKind::Status(401)));
    let error = world.client().get(Item::SpotAction).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized(_)), "{error}");
    assert_eq!(world.log(), ["PUT 200", "GET 401", "PUT 200", "GET 401"]);
}

#[tokio::test(start_paused = true)]
async fn status_403_names_the_switch() {
    let world = World::new().await;
    world.sim.set_enabled(false);
    let error = world.client().get(Item::SpotAction).await.unwrap_err();
    assert!(error.to_string().contains("HttpEndpoint=enabled"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_token_request_without_an_answer_names_the_hop_limit() {
    let world = World::new().await;
    world.sim.fault(put(FaultKind::Silence));
    let started = Instant::now();
    let error = world.client().get(Item::SpotAction).await.unwrap_err();
    assert!(started.elapsed() <= Duration::from_secs(3), "{:?}", started.elapsed());
    let text = error.to_string();
    assert!(text.contains("HttpPutResponseHopLimit") && text.contains("hostNetwork"), "{text}");
    assert_eq!((error.reason(), world.failures("timeout")), ("timeout", 1));
}

#[tokio::test(start_paused = true)]
async fn a_get_without_an_answer_does_not_name_the_hop_limit() {
    let world = World::new().await;
    world.sim.fault(get(FaultKind::Silence));
    let error = world.client().get(Item::SpotAction).await.unwrap_err();
    assert_eq!(error.reason(), "timeout");
    assert!(!error.to_string().contains("HopLimit"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_dribbles_in_has_three_seconds_in_all() {
    let world = World::new().await;
    // The head alone fits into the 2 s that one read may take.
    world.sim.set_raw(SPOT, vec![b' '; 1000]);
    world.sim.fault(get(FaultKind::Dribble(Duration::from_millis(5))));
    let started = Instant::now();
    assert_eq!(world.client().get(Item::SpotAction).await.unwrap_err().reason(), "timeout");
    let took = started.elapsed();
    assert!((Duration::from_millis(2900)..=Duration::from_millis(3100)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_is_a_connection_error() {
    let mut world = World::new().await;
    // The port of a listener that is gone again.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    world.config.endpoint = format!("http://{free}");
    let error = world.client().get(Item::SpotAction).await.unwrap_err();
    assert_eq!(error.reason(), "connection");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_token_lives_21600_seconds_and_is_replaced_at_80_percent() {
    let world = World::new().await;
    let client = world.client();
    client.get(Item::SpotAction).await.unwrap();
    sleep(Duration::from_secs(17_279)).await;
    client.get(Item::SpotAction).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    client.get(Item::SpotAction).await.unwrap();
    assert_eq!(world.log(), ["PUT 200", "GET 404", "GET 404", "PUT 200", "GET 404"]);
}

#[tokio::test(start_paused = true)]
async fn a_failing_refresh_keeps_the_old_token_and_costs_one_request_a_minute() {
    let world = World::new().await;
    let client = world.client();
    client.get(Item::SpotAction).await.unwrap();
    sleep(Duration::from_secs(17_300)).await;
    world.sim.fault(put(FaultKind::Status(503)));
    for _ in 0..61 {
        client.get(Item::SpotAction).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(world.log().iter().filter(|line| *line == "PUT 503").count(), 2);
    assert_eq!(world.requests("spot", "ok"), 62);
    // At its end the old token is of no use, so that the failure shows.
    sleep(Duration::from_secs(4300)).await;
    assert_eq!(client.get(Item::SpotAction).await.unwrap_err().reason(), "server_error");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_is_given_up_half_way_keeps_the_old_token_too() {
    let world = World::new().await;
    let client = world.client();
    client.get(Item::SpotAction).await.unwrap();
    sleep(Duration::from_secs(17_300)).await;
    world.sim.fault(put(FaultKind::Silence));
    assert!(timeout(Duration::from_millis(500), client.get(Item::SpotAction)).await.is_err());
    let started = Instant::now();
    client.get(Item::SpotAction).await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(50), "{:?}", started.elapsed());
}

#[rstest]
#[case::spot(Item::SpotAction, 2000)]
#[case::identity(Item::IdentityDocument, 2000)]
#[case::rebalance(Item::Rebalance, 1500)]
#[case::scheduled(Item::ScheduledEvents, 1500)]
#[case::history(Item::EventHistory, 1500)]
#[case::asg(Item::TargetLifecycleState, 1500)]
#[tokio::test(start_paused = true)]
async fn what_is_less_urgent_than_the_spot_notice_is_waited_for_less(#[case] item: Item, #[case] patience: u64) {
    let world = World::new().await;
    let client = world.client();
    client.get(Item::SpotAction).await.unwrap();
    for fault in [Fault::new(FaultKind::Silence).path(&item.path()), put(FaultKind::Silence)] {
        world.sim.clear_faults();
        world.sim.forget_tokens();
        world.sim.fault(fault);
        let started = Instant::now();
        assert_eq!(client.get(item).await.unwrap_err().reason(), "timeout");
        let took = started.elapsed();
        let expected = Duration::from_millis(patience)..Duration::from_millis(patience + 60);
        assert!(expected.contains(&took), "{took:?}");
    }
}

#[rstest]
#[case::missing(FaultKind::NoTtl, 1)]
#[case::zero(FaultKind::Ttl("0".into()), 2)]
#[case::larger_than_asked(FaultKind::Ttl("999999999999".into()), 1)]
#[case::words(FaultKind::Ttl("for ever".into()), 1)]
#[tokio::test(start_paused = true)]
async fn an_odd_ttl_header_neither_fails_nor_asks_for_a_token_each_time(#[case] kind: FaultKind, #[case] tokens: u64) {
    let world = World::new().await;
    world.sim.fault(put(kind));
    let client = world.client();
    for _ in 0..50 {
        client.get(Item::SpotAction).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    // 80 % of the shortest life that is believed are 48 s.
    assert_eq!(world.requests("token", "ok"), tokens);
}

#[rstest]
#[case::control_character(b"AQ\x07EA".to_vec())]
#[case::header_injection(b"AQ\r\nX-Forwarded-For: 1".to_vec())]
#[case::not_ascii(b"\xff\xfe".to_vec())]
#[case::empty(Vec::new())]
#[case::html(b"<html><body>no</body></html> <p>".to_vec())]
#[tokio::test(start_paused = true)]
async fn a_token_that_no_header_can_carry_is_dropped_and_asked_for_again(#[case] body: Vec<u8>) {
    let world = World::new().await;
    world.sim.fault(put(FaultKind::Body(body)).next(1));
    let client = world.client();
    assert_eq!(client.get(Item::SpotAction).await.unwrap_err().reason(), "protocol");
    client.get(Item::SpotAction).await.unwrap();
    assert_eq!(world.log(), ["PUT 200", "PUT 200", "GET 404"]);
}

#[tokio::test(start_paused = true)]
async fn a_body_beyond_64_kib_is_refused() {
    let world = World::new().await;
    world.sim.set_raw(SPOT, vec![b' '; 64 * 1024 + 1]);
    let client = world.client();
    assert_eq!(client.get(Item::SpotAction).await.unwrap_err().reason(), "protocol");
    world.sim.set_raw(SPOT, vec![b' '; 64 * 1024]);
    assert!(client.get(Item::SpotAction).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn clones_take_turns_and_share_one_token() {
    let world = World::new().await;
    let (client, second, third) = {
        let client = world.client();
        (client.clone(), client.clone(), client)
    };
    world.sim.fault(get(FaultKind::Delay(Duration::from_millis(300))));
    let (a, b, c) =
        tokio::join!(client.get(Item::SpotAction), second.get(Item::LifeCycle), third.get(Item::InstanceType));
    assert!(a.unwrap().body.is_none());
    assert_eq!(&b.unwrap().body.unwrap()[..], b"spot");
    assert_eq!(&c.unwrap().body.unwrap()[..], b"m5.large");
    assert_eq!(world.log(), ["PUT 200", "GET 404", "GET 200", "GET 200"]);
    world.assert_well_behaved();
}

#[tokio::test(start_paused = true)]
async fn the_identity_comes_from_the_document_and_two_items() {
    let world = World::new().await;
    let identity = world.client().identity().await.unwrap();
    assert_eq!(identity.instance_id.as_deref(), Some("i-0123456789abcdef0"));
    assert_eq!(identity.instance_type.as_deref(), Some("m5.large"));
    assert_eq!(identity.availability_zone.as_deref(), Some("eu-west-1a"));
    assert_eq!(identity.availability_zone_id.as_deref(), Some("euw1-az1"));
    assert_eq!(identity.region.as_deref(), Some("eu-west-1"));
    assert_eq!(identity.life_cycle.as_deref(), Some("spot"));
    assert_eq!(world.log(), ["PUT 200", "GET 200", "GET 200", "GET 200"]);
}

#[tokio::test(start_paused = true)]
async fn an_identity_without_document_is_read_item_by_item_and_gaps_stay_gaps() {
    let world = World::with_identity(IdentitySpec { life_cycle: None, ..IdentitySpec::default() }).await;
    world.sim.set_raw("/latest/dynamic/instance-identity/document", "<html></html>");
    world.sim.fault(Fault::new(FaultKind::Status(503)).path("/latest/meta-data/placement/region"));
    let identity = world.client().identity().await.unwrap();
    assert_eq!(identity.instance_id.as_deref(), Some("i-0123456789abcdef0"));
    assert_eq!(identity.availability_zone.as_deref(), Some("eu-west-1a"));
    assert_eq!((identity.life_cycle, identity.region, identity.account_id), (None, None, None));
    assert_eq!(world.rejected("malformed"), 1);
    world.sim.set_enabled(false);
    assert_eq!(world.client().identity().await.unwrap_err().reason(), "denied");
}
