//! Who is told, and the way there.

use serde_json::Value;

use super::{Draft, Kind, Note};
use crate::migrate::template;
use crate::notify::webhook::Escape;

/// Hosts of Slack's incoming webhooks.
const SLACK: [&str; 2] = ["hooks.slack.com", "hooks.slack-gov.com"];

/// The one webhook of NTH becomes the sink of Slack or that of a webhook.
pub(super) fn sinks(draft: &mut Draft<'_>) {
    let (secret, url) = (draft.settings.text("webhookURLSecretName"), draft.settings.text("webhookURL"));
    match (secret, url) {
        (Some(secret), url) => {
            if url.is_some() {
                draft.note(Kind::Idle, "webhookURL", "webhookURLSecretName wins over it");
            }
            webhook_from_secret(draft, &secret);
        }
        (None, Some(url)) if host(&url).is_some_and(|host| SLACK.contains(&host)) => slack(draft),
        (None, Some(_)) => {
            let words = "the URL has to be in this Secret";
            draft.put_saying("notifications.webhook.urlSecret.name", "spotwarden-webhook", &["webhookURL"], words);
            draft.note(Kind::Hand, "webhookURL", make_secret("spotwarden-webhook"));
            body(draft);
        }
        (None, None) => {
            for key in
                ["webhookTemplate", "webhookHeaders", "webhookTemplateConfigMapName", "webhookTemplateConfigMapKey"]
            {
                if draft.settings.given(key).is_some() {
                    draft.note(Kind::Idle, key, "there is no webhook");
                }
            }
        }
    }
}

fn webhook_from_secret(draft: &mut Draft<'_>, secret: &str) {
    let keys = ["webhookURLSecretName"];
    draft.put("notifications.webhook.urlSecret.name", secret, &keys);
    let key = draft.settings.secret_key.clone().unwrap_or_else(|| "webhookurl".to_owned());
    draft.put_saying("notifications.webhook.urlSecret.key", key, &keys, "the key that NTH wants");
    let words = format!(
        "Secrets do not cross namespaces: make `{secret}` in the namespace spotwarden too. If its URL is one of Slack, name it \
         in `notifications.slack.webhookUrlSecret` and take `notifications.webhook` out: the message is better to read"
    );
    draft.note(Kind::Hand, "webhookURLSecretName", words);
    body(draft);
}

fn slack(draft: &mut Draft<'_>) {
    let words = "a URL of Slack, which has to be in this Secret; with more than a few nodes prefer Alertmanager";
    draft.put_saying("notifications.slack.webhookUrlSecret.name", "spotwarden-slack", &["webhookURL"], words);
    draft.note(Kind::Hand, "webhookURL", make_secret("spotwarden-slack"));
    for key in ["webhookTemplate", "webhookTemplateConfigMapName", "webhookTemplateConfigMapKey", "webhookHeaders"] {
        if draft.settings.given(key).is_some() {
            draft.note(Kind::Different, key, "messages to Slack have a form of their own");
        }
    }
}

fn make_secret(name: &str) -> String {
    format!(
        "put the URL into a file and make the Secret of it: kubectl create secret generic {name} --namespace spotwarden \
         --from-file=url=FILE"
    )
}

fn host(url: &str) -> Option<&str> {
    let rest = url.trim().strip_prefix("https://")?;
    let host = rest.split(['/', '?', '#', ':']).next()?;
    Some(host.rsplit('@').next().unwrap_or(host))
}

/// Template and content type of a webhook.
fn body(draft: &mut Draft<'_>) {
    let escape = content_type(draft);
    let path = "notifications.webhook.template";
    if draft.settings.given("webhookTemplateConfigMapName").is_some()
        && draft.settings.given("webhookTemplateConfigMapKey").is_some()
    {
        let words = "the template is in a ConfigMap of yours or in a file: write it anew as the value \
                     `notifications.webhook.template`, in the form of docs/notifications.md";
        draft.note(Kind::Hand, "webhookTemplateConfigMapName", words);
        return;
    }
    let Some(theirs) = draft.settings.text("webhookTemplate") else {
        let words = "one text, as receivers of NTH's default body expect it. Without this line the body is an object with every fact";
        if escape == Escape::Json {
            draft.put_saying(path, template::DEFAULT, &["webhookTemplate"], words);
        }
        return;
    };
    match template::translate(&theirs, escape) {
        Ok(ours) => draft.put(path, ours, &["webhookTemplate"]),
        Err(why) => {
            let words = format!("cannot be translated: {why}. Write it anew in the form of docs/notifications.md");
            draft.note(Kind::Hand, "webhookTemplate", words);
        }
    }
}

