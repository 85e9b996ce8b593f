//! The settings of notifications. Secrets are files; what is in them is read by who uses it.

use std::path::PathBuf;

use super::{ConfigError, Given, Sources};
use crate::notify::address::{Address, check_base};
use crate::notify::settings::{ContentType, NotifyConfig, WebhookConfig};
use crate::signal::Kind;

/// More Alertmanagers than any cluster of them has.
const MOST_ALERTMANAGERS: usize = 8;
/// A label's value, and a word in a headline.
const LONGEST_NAME: usize = 100;

/// Every kind, those of later versions too.
const ALL: &str = "all";

const CONTENT: [(&str, ContentType); 2] = [("application/json", ContentType::Json), ("text/plain", ContentType::Text)];

pub(super) fn notify(sources: &Sources<'_>) -> Result<NotifyConfig, ConfigError> {
    let alertmanagers = alertmanagers(sources)?;
    let auth = file(sources, "alertmanager-auth-file")?;
    if let Some((given, _)) = auth.as_ref().filter(|_| alertmanagers.is_empty()) {
        return Err(given.refuse("has no effect without --alertmanager-url", "give both or none"));
    }
    Ok(NotifyConfig {
        slack: file(sources, "slack-webhook-url-file")?.map(|(_, path)| Address::File(path)),
        alertmanagers,
        alertmanager_auth: auth.map(|(_, path)| path),
        webhook: webhook(sources)?,
        cluster: cluster(sources)?,
        link: link(sources)?,
        kinds: kinds(sources)?,
    })
}

fn file(sources: &Sources<'_>, flag: &str) -> Result<Option<(Given, PathBuf)>, ConfigError> {
    let Some(given) = sources.get(flag).filter(|given| !given.value.is_empty()) else { return Ok(None) };
    if given.value.contains("://") {
        // A secret has been given in the place of its file; it is not repeated.
        let hidden = Given { value: "…".into(), ..given };
        return Err(hidden.refuse("is a URL", "write it into a file, and give the file's path"));
    }
    let path = PathBuf::from(&given.value);
    Ok(Some((given, path)))
}

fn alertmanagers(sources: &Sources<'_>) -> Result<Vec<String>, ConfigError> {
    let Some(given) = sources.get("alertmanager-url") else { return Ok(Vec::new()) };
    let mut urls = Vec::new();
    for url in given.value.split(',').map(str::trim).filter(|url| !url.is_empty()) {
        // It may hold a password.
        let shown = if url.contains('@') { "…" } else { url };
        let one = Given { name: given.name.clone(), value: shown.to_owned() };
        check_base(url).map_err(|(problem, valid)| one.refuse(problem, valid))?;
        let base = url.trim_end_matches('/').to_owned();
        if urls.contains(&base) {
            return Err(one.refuse("is given twice", "give each Alertmanager once"));
        }
        urls.push(base);
    }
    if urls.len() > MOST_ALERTMANAGERS {
        let named = Given { value: format!("{} URLs", urls.len()), ..given };
        return Err(named.refuse("are too many", "give at most 8, each member of one cluster of Alertmanagers"));
    }
    Ok(urls)
}

fn webhook(sources: &Sources<'_>) -> Result<Option<WebhookConfig>, ConfigError> {
    let template = file(sources, "webhook-template-file")?;
    let content = sources.choice("webhook-content-type", &CONTENT)?;
    match file(sources, "webhook-url-file")? {
        Some((_, path)) => {
            let template = template.map(|(_, path)| path);
            Ok(Some(WebhookConfig { address: Address::File(path), template, content }))
        }
        None => match template {
            Some((given, _)) => Err(given.refuse("has no effect without --webhook-url-file", "give both or none")),
            None => Ok(None),
        },
    }
}

fn cluster(sources: &Sources<'_>) -> Result<Option<String>, ConfigError> {
    let Some(given) = sources.get("cluster-name") else { return Ok(None) };
    let fits = given.value.chars().count() <= LONGEST_NAME && !given.value.chars().any(char::is_control);
    if !fits || given.value.trim() != given.value {
        return Err(given.refuse("cannot be a name", "use at most 100 characters on one line"));
    }
    Ok(Some(given.value).filter(|name| !name.is_empty()))
}

fn link(sources: &Sources<'_>) -> Result<Option<String>, ConfigError> {
    let Some(given) = sources.get("notify-link").filter(|given| !given.value.is_empty()) else { return Ok(None) };
    let valid = "write for example https://grafana.example.com/d/spotwarden-node?var-node={node}";
    let url = reqwest::Url::parse(&given.value.replace("{node}", "node"));
    if !url.is_ok_and(|url| matches!(url.scheme(), "http" | "https")) || given.value.contains(char::is_whitespace) {
        return Err(given.refuse("is not a link", valid));
    }
    if given.value.contains('@') && given.value.split('/').nth(2).is_some_and(|authority| authority.contains('@')) {
        let hidden = Given { value: "…".into(), ..given };
        return Err(hidden.refuse("holds credentials, which everybody who is told would see", valid));
    }
    Ok(Some(given.value))
}

