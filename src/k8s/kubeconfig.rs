//! A kubeconfig file: how to reach an API server from outside of a pod.
//!
//! `Kubeconfig::read_from` reads YAML straight into each of its types, which costs the binary a tenth of a megabyte; here
//! it goes through one JSON value. What else that function does is done here.

use std::path::Path;

use kube::config::Kubeconfig;
use serde_json::Value;

use super::chain;

/// The file's documents as one, with its paths made absolute: they count from the file's folder.
///
/// # Errors
/// Words for people: the file cannot be read, is no YAML, or is YAML of something else.
pub(super) fn read(path: &Path) -> Result<Kubeconfig, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("failed to read it: {error}"))?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).map_err(|error| chain(&error))?;
    let merged = documents.into_iter().try_fold(Kubeconfig::default(), |before, document| {
        // The error quotes what it does not like, which may be a token.
        let one: Kubeconfig = serde_json::from_value(document)
            .map_err(|_| "it is YAML, but its clusters, contexts and users are not those of a kubeconfig".to_owned())?;
        before.merge(one).map_err(|error| chain(&error))
    })?;
    Ok(in_folder(merged, path.parent().unwrap_or(Path::new(""))))
}

fn in_folder(mut config: Kubeconfig, folder: &Path) -> Kubeconfig {
    let clusters = config.clusters.iter_mut().filter_map(|named| named.cluster.as_mut());
    let users = config.auth_infos.iter_mut().filter_map(|named| named.auth_info.as_mut());
    let of_users = users.flat_map(|user| [&mut user.client_certificate, &mut user.client_key, &mut user.token_file]);
    for file in clusters.map(|cluster| &mut cluster.certificate_authority).chain(of_users).flatten() {
        // An absolute path replaces the folder.
        *file = folder.join(&*file).to_string_lossy().into_owned();
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_count_from_the_file_and_documents_are_one() {
        let folder = std::env::temp_dir().join(format!("spotwarden-kubeconfig-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("kubeconfig");
        let text = "
clusters: [{name: a, cluster: {server: 'https://192.0.2.1', certificate-authority: ca.pem}}]
current-context: c
---
contexts: [{name: c, context: {cluster: a, user: u}}]
users: [{name: u, user: {client-certificate: pki/client.pem, client-key: /pki/key.pem, tokenFile: token}}, {name: v}]
";
        std::fs::write(&file, text).unwrap();
        let config = read(&file).unwrap();
        let within = |name: &str| Some(folder.join(name).to_string_lossy().into_owned());
        assert_eq!(config.current_context.as_deref(), Some("c"));
        assert_eq!(config.clusters[0].cluster.as_ref().unwrap().certificate_authority, within("ca.pem"));
        let user = config.auth_infos[0].auth_info.as_ref().unwrap();
        assert_eq!(user.client_certificate, within("pki/client.pem"));
        assert_eq!(user.client_key.as_deref(), Some("/pki/key.pem"));
        assert_eq!(user.token_file, within("token"));
        std::fs::write(&file, "users: [{name: u, user: a-token}]").unwrap();
        let error = read(&file).unwrap_err();
        assert!(error.contains("not those of a kubeconfig") && !error.contains("a-token"), "{error}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