/// What the headers say about the body.
fn content_type(draft: &mut Draft<'_>) -> Escape {
    let Some(headers) = draft.settings.given("webhookHeaders") else { return Escape::Json };
    let parsed = match &headers.value {
        Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
        other => other.clone(),
    };
    let Value::Object(headers) = parsed else {
        draft.note(Kind::Hand, "webhookHeaders", "is not a JSON object; NTH sends nothing with it either");
        return Escape::Json;
    };
    let mut escape = Escape::Json;
    for (name, value) in &headers {
        let kind = value.as_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match (name.eq_ignore_ascii_case("content-type"), kind.as_str()) {
            (true, "application/json") => {}
            (true, "text/plain") => {
                escape = Escape::Text;
                draft.put("notifications.webhook.contentType", "text/plain", &["webhookHeaders"]);
            }
            (true, other) => {
                let words = format!("the content type {other:?} cannot be had: application/json or text/plain");
                draft.note(Kind::NoEquivalent, "webhookHeaders", words);
            }
            (false, _) => {
                let words =
                    format!("the header {name:?} cannot be sent; a receiver that wants a token takes it in its URL");
                draft.note(Kind::NoEquivalent, "webhookHeaders", words);
            }
        }
    }
    escape
}

/// The proxy, and what else was in the environment.
pub(super) fn egress(draft: &mut Draft<'_>) {
    if let Some(proxy) = draft.settings.text("webhookProxy") {
        proxy_to(draft, "egress.httpsProxy", "webhookProxy", &proxy);
    }
    let mut kept = Vec::new();
    for variable in &draft.settings.variables {
        let name = variable.name.to_ascii_uppercase();
        match (name.as_str(), &variable.value) {
            ("HTTPS_PROXY", Some(value)) => proxy_to(draft, "egress.httpsProxy", &variable.name, value),
            ("HTTP_PROXY", Some(value)) => proxy_to(draft, "egress.httpProxy", &variable.name, value),
            ("NO_PROXY", Some(value)) => {
                draft.out.values.put(&["egress", "noProxy"], value.clone().into(), &[format!("{name} in extraEnv.")]);
            }
            _ if READ.contains(&variable.name.as_str()) || variable.name.starts_with("OTEL_") => {
                kept.push(variable.entry.clone());
            }
            _ => {
                let text = "a variable that the agent does not read; it is left out".to_owned();
                let (key, place) = (variable.name.clone(), variable.place.clone());
                draft.out.notes.push(Note { kind: Kind::NoEquivalent, key, place, text });
            }
        }
    }
    if !kept.is_empty() {
        let words = ["extraEnv: those of its variables that the agent reads.".to_owned()];
        draft.out.values.put(&["extraEnv"], Value::Array(kept), &words);
    }
}

/// Variables that the agent reads beside those that values become.
const READ: [&str; 2] = ["RUST_LOG", "SSL_CERT_FILE"];

fn proxy_to(draft: &mut Draft<'_>, path: &str, key: &str, proxy: &str) {
    let rest = proxy.strip_prefix("http://").or_else(|| proxy.strip_prefix("https://"));
    match rest {
        Some(rest) if !rest.split('/').next().unwrap_or_default().contains('@') => {
            if key == "webhookProxy" {
                draft.put(path, proxy, &[key]);
            } else {
                let words = [format!("{key} in extraEnv.")];
                draft.out.values.put(&path.split('.').collect::<Vec<_>>(), proxy.into(), &words);
            }
        }
        Some(_) => {
            draft.note(Kind::Hand, key, format!("has credentials, which `{path}` does not take: use a proxy without"));
        }
        None => draft.note(Kind::Hand, key, format!("is no http:// or https:// URL: set `{path}` to one")),
    }
}
