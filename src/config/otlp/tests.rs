use rstest::rstest;

use super::*;

const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://10.0.0.1:4318");

fn read(env: &[(&str, &str)]) -> Result<Option<OtlpConfig>, ConfigError> {
    parse(&env.iter().copied().collect(), None)
}

/// With the common endpoint and these variables.
fn config(env: &[(&str, &str)]) -> OtlpConfig {
    let all: Vec<_> = [ENDPOINT].iter().chain(env).copied().collect();
    read(&all).unwrap().unwrap()
}

#[test]
fn without_an_endpoint_nothing_is_pushed_and_nothing_is_judged() {
    let others = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "soon"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_RESOURCE_ATTRIBUTES", "%"),
    ];
    assert_eq!(read(&[]), Ok(None));
    assert_eq!(read(&others), Ok(None));
}

#[test]
fn an_endpoint_alone_means_the_specifications_defaults_for_both_signals() {
    let target = |path: &str| OtlpTarget {
        endpoint: format!("http://10.0.0.1:4318/{path}"),
        headers: HeaderMap::new(),
        timeout: Duration::from_secs(10),
        gzip: false,
        tls: PeerTls::default(),
    };
    let expected = OtlpConfig {
        metrics: Some(target("v1/metrics")),
        traces: Some(target("v1/traces")),
        headers_file: None,
        interval: Duration::from_secs(60),
        export_timeout: Duration::from_secs(30),
        temporality: Temporality::Cumulative,
        resource: ResourceConfig::default(),
    };
    assert_eq!(config(&[]), expected);
}

#[rstest]
#[case::base("http://c:4318", "http://c:4318/v1/metrics")]
#[case::slash("http://c:4318/", "http://c:4318/v1/metrics")]
#[case::path("https://c/otlp", "https://c/otlp/v1/metrics")]
#[case::path_and_slash("https://c/otlp/", "https://c/otlp/v1/metrics")]
#[case::ipv6("http://[fd00::1]:4318", "http://[fd00::1]:4318/v1/metrics")]
fn the_path_is_added_to_the_common_endpoint(#[case] base: &str, #[case] expected: &str) {
    let config = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", base)]).unwrap().unwrap();
    assert_eq!(config.metrics.unwrap().endpoint, expected);
}

