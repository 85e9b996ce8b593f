use rstest::rstest;

use super::*;
use crate::config::LocalAddress;

/// Parses with these flags and variables, and a node name unless one is among them.
fn parse(flags: &[(&str, &str)], env: &[(&str, &str)]) -> Result<RunConfig, ConfigError> {
    let given = |flag: &str| flags.iter().find(|(name, _)| *name == flag).map(|(_, value)| (*value).to_owned());
    let named = [("NODE_NAME", "ip-10-0-0-1.ec2.internal")];
    let env: Environment = named.iter().chain(env).copied().collect();
    run_config(&given, &env)
}

fn agent(flags: &[(&str, &str)], env: &[(&str, &str)]) -> Config {
    parse(flags, env).unwrap().agent
}

fn message(flags: &[(&str, &str)], env: &[(&str, &str)]) -> String {
    let message = parse(flags, env).unwrap_err().to_string();
    assert_eq!(message.lines().count(), 1, "{message:?}");
    message
}

#[test]
fn with_a_node_name_alone_everything_is_at_its_default() {
    let config = parse(&[], &[]).unwrap();
    assert_eq!(config.agent, Config::for_node("ip-10-0-0-1.ec2.internal"));
    assert_eq!(config.log, LogConfig::default());
}

#[test]
fn every_setting_can_be_given_as_a_flag() {
    let config = parse(
        &[
            ("node-name", "n1"),
            ("kubeconfig", "/tmp/k"),
            ("on-spot-interruption", "cordon"),
            ("on-blocked-eviction", "wait"),
            ("shutdown-tail", "2m 30s"),
            ("safety-margin", "500ms"),
            ("load-balancer-wait", "20s"),
            ("shutdown-grace-by-priority", "[{priority: 5, shutdownGracePeriodSeconds: 30}]"),
            ("spot-poll-interval", "2s"),
            ("taint-key", "example.com/going"),
            ("taint-effect", "PreferNoSchedule"),
            ("pod-ip-exhaustion-taint", "true"),
            ("dry-run", "true"),
            ("admin-address", "[::1]:1234"),
            ("log-format", "json"),
            ("log-level", "debug"),
        ],
        &[],
    )
    .unwrap();
    let expected = Config {
        node_name: "n1".into(),
        kubeconfig: Some("/tmp/k".into()),
        imds: ImdsConfig { spot_interval: Duration::from_secs(2), ..Config::for_node("n1").imds },
        on_spot_interruption: Response::Cordon,
        marks: MarkConfig {
            style: MarkStyle::Spotwarden,
            taint_key: "example.com/going".into(),
            taint_effect: "PreferNoSchedule".into(),
        },
        on_blocked_eviction: OnBlockedEviction::Wait,
        shutdown_tail: Duration::from_secs(150),
        safety_margin: Duration::from_millis(500),
        load_balancer_wait: Duration::from_secs(20),
        shutdown_by_priority: vec![PriorityShare { priority: 5, seconds: 30 }],
        cni: CniConfig { taint_on_exhaustion: true, ..Config::for_node("n1").cni },
        dry_run: true,
        booted_at: None,
        admin_address: "[::1]:1234".parse().unwrap(),
        ..Config::for_node("n1")
    };
    assert_eq!(config.agent, expected);
    assert_eq!(config.log, LogConfig { format: LogFormat::Json, filter: "debug".parse().unwrap() });
}

#[test]
fn a_flag_wins_over_its_variable_and_an_empty_variable_over_nothing() {
    let tail = |flags: &[(&str, &str)], value| agent(flags, &[("SPOTWARDEN_SHUTDOWN_TAIL", value)]).shutdown_tail;
    assert_eq!(tail(&[], "20s"), Duration::from_secs(20));
    assert_eq!(tail(&[("shutdown-tail", "10s")], "20s"), Duration::from_secs(10));
    assert_eq!(tail(&[], ""), Duration::ZERO);
}

#[test]
fn rust_log_applies_unless_the_level_is_given() {
    let filter = |flags: &[(&str, &str)], env: &[(&str, &str)]| parse(flags, env).unwrap().log.filter;
    let wanted = |text: &str| text.parse::<LogFilter>().unwrap();
    assert_eq!(filter(&[], &[("RUST_LOG", "warn,kube=debug")]), wanted("warn,kube=debug"));
    assert_eq!(filter(&[("log-level", "error")], &[("RUST_LOG", "warn")]), wanted("error"));
    assert_eq!(filter(&[], &[("RUST_LOG", "warn"), ("SPOTWARDEN_LOG_LEVEL", "trace")]), wanted("trace"));
}

