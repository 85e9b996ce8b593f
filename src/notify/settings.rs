//! What is told, to whom: the settings of notifications, and what can be said of them before anything happens.

use std::path::PathBuf;

use super::address::{Address, AddressError, secret};
use super::webhook::{Escape, Template, TemplateError};
use crate::signal::Kind;

/// Who is told, and of what. Nobody by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifyConfig {
    /// An incoming webhook of Slack.
    pub slack: Option<Address>,
    /// Base URLs of Alertmanagers, each told on its own.
    pub alertmanagers: Vec<String>,
    /// Holds the value of the `Authorization` header for them.
    pub alertmanager_auth: Option<PathBuf>,
    /// A webhook of one's own.
    pub webhook: Option<WebhookConfig>,
    /// Name of the cluster in messages and as a label.
    pub cluster: Option<String>,
    /// A link in messages; `{node}` stands for the node's name.
    pub link: Option<String>,
    /// The kinds that are worth a message.
    pub kinds: Vec<Kind>,
}

impl Default for NotifyConfig {
    fn default() -> Self {
        Self {
            slack: None,
            alertmanagers: Vec::new(),
            alertmanager_auth: None,
            webhook: None,
            cluster: None,
            link: None,
            kinds: Kind::ALL.to_vec(),
        }
    }
}

/// A webhook of one's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookConfig {
    /// Where it is.
    pub address: Address,
    /// The body's template; without one it is the default object.
    pub template: Option<PathBuf>,
    /// What the body is.
    pub content: ContentType,
}

/// What the body of a webhook is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContentType {
    /// `application/json`
    #[default]
    Json,
    /// `text/plain`
    Text,
}

impl ContentType {
    /// The header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Text => "text/plain; charset=utf-8",
        }
    }

    /// How values are written into it.
    pub const fn escape(self) -> Escape {
        match self {
            Self::Json => Escape::Json,
            Self::Text => Escape::Text,
        }
    }
}

/// Something of a sink that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// An address, or another secret.
    #[error("{flag}: {error}")]
    Address {
        /// The setting.
        flag: &'static str,
        /// Which file, and what is wrong with it.
        error: AddressError,
    },
    /// The template's file cannot be read.
    #[error("--webhook-template-file: {} cannot be read: {why}; mount it there, it is read again with the next message", path.display())]
    TemplateFile {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        why: String,
    },
    /// The template is wrong.
    #[error("--webhook-template-file: {}: {error}", path.display())]
    Template {
        /// The file.
        path: PathBuf,
        /// Its mistake.
        error: TemplateError,
    },
}

impl SettingError {
    /// What is there is wrong, as opposed to not being there yet.
    pub fn is_wrong(&self) -> bool {
        match self {
            Self::Address { error, .. } => error.is_wrong(),
            Self::TemplateFile { .. } => false,
            Self::Template { .. } => true,
        }
    }
}

impl WebhookConfig {
    /// The template as it is now, if there is to be one.
    pub fn read_template(&self) -> Result<Option<Template>, SettingError> {
        let Some(path) = &self.template else { return Ok(None) };
        let text = std::fs::read_to_string(path)
            .map_err(|error| SettingError::TemplateFile { path: path.clone(), why: error.to_string() })?;
        let template = Template::parse(&text, self.content.escape());
        template.map(Some).map_err(|error| SettingError::Template { path: path.clone(), error })
    }
}

impl NotifyConfig {
    /// Whether anybody is to be told.
    pub fn is_empty(&self) -> bool {
        self.slack.is_none() && self.alertmanagers.is_empty() && self.webhook.is_none()
    }

    /// Everything that is wrong or missing now.
    pub fn problems(&self) -> Vec<SettingError> {
        let address = |flag: &'static str, address: Option<&Address>| {
            let error = address.and_then(|address| address.read().err())?;
            Some(SettingError::Address { flag, error })
        };
        let auth = self.alertmanager_auth.as_ref().and_then(|path| secret(path).err());
        let auth = auth.map(|error| SettingError::Address { flag: "--alertmanager-auth-file", error });
        let webhook = self.webhook.as_ref();
        let problems = [
            address("--slack-webhook-url-file", self.slack.as_ref()),
            auth,
            address("--webhook-url-file", webhook.map(|webhook| &webhook.address)),
            webhook.and_then(|webhook| webhook.read_template().err()),
        ];
        problems.into_iter().flatten().collect()
    }

    /// Refuses what is wrong in itself, and returns what is only not there yet: the agent's first duty is the node, and
    /// a Secret that is missing must not keep it from running.
    pub fn inspect(&self) -> Result<Vec<SettingError>, SettingError> {
        let problems = self.problems();
        match problems.iter().find(|problem| problem.is_wrong()) {
            Some(wrong) => Err(wrong.clone()),
            None => Ok(problems),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> NotifyConfig {
        let path = std::env::temp_dir().join(format!("spotwarden-template-{}-{}", text.len(), std::process::id()));
        std::fs::write(&path, text).unwrap();
        let address = Address::Known("http://127.0.0.1/".into());
        let webhook = WebhookConfig { address, template: Some(path), content: ContentType::Json };
        NotifyConfig { webhook: Some(webhook), ..NotifyConfig::default() }
    }

    #[test]
    fn a_missing_secret_is_a_warning_and_a_wrong_template_a_refusal() {
        let missing = NotifyConfig { slack: Some(Address::File("/nonexistent/url".into())), ..NotifyConfig::default() };
        let warnings = missing.inspect().unwrap();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].to_string().starts_with("--slack-webhook-url-file: /nonexistent/url cannot be read"));
        let wrong = template("{\"a\": \"{{nod}}\"}").inspect().unwrap_err().to_string();
        assert!(wrong.contains("line 1 names {{nod}}, which is not known; known are event,"), "{wrong}");
        assert_eq!(template("{\"a\": \"{{node}}\"}").inspect(), Ok(Vec::new()));
        assert_eq!(NotifyConfig::default().inspect(), Ok(Vec::new()));
    }

    #[test]
    fn a_template_that_is_missing_is_a_warning() {
        let mut config = template("x");
        config.webhook.as_mut().unwrap().template = Some("/nonexistent/template".into());
        let warnings = config.inspect().unwrap();
        assert!(warnings[0].to_string().starts_with("--webhook-template-file: /nonexistent/template cannot be read"));
    }
}
