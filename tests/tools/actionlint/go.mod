module spotwarden/tests/tools/actionlint

go 1.26.0

// Not imported, so `go mod tidy` would drop it; update with `go get github.com/rhysd/actionlint@VERSION`.
require github.com/rhysd/actionlint v1.7.12 // indirect