/// What a manifest makes of the pod's address, whichever family it is of.
#[rstest]
#[case::ipv4("192.0.2.7:9808", "192.0.2.7:9808")]
#[case::ipv6_in_brackets("[2001:db8::7]:9808", "[2001:db8::7]:9808")]
#[case::ipv6_as_kubernetes_writes_it("2001:db8::7:9808", "[2001:db8::7]:9808")]
#[case::all_groups("2001:db8:1:2:3:4:5:6:9808", "[2001:db8:1:2:3:4:5:6]:9808")]
#[case::loopback("::1:9808", "[::1]:9808")]
fn the_admin_address_is_an_ip_address_with_a_port(#[case] given: &str, #[case] means: &str) {
    let config = parse(&[("node-name", "n1"), ("admin-address", given)], &[]).unwrap();
    assert_eq!(config.agent.admin_address, means.parse().unwrap());
}

#[rstest]
#[case(&[], "http://169.254.169.254")]
#[case(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "ipv6")], "http://[fd00:ec2::254]")]
#[case(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv4")], "http://169.254.169.254")]
#[case(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1338/")], "http://127.0.0.1:1338")]
#[case(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://[fd00:ec2::254]")], "http://[fd00:ec2::254]")]
#[case(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://imds"), ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6")],
    "http://imds")]
#[case(&[("AWS_EC2_METADATA_DISABLED", "false")], "http://169.254.169.254")]
fn the_metadata_service_is_found_as_by_the_tools_of_aws(#[case] env: &[(&str, &str)], #[case] endpoint: &str) {
    assert_eq!(agent(&[], env).imds.endpoint, endpoint);
}

#[rstest]
#[case::response(("on-spot-interruption", "evict"),
    "--on-spot-interruption is `evict`, which is not known; use one of ignore, observe, taint, cordon, drain")]
#[case::blocked(("on-blocked-eviction", "Delete"),
    "--on-blocked-eviction is `Delete`, which is not known; use delete or wait")]
#[case::dry_run(("dry-run", "yes"), "--dry-run is `yes`, which is not known; use true or false")]
#[case::log_format(("log-format", "xml"), "--log-format is `xml`, which is not known; use json or plain")]
#[case::bare_number(("shutdown-tail", "30"),
    "--shutdown-tail is `30`, which is not a duration with a unit; write for example 500ms, 30s or 2m")]
#[case::negative(("safety-margin", "-1s"),
    "--safety-margin is `-1s`, which is less than nothing; write for example 500ms, 30s or 2m")]
#[case::ago(("safety-margin", "1s ago"), "--safety-margin is `1s ago`, which is less than nothing")]
#[case::no_duration(("safety-margin", ""), "--safety-margin is ``, which is not a duration")]
#[case::huge(("shutdown-tail", "99999999999999999999s"), "--shutdown-tail is `99999999999999999999s`, which is not a")]
#[case::margin(("safety-margin", "60s"),
    "--safety-margin is `60s`, which is at least half of the two minutes that a notice leaves; use less than 60s")]
#[case::tail(("shutdown-tail", "601s"),
    "--shutdown-tail is `601s`, which is longer than EC2 waits for an instance to stop; use the kubelet's")]
#[case::balancers(("load-balancer-wait", "6m"), "--load-balancer-wait is `6m`, which is too long; use 0s to 5m")]
#[case::shares(("shutdown-grace-by-priority", "- priority: 5\n"),
    "--shutdown-grace-by-priority is `- priority: 5\\n`, which has no `shutdownGracePeriodSeconds` in entry 1; paste the \
     kubelet's list")]
#[case::no_shares(("shutdown-grace-by-priority", ""), "--shutdown-grace-by-priority is ``, which is not a list")]
#[case::too_often(("spot-poll-interval", "999ms"),
    "--spot-poll-interval is `999ms`, which is too often for the metadata service; use 1s to 30s")]
#[case::too_seldom(("spot-poll-interval", "31s"),
    "--spot-poll-interval is `31s`, which is too seldom: a notice leaves two minutes; use 1s to 30s")]
#[case::key_with_space(("taint-key", "a b"), "--taint-key is `a b`, which is not a qualified name; use name or domain/name")]
#[case::key_with_two_slashes(("taint-key", "a/b/c"), "--taint-key is `a/b/c`, which is not a qualified name")]
#[case::key_with_bad_prefix(("taint-key", "A.com/b"), "--taint-key is `A.com/b`, which is not a qualified name")]
#[case::key_without_name(("taint-key", "a.com/"), "--taint-key is `a.com/`, which is not a qualified name")]
#[case::key_too_long(("taint-key", "a123456789b123456789c123456789d123456789e123456789f123456789abcd"),
    "--taint-key is `a123456789b")]
