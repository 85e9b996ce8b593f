module spotwarden/tests/tools/prometheus

go 1.26.0

// Not imported, so `go mod tidy` would drop it; update with `go get github.com/prometheus/prometheus@VERSION`.
require github.com/prometheus/prometheus v0.315.0 // indirect
