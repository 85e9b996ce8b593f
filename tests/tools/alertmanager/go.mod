module spotwarden/tests/tools/alertmanager

go 1.26.0

// Not imported, so `go mod tidy` would drop it; update with `go get github.com/prometheus/alertmanager@VERSION`.
require github.com/prometheus/alertmanager v0.34.2 // indirect
