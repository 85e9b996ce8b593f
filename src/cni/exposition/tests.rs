use super::*;

const GOLDEN: &[u8] = include_bytes!("../../../tests/golden/cni/metrics.txt");

fn read(text: &str) -> Scrape {
    scrape(format!("awscni_eni_max 3\n{text}\n").as_bytes()).unwrap()
}

#[test]
fn the_series_that_matter_are_read() {
    let scrape = scrape(GOLDEN).unwrap();
    assert_eq!((scrape.eni_max, scrape.ip_max, scrape.enis), (Some(3), Some(9), Some(2)));
    assert_eq!((scrape.total, scrape.assigned), (Some(3), Some(1)));
    let counters = scrape.counters;
    assert_eq!((counters.adds, counters.unavailable), (2, 0));
    assert_eq!((counters.refused, counters.invalid, counters.throttled), (5, 0, 0));
    assert_eq!((counters.heartbeat, counters.started, counters.detachments), (Some(54), None, 0));
    assert_eq!(counters.latencies.assign, Latency { milliseconds: 420.0, calls: 1 });
    assert_eq!(counters.latencies.create, Latency::default());
}

#[test]
fn absent_families_are_unknown_or_nothing() {
    let scrape = read("");
    assert_eq!((scrape.total, scrape.ip_max, scrape.counters), (None, None, Counters::default()));
}

#[test]
fn numbers_come_as_go_writes_them() {
    let scrape = read("awscni_total_ip_addresses 2.81474976710656e+14\nawscni_assigned_ip_addresses -2");
    assert_eq!((scrape.total, scrape.assigned), (Some(1 << 48), Some(-2)));
    let scrape = read("awscni_total_ip_addresses NaN\nawscni_assigned_ip_addresses +Inf\nawscni_add_ip_req_count NaN");
    assert_eq!((scrape.total, scrape.assigned, scrape.counters.adds), (None, Some(1 << 53), 0));
    let scrape = read("process_start_time_seconds 1.77788592025e+09\nawscni_add_ip_req_count 12 1777885920250");
    assert_eq!((scrape.counters.started, scrape.counters.adds), (Some(1_777_885_920.25), 12));
}

#[test]
fn label_values_may_hold_anything_that_is_escaped() {
    let error = r#"awscni_aws_api_error_count{api="Create\"Network\\Interface,}",error="RequestLimitExceeded"} 4"#;
    assert_eq!(read(error).counters.throttled, 4);
    let swapped = r#"awscni_aws_api_error_count{ error = "InvalidParameterValue" , api="CreateNetworkInterface", } 2"#;
    assert_eq!(read(swapped).counters.invalid, 2);
}

#[test]
fn families_without_bound_are_not_even_parsed() {
    let text = "awscni_aws_utils_error_count{fn=\"x\",error=\"broken } \\\" quoting} oh\n\
        awscni_assigned_ip_per_cidr{cidr=\"10.8.1.20/32\"} nothing";
    assert_eq!(read(text), read(""));
}

#[test]
fn the_sums_of_series_with_other_labels_add_up() {
    let text = "awscni_force_removed_enis 1\nawscni_force_removed_ips 3\n\
        awscni_ec2api_req_count{fn=\"DetachNetworkInterface\"} 5\nawscni_ec2api_req_count{fn=\"CreateTags\"} 7";
    let counters = read(text).counters;
    assert_eq!((counters.forced, counters.detachments), (4, 5));
}

#[test]
fn failed_calls_have_no_part_in_latencies() {
    let text = "awscni_aws_api_latency_ms_sum{api=\"CreateNetworkInterface\",error=\"true\",status=\"X\"} 900\n\
        awscni_aws_api_latency_ms_count{api=\"CreateNetworkInterface\",error=\"true\",status=\"X\"} 3\n\
        awscni_aws_api_latency_ms_sum{api=\"CreateNetworkInterface\",error=\"false\",status=\"200\"} 500\n\
        awscni_aws_api_latency_ms_sum{api=\"CreateNetworkInterface\",error=\"false\",status=\"\"} 100\n\
        awscni_aws_api_latency_ms_count{api=\"CreateNetworkInterface\",error=\"false\",status=\"200\"} 2";
    assert_eq!(read(text).counters.latencies.create, Latency { milliseconds: 600.0, calls: 2 });
}

#[test]
fn what_is_not_ipamds_or_not_whole_is_refused() {
    for (body, refusal) in [
        (b"".as_slice(), Refusal::Foreign),
        (b"go_threads 5\n", Refusal::Foreign),
        (b"{\"AvailableCommands\":[\"/v1/enis\"]}\n", Refusal::Foreign),
        (b"awscni_eni_max 3\nawscni_total_ip_addresses 1", Refusal::Truncated),
        (b"awscni_eni_max\n", Refusal::Malformed),
        (b"awscni_eni_max three\n", Refusal::Malformed),
        (b"awscni_reconcile_count{fn=\"eni\n", Refusal::Malformed),
        (b"awscni_eni_max 3\n\xff\n", Refusal::Malformed),
    ] {
        assert_eq!(scrape(body), Err(refusal), "{}", String::from_utf8_lossy(body));
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(lines in proptest::collection::vec(
        "(awscni_eni_max|awscni_aws_api_error_count|process_start_time_seconds)[{}a-z=\",\\\\ 0-9é]{0,40}", 0..5,
    )) {
        let _ = scrape(format!("{}\n", lines.join("\n")).as_bytes());
    }
}

#[test]
fn series_of_what_is_gone_stay_at_zero_and_change_no_figure() {
    let live = std::str::from_utf8(GOLDEN).unwrap();
    let stale = "awscni_assigned_ip_per_cidr{cidr=\"10.8.9.20/32\"} 0\nawscni_assigned_ip_per_cidr{cidr=\"10.8.9.16/28\"} 0\n\
        awscni_assigned_ip_per_eni{eni=\"eni-0123456789abcde09\"} 0\nawscni_assigned_ip_per_cidr{cidr=\"10.8.1.21/32\"} -1\n";
    let read = scrape(format!("{live}{stale}").as_bytes()).unwrap();
    assert_eq!(read, scrape(GOLDEN).unwrap());
    assert_eq!((read.total, read.assigned, read.enis), (Some(3), Some(1), Some(2)));
}

#[test]
fn the_version_is_shown_without_what_could_harm() {
    assert_eq!(scrape(GOLDEN).unwrap().version.as_deref(), Some("v1.23.1"));
    let odd = format!("awscni_build_info{{version=\"v1\\n{}\"}} 1", "x".repeat(100));
    assert_eq!(read(&odd).version, Some(format!("v1{}", "x".repeat(38))));
    assert_eq!(read("").version, None);
}