#[case::effect(("taint-effect", "noschedule"),
    "--taint-effect is `noschedule`, which is not a taint effect; use NoSchedule or PreferNoSchedule")]
#[case::no_execute(("taint-effect", "NoExecute"),
    "--taint-effect is `NoExecute`, which would take the drain out of the agent's hands; use NoSchedule or")]
#[case::host_name(("admin-address", "localhost:9808"),
    "--admin-address is `localhost:9808`, which is not an IP address with a port; write for example 0.0.0.0:9808")]
#[case::ipv6_without_a_port(("admin-address", "2001:db8::"),
    "--admin-address is `2001:db8::`, which is not an IP address with a port")]
#[case::port_out_of_range(("admin-address", "2001:db8::1:98080"),
    "--admin-address is `2001:db8::1:98080`, which is not an IP address with a port")]
#[case::no_port(("admin-address", "0.0.0.0"), "--admin-address is `0.0.0.0`, which is not an IP address with a port")]
#[case::node_name(("node-name", "Node_1"), "--node-name is `Node_1`, which cannot be the name of a Node; use the metadata")]
#[case::empty_node_name(("node-name", ""), "--node-name is ``, which cannot be the name of a Node")]
#[case::level(("log-level", "inof"),
    "--log-level is `inof`, which has a mistake: `inof` is not a log level: use off, error, warn, info, debug or trace;")]
#[case::control_characters(("taint-key", "a\nb\u{1b}"), "--taint-key is `a\\nb\\u{1b}`, which is not a qualified name")]
fn a_bad_flag_is_refused_with_which_why_and_what_would_be_valid(#[case] flag: (&str, &str), #[case] expected: &str) {
    let message = message(&[flag], &[]);
    assert!(message.starts_with(expected), "{message}");
}

#[rstest]
#[case(("SPOTWARDEN_SAFETY_MARGIN", "3"), "SPOTWARDEN_SAFETY_MARGIN is `3`, which is not a duration with a unit;")]
#[case(("RUST_LOG", "kube"), "RUST_LOG is `kube`, which has a mistake: `kube` is not a log level")]
#[case(("SPOTWARDEN_SAFTY_MARGIN", ""),
    "the environment variable `SPOTWARDEN_SAFTY_MARGIN` is not known; did you mean `SPOTWARDEN_SAFETY_MARGIN`?")]
#[case(("AWS_EC2_METADATA_DISABLED", "TRUE"),
    "AWS_EC2_METADATA_DISABLED is `TRUE`, which leaves the agent nothing to read notices from; unset it")]
#[case(("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "v6"),
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE is `v6`, which is not known; use IPv4 or IPv6")]
#[case(("AWS_EC2_METADATA_SERVICE_ENDPOINT", "169.254.169.254"),
    "AWS_EC2_METADATA_SERVICE_ENDPOINT is `169.254.169.254`, which is not an http:// URL; write for example http://")]
#[case(("AWS_EC2_METADATA_SERVICE_ENDPOINT", "https://imds"),
    "AWS_EC2_METADATA_SERVICE_ENDPOINT is `https://imds`, which is not an http:// URL")]
#[case(("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://"), "AWS_EC2_METADATA_SERVICE_ENDPOINT is `http://`, which is not a URL")]
#[case(("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://:80"), "AWS_EC2_METADATA_SERVICE_ENDPOINT is `http://:80`, which ")]
#[case(("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://imds:99999"),
    "AWS_EC2_METADATA_SERVICE_ENDPOINT is `http://imds:99999`, which has no usable host and port")]
#[case(("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://imds/latest"),
    "AWS_EC2_METADATA_SERVICE_ENDPOINT is `http://imds/latest`, which has a path, query or fragment")]
#[case(("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://imds/?a=b"),
    "AWS_EC2_METADATA_SERVICE_ENDPOINT is `http://imds/?a=b`, which has a path, query or fragment")]
#[case(("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://imds#a"),
    "AWS_EC2_METADATA_SERVICE_ENDPOINT is `http://imds#a`, which has a path, query or fragment")]
#[case(("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://me:hunter2@imds"),
    "AWS_EC2_METADATA_SERVICE_ENDPOINT is `…`, which holds credentials")]
