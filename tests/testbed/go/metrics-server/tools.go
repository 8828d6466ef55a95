//go:build tools

// Names the program that the test bed runs, so that `go mod tidy` keeps everything it needs.
package tools

import _ "sigs.k8s.io/metrics-server/cmd/metrics-server"
