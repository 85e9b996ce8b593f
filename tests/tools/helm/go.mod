module spotwarden/tests/tools/helm

go 1.26.0

// Not imported, so `go mod tidy` would drop them; update with `go get MODULE@VERSION`. Of prometheus-operator only the
// definitions of its resources are taken.
require (
	github.com/norwoodj/helm-docs v1.14.2 // indirect
	github.com/prometheus-operator/prometheus-operator v0.94.1 // indirect
	helm.sh/helm/v3 v3.22.0 // indirect
	helm.sh/helm/v4 v4.3.1 // indirect
)