fn a_bad_variable_is_refused_by_its_own_name(#[case] variable: (&str, &str), #[case] expected: &str) {
    let message = message(&[], &[variable]);
    assert!(message.starts_with(expected), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
}

#[test]
fn without_a_node_name_there_is_nothing_to_do() {
    for env in [Environment::default(), [("NODE_NAME", "")].into_iter().collect()] {
        let message = run_config(&|_| None, &env).unwrap_err().to_string();
        assert!(message.starts_with("NODE_NAME is not set: set it from the downward API"), "{message}");
    }
}

#[test]
fn a_long_value_is_not_repeated_in_full() {
    let long = "é".repeat(5000);
    let message = message(&[("taint-key", &long)], &[]);
    assert!(message.contains('…') && message.chars().count() < 300, "{message}");
}

#[rstest]
#[case("going", true)]
#[case("spotwarden/interruption", true)]
#[case("aws-node-termination-handler/spot-itn", true)]
#[case("a.b-c.d/X_y.Z-1", true)]
#[case("-a", false)]
#[case("a-", false)]
#[case("/a", false)]
#[case("a..b/c", false)]
#[case("", false)]
fn qualified_names_are_those_of_kubernetes(#[case] key: &str, #[case] valid: bool) {
    assert_eq!(is_qualified_name(key), valid);
}

#[test]
fn what_applies_is_told_with_its_source_by_the_rules_of_the_start() {
    let env = [
        ("NODE_NAME", "n1"),
        ("SPOTWARDEN_SAFETY_MARGIN", "4s"),
        ("SPOTWARDEN_TAINT_EFFECT", ""),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6"),
        ("RUST_LOG", "debug"),
    ];
    let env: Environment = env.into_iter().collect();
    let flags = |flag: &str| (flag == "node-name").then(|| "n2".to_owned());
    let all = effective(&flags, &env);
    let of = |name: &str| {
        let found = all.iter().find(|setting| setting.env == name).unwrap();
        (found.value.as_deref(), found.source)
    };
    assert_eq!(of("NODE_NAME"), (Some("n2"), Source::Flag));
    assert_eq!(of("SPOTWARDEN_SAFETY_MARGIN"), (Some("4s"), Source::Environment));
    assert_eq!(of("SPOTWARDEN_TAINT_EFFECT"), (Some("NoSchedule"), Source::Default));
    assert_eq!(of("SPOTWARDEN_LOG_LEVEL"), (None, Source::Default));
    assert_eq!(of("AWS_EC2_METADATA_SERVICE_ENDPOINT"), (Some("http://[fd00:ec2::254]"), Source::Environment));
    assert_eq!(of("RUST_LOG"), (Some("debug"), Source::Environment));
    assert_eq!(all.len(), SETTINGS.len() + 2, "every setting once");
}

#[test]
fn where_ipamd_answers_can_be_moved() {
    let tcp = |address: &str| LocalAddress::Tcp(address.into());
    for (value, address) in [
        ("127.0.0.1:61679", tcp("127.0.0.1:61679")),
        ("localhost:1", tcp("localhost:1")),
        ("[::1]:61679", tcp("[::1]:61679")),
        ("unix:/var/run/ipamd.sock", LocalAddress::Unix("/var/run/ipamd.sock".into())),
    ] {
        let cni = agent(&[("cni-introspection-address", value)], &[("SPOTWARDEN_CNI_METRICS_ADDRESS", value)]).cni;
        assert_eq!((&cni.introspection, &cni.metrics), (&address, &address), "{value}");
    }
    assert!(!agent(&[("cni-headroom", "off")], &[]).cni.enabled);
}

#[rstest]
#[case::url("http://127.0.0.1:61679", "is a URL")]
#[case::no_port("127.0.0.1", "does not have both a host and a port")]
#[case::port_0("127.0.0.1:0", "does not have both a host and a port")]
#[case::no_host(":61679", "")]
#[case::path("127.0.0.1:61679/v1", "is not an address")]
#[case::user("me@127.0.0.1:61679", "does not have both a host and a port")]
#[case::empty("", "")]
#[case::relative("unix:ipamd.sock", "has no absolute path")]
fn an_address_of_ipamd_that_cannot_be_one_is_refused(#[case] value: &str, #[case] why: &str) {
    let message = message(&[("cni-introspection-address", value)], &[]);
    assert!(message.starts_with("--cni-introspection-address is `") && message.contains(why), "{message}");
}

#[test]
fn proxies_and_certificates_have_the_names_that_everybody_uses() {
    let environment = [
        ("https_proxy", "http://a:1"),
        ("HTTPS_PROXY", "http://b:1"),
        ("NO_PROXY", ".svc"),
        ("SSL_CERT_FILE", "/ca.pem"),
    ];
    let expected = EgressConfig {
        https_proxy: Some("http://a:1".into()),
        http_proxy: None,
        no_proxy: Some(".svc".into()),
        ca_file: Some("/ca.pem".into()),
    };
    assert_eq!(egress(&environment.into_iter().collect()), expected);
}
