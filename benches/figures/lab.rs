//! The control plane with the rights and policies of `manifests/base`, shared by all figures.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::PostParams;
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::Result;
use crate::controlplane::{AuditEntry, ControlPlane};

/// The API server reads policies anew within a second.
const CONFINED_WITHIN: Duration = Duration::from_mins(1);

pub(crate) struct Lab {
    pub(crate) plane: &'static ControlPlane,
    /// The administrator, who is also the kubelets.
    pub(crate) client: Client,
    pub(crate) http: reqwest::Client,
    /// What is measured.
    pub(crate) binary: PathBuf,
    /// What measures the decisions.
    pub(crate) decisions: PathBuf,
}

impl Lab {
    pub(crate) async fn start(binary: PathBuf, decisions: PathBuf) -> Result<Self> {
        let plane = ControlPlane::shared();
        let lab = Self { plane, client: plane.admin_client(), http: plane.http(), binary, decisions };
        for file in ["namespace.yaml", "service-account.yaml", "rbac.yaml", "admission-policy.yaml"] {
            lab.apply(&Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/base").join(file)).await?;
        }
        lab.until_confined().await?;
        Ok(lab)
    }

    /// The policies are in force a moment after they are made. Asked as a dry run by the agent's user without a node.
    async fn until_confined(&self) -> Result<()> {
        let end = Instant::now() + CONFINED_WITHIN;
        loop {
            let request = http::Request::post("/api/v1/nodes?dryRun=All")
                .header("content-type", "application/json")
                .header("impersonate-user", "system:serviceaccount:spotwarden:spotwarden")
                .header("impersonate-group", "system:masters")
                .body(br#"{"metadata":{"name":"probe"}}"#.to_vec())?;
            match self.client.request::<Value>(request).await {
                Err(kube::Error::Api(status)) if status.message.contains("ValidatingAdmissionPolicy") => return Ok(()),
                answer if Instant::now() > end => return Err(format!("no policy is in force: {answer:?}").into()),
                _ => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Every request so far. Read aside, because the simulated IMDS lives on this thread and must answer meanwhile.
    pub(crate) async fn audit_log(&self) -> Result<Vec<AuditEntry>> {
        let plane = self.plane;
        Ok(tokio::task::spawn_blocking(|| plane.audit_log()).await?)
    }

    /// Of the API server.
    pub(crate) async fn versions(&self) -> Result<String> {
        Ok(format!("kube-apiserver {}", self.client.apiserver_version().await?.git_version))
    }

    async fn apply(&self, manifest: &Path) -> Result<()> {
        let text = std::fs::read_to_string(manifest)?;
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&text).map_err(|error| format!("{}: {error}", manifest.display()))?;
        for document in documents {
            match document.get("kind").and_then(Value::as_str).unwrap_or_default() {
                "Namespace" => self.create::<Namespace>(document).await?,
                "ClusterRole" => self.create::<ClusterRole>(document).await?,
                "ClusterRoleBinding" => self.create::<ClusterRoleBinding>(document).await?,
                "ServiceAccount" => self.create_namespaced::<ServiceAccount>(document).await?,
                "Role" => self.create_namespaced::<Role>(document).await?,
                "ValidatingAdmissionPolicy" => self.create::<ValidatingAdmissionPolicy>(document).await?,
                "ValidatingAdmissionPolicyBinding" => self.create::<ValidatingAdmissionPolicyBinding>(document).await?,
                "RoleBinding" => self.create_namespaced::<RoleBinding>(document).await?,
                other => return Err(format!("{}: a {other} is not expected here", manifest.display()).into()),
            }
        }
        Ok(())
    }

    async fn create<K>(&self, object: Value) -> Result<()>
    where
        K: Resource<Scope = ClusterResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        Api::<K>::all(self.client.clone()).create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        Ok(())
    }

    async fn create_namespaced<K>(&self, object: Value) -> Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let object: K = serde_json::from_value(object)?;
        let namespace = object.meta().namespace.clone().unwrap_or_default();
        Api::<K>::namespaced(self.client.clone(), &namespace).create(&PostParams::default(), &object).await?;
        Ok(())
    }
}