fn kinds(sources: &Sources<'_>) -> Result<Vec<Kind>, ConfigError> {
    let given = sources.value("notify-on");
    if given.value == ALL {
        return Ok(Kind::ALL.to_vec());
    }
    let mut kinds = Vec::new();
    for name in given.value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.as_str() == name) else {
            let names = Kind::ALL.map(Kind::as_str).join(", ");
            let one = Given { name: given.name.clone(), value: name.to_owned() };
            return Err(one.refuse("is not known", format!("use all, or some of {names}, with commas between them")));
        };
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    if kinds.is_empty() {
        return Err(given.refuse("names nothing", "name what is worth a message, or leave out the sinks"));
    }
    Ok(kinds)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::run_config;
    use super::*;
    use crate::config::Config;
    use crate::config::settings::Environment;

    fn parse(given: &[(&str, &str)]) -> Result<Config, String> {
        let flags = |flag: &str| {
            let value = given.iter().find(|(name, _)| *name == flag).map(|(_, value)| (*value).to_owned());
            value.or((flag == "node-name").then(|| "n1".to_owned()))
        };
        let config = run_config(&flags, &Environment::default());
        config.map(|config| config.agent).map_err(|error| error.to_string())
    }

    #[test]
    fn nobody_is_told_by_default() {
        let config = parse(&[]).unwrap().notify;
        assert_eq!(config, NotifyConfig::default());
        assert!(config.is_empty());
    }

    #[test]
    fn every_setting_reaches_the_configuration() {
        let config = parse(&[
            ("slack-webhook-url-file", "/s/slack"),
            ("alertmanager-url", "http://am-0.monitoring.svc:9093/, https://am.example.com/prefix"),
            ("alertmanager-auth-file", "/s/auth"),
            ("webhook-url-file", "/s/url"),
            ("webhook-template-file", "/s/template"),
            ("webhook-content-type", "text/plain"),
            ("cluster-name", "production"),
            ("notify-link", "https://grafana.example.com/d/x?var-node={node}"),
            ("notify-on", "spot-interruption, asg-termination,spot-interruption"),
        ]);
        let expected = NotifyConfig {
            slack: Some(Address::File("/s/slack".into())),
            alertmanagers: vec!["http://am-0.monitoring.svc:9093".into(), "https://am.example.com/prefix".into()],
            alertmanager_auth: Some("/s/auth".into()),
            webhook: Some(WebhookConfig {
                address: Address::File("/s/url".into()),
                template: Some("/s/template".into()),
                content: ContentType::Text,
            }),
            cluster: Some("production".into()),
            link: Some("https://grafana.example.com/d/x?var-node={node}".into()),
            kinds: vec![Kind::SpotInterruption, Kind::AsgTermination],
        };
        assert_eq!(config.unwrap().notify, expected);
    }

    #[rstest]
    #[case::secret_as_a_flag(("slack-webhook-url-file", "https://hooks.slack.com/services/hunter2"),
        "--slack-webhook-url-file is `…`, which is a URL; write it into a file")]
    #[case::password(("alertmanager-url", "https://me:hunter2@am.example.com"),
        "--alertmanager-url is `…`, which holds credentials; put the value of the Authorization header into")]
    #[case::public(("alertmanager-url", "http://am.example.com"),
        "--alertmanager-url is `http://am.example.com`, which is http:// to a public host")]
    #[case::one_of_two(("alertmanager-url", "http://am:9093,am:9093"), "--alertmanager-url is `am:9093`, which ")]
    #[case::twice(("alertmanager-url", "http://am:9093,http://am:9093/"),
        "--alertmanager-url is `http://am:9093/`, which is given twice")]
    #[case::auth_alone(("alertmanager-auth-file", "/x"),
        "--alertmanager-auth-file is `/x`, which has no effect without --alertmanager-url")]
    #[case::template_alone(("webhook-template-file", "/x"),
        "--webhook-template-file is `/x`, which has no effect without --webhook-url-file")]
    #[case::content(("webhook-content-type", "xml"), "--webhook-content-type is `xml`, which is not known")]
    #[case::kind(("notify-on", "spot-interruption,spot"), "--notify-on is `spot`, which is not known; use all, or some of spot-")]
    #[case::nothing(("notify-on", ","), "--notify-on is `,`, which names nothing")]
    #[case::link(("notify-link", "javascript:alert(1)"), "--notify-link is `javascript:alert(1)`, which is not a link")]
    #[case::link_secret(("notify-link", "https://me:hunter2@g.example.com/"), "--notify-link is `…`, which holds")]
    #[case::name(("cluster-name", "a\nb"), "--cluster-name is `a\\nb`, which cannot be a name")]
    fn a_wrong_setting_is_refused_in_one_line_without_its_secret(#[case] given: (&str, &str), #[case] expected: &str) {
        let message = parse(&[given]).unwrap_err();
        assert!(message.starts_with(expected), "{message}");
        assert!(!message.contains("hunter2") && !message.contains('\n'), "{message}");
    }
}