#[rstest]
#[case("http://c:4318", "http://c:4318/")]
#[case("https://c/api/v1/otlp?tenant=7", "https://c/api/v1/otlp?tenant=7")]
fn a_signals_own_endpoint_is_used_as_it_is(#[case] own: &str, #[case] expected: &str) {
    let config = read(&[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", own)]).unwrap().unwrap();
    assert_eq!((config.metrics.unwrap().endpoint.as_str(), config.traces), (expected, None));
    let config = read(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", own)]).unwrap().unwrap();
    assert_eq!(config.traces.unwrap().endpoint, expected);
    assert_eq!(config.metrics.unwrap().endpoint, "http://10.0.0.1:4318/v1/metrics");
}

#[rstest]
#[case::off(&[("OTEL_SDK_DISABLED", "True")], false, false)]
#[case::not_off(&[("OTEL_SDK_DISABLED", "false")], true, true)]
#[case::no_metrics(&[("OTEL_METRICS_EXPORTER", "none")], false, true)]
#[case::scraped_only(&[("OTEL_METRICS_EXPORTER", "prometheus")], false, true)]
#[case::both_ways(&[("OTEL_METRICS_EXPORTER", "prometheus, otlp")], true, true)]
#[case::no_traces(&[("OTEL_TRACES_EXPORTER", "none")], true, false)]
#[case::neither(&[("OTEL_METRICS_EXPORTER", "none"), ("OTEL_TRACES_EXPORTER", "none")], false, false)]
fn each_signal_can_be_switched_off(#[case] env: &[(&str, &str)], #[case] metrics: bool, #[case] traces: bool) {
    let all: Vec<_> = [ENDPOINT].iter().chain(env).copied().collect();
    let config = read(&all).unwrap();
    let on = |target: fn(&OtlpConfig) -> bool| config.as_ref().is_some_and(target);
    assert_eq!((on(|config| config.metrics.is_some()), on(|config| config.traces.is_some())), (metrics, traces));
    assert_eq!(config.is_none(), !metrics && !traces);
}

#[test]
fn a_signals_own_variable_wins_over_the_common_one() {
    let config = config(&[
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "HTTP/protobuf"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=1"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "b=2"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "1500"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
        ("OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "/metrics.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/c.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/k.pem"),
        ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "/t.pem"),
    ]);
    let (metrics, traces) = (config.metrics.unwrap(), config.traces.unwrap());
    assert_eq!((&metrics.headers["a"], metrics.headers.len()), (&HeaderValue::from_static("1"), 1));
    assert_eq!((&traces.headers["b"], traces.headers.len()), (&HeaderValue::from_static("2"), 1));
    assert_eq!((metrics.timeout, traces.timeout), (Duration::from_millis(1500), Duration::from_secs(2)));
    assert_eq!((metrics.gzip, traces.gzip), (true, false));
    assert_eq!(metrics.tls.ca_file, Some("/metrics.pem".into()));
    assert_eq!(traces.tls.ca_file, Some("/ca.pem".into()));
    assert_eq!(metrics.tls.certificate, Some(("/c.pem".into(), "/k.pem".into())));
    assert_eq!(traces.tls.certificate, Some(("/c.pem".into(), "/t.pem".into())));
}

#[test]
fn times_and_temporality_are_read() {
    let read = config(&[
        ("OTEL_METRIC_EXPORT_INTERVAL", "5000"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "1000"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "Delta"),
    ]);
    assert_eq!((read.interval, read.export_timeout), (Duration::from_secs(5), Duration::from_secs(1)));
    assert_eq!(read.temporality, Temporality::Delta);
    let low = config(&[("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "lowmemory")]);
    assert_eq!(low.temporality, Temporality::LowMemory);
}

#[test]
fn the_resource_is_read_with_percent_encoding_in_its_order() {
    let config = config(&[
        ("OTEL_RESOURCE_ATTRIBUTES", "k8s.cluster.name=a%2Cb, x = y=z ,,x=%C3%A4"),
        ("OTEL_SERVICE_NAME", "warden"),
        ("POD_NAME", "spotwarden-x7"),
        ("POD_NAMESPACE", "spotwarden"),
        ("POD_UID", "u"),
    ]);
    let expected = ResourceConfig {
        attributes: [("k8s.cluster.name", "a,b"), ("x", "y=z"), ("x", "ä")].map(|(k, v)| (k.into(), v.into())).into(),
        service_name: Some("warden".into()),
        pod_name: Some("spotwarden-x7".into()),
        pod_namespace: Some("spotwarden".into()),
        pod_uid: Some("u".into()),
    };
    assert_eq!(config.resource, expected);
}

#[rstest]
#[case("OTEL_SDK_DISABLED", "1", "use true or false")]
#[case("OTEL_METRICS_EXPORTER", "console", "an exporter that is not there; use otlp or none or prometheus")]
#[case("OTEL_TRACES_EXPORTER", "otlp,zipkin", "an exporter that is not there; use otlp or none")]
#[case("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "collector:4318", "not an http:// or https:// URL")]
#[case("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "//collector", "is not a URL")]
#[case("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "unix:///run/c.sock", "not an http:// or https:// URL")]
#[case("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://c/#x", "has a fragment")]
#[case("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://$(HOST_IP):4318", "a variable that the kubelet did not know")]
#[case("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318?x=1", "has a query")]
#[case("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "use http/protobuf")]
#[case("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json", "use http/protobuf")]
#[case("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "not a whole number of milliseconds")]
#[case("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0", "is out of range; use whole milliseconds, 1 to 600000")]
#[case("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "use gzip or none")]
#[case("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/c.pem", "a certificate without its key")]
#[case("OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY", "/k.pem", "a key without its certificate")]
#[case("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "sometimes", "use cumulative, delta or lowmemory")]
#[case("OTEL_METRIC_EXPORT_INTERVAL", "100", "is out of range; use whole milliseconds, 1000 to 3600000")]
#[case("OTEL_METRIC_EXPORT_TIMEOUT", "-1", "not a whole number of milliseconds")]
#[case("OTEL_RESOURCE_ATTRIBUTES", "a", "has an entry 1 without `=`")]
#[case("OTEL_RESOURCE_ATTRIBUTES", "a=1,=2", "has an entry 2 without a key")]
#[case("OTEL_RESOURCE_ATTRIBUTES", "a=%zz", "entry 1 that is not percent-encoded")]
fn what_cannot_be_used_is_refused_in_one_line(#[case] name: &str, #[case] value: &str, #[case] why: &str) {
    let env = if name == ENDPOINT.0 { vec![(name, value)] } else { vec![ENDPOINT, (name, value)] };
    let message = read(&env).unwrap_err().to_string();
    assert!(message.starts_with(&format!("{name} is `{value}`")) && message.contains(why), "{message}");
    assert_eq!(message.lines().count(), 1);
}

#[rstest]
#[case::no_equals("OTEL_EXPORTER_OTLP_HEADERS", "s3cret", "has an entry 1 without `=`")]
#[case::no_name("OTEL_EXPORTER_OTLP_HEADERS", "a=1,b c=s3cret", "entry 2 whose name cannot be")]
#[case::not_encoded("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "a=s3cret%4", "`a` that is not percent-encoded")]
#[case::no_header_value("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=s3cret%0A", "`a` with a character that no header")]
#[case::reserved("OTEL_EXPORTER_OTLP_HEADERS", "Content-Type=s3cret", "sets the header `content-type`")]
#[case::user_in_url("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://u:s3cret@c:4318", "holds credentials")]
fn a_refused_secret_is_not_repeated(#[case] name: &str, #[case] value: &str, #[case] why: &str) {
    let message = read(&[ENDPOINT, (name, value)]).unwrap_err().to_string();
    assert!(message.starts_with(name) && message.contains(why) && !message.contains("s3cret"), "{message}");
}

#[test]
fn headers_are_decoded_and_never_shown() {
    let headers = headers("Authorization=Bearer%20s3cret, x-scope-orgid = 7\n\nx-empty=\n").unwrap();
    assert_eq!((headers.len(), &headers["authorization"]), (3, &HeaderValue::from_static("Bearer s3cret")));
    assert_eq!(headers["x-scope-orgid"], "7");
    let config = config(&[("OTEL_EXPORTER_OTLP_HEADERS", "authorization=s3cret")]);
    assert!(!format!("{config:?}").contains("s3cret"), "{config:?}");
}

#[test]
fn the_list_of_what_applies_hides_the_headers() {
    let env: Environment = [
        ("NODE_NAME", "n1"),
        ENDPOINT,
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=s3cret"),
        ("SPOTWARDEN_OTLP_HEADERS_FILE", "/etc/otlp/headers"),
    ]
    .into_iter()
    .collect();
    let effective = super::super::parse::effective(&|_| None, &env);
    let value = |name: &str| effective.iter().find(|one| one.env == name).unwrap().value.as_deref();
    assert_eq!(value("OTEL_EXPORTER_OTLP_ENDPOINT"), Some(ENDPOINT.1));
    assert_eq!(value("OTEL_EXPORTER_OTLP_HEADERS"), Some("(hidden)"));
    assert_eq!(value("SPOTWARDEN_OTLP_HEADERS_FILE"), Some("/etc/otlp/headers"));
    assert!(!effective.iter().any(|one| one.env == "OTEL_EXPORTER_OTLP_TIMEOUT"), "not set, not shown");
}

#[test]
fn every_variable_of_the_list_is_read() {
    // Each has a value that is refused or makes a difference; a name that nobody reads would do neither.
    let base = read(&[ENDPOINT]);
    for name in VARIABLES.into_iter().filter(|name| *name != ENDPOINT.0) {
        let value = match name {
            _ if name.ends_with("_ENDPOINT") => "http://other:1/",
            _ if name.ends_with("_CERTIFICATE") || name == "OTEL_SERVICE_NAME" => "x",
            _ => "%",
        };
        assert_ne!(read(&[ENDPOINT, (name, value)]), base, "{name}");
    }
}

#[test]
fn no_text_makes_the_parsers_panic() {
    proptest::proptest!(|(text in "[-=,%a-f0-9 \nä:/@#$()\\[\\]]{0,30}")| {
        let _ = (headers(&text), attributes(&text), percent_decoded(&text));
        for name in VARIABLES {
            let _ = read(&[ENDPOINT, (name, &text)]);
        }
    });
}
