package conformance_test

import (
	"os"
	"testing"

	"github.com/battwheels/runbook/internal/conformance"
	"github.com/battwheels/runbook/internal/mongotest"
)

// The server in memory holds everything: were it to refuse a case, nothing here would test it.
func TestTheServerInMemoryConforms(t *testing.T) {
	for name, opts := range map[string][]mongotest.Option{
		"standalone":  nil,
		"replica set": {mongotest.WithReplicaSet("rs0")},
		"8.3, whose time series hold their buckets themselves": {mongotest.WithVersion("8.3.0")},
	} {
		t.Run(name, func(t *testing.T) {
			conformance.Run(t, conformance.Server{URI: mongotest.Start(t, opts...).URI(), Known: true})
		})
	}
}

func TestARealServerConforms(t *testing.T) {
	uri := os.Getenv(conformance.URIVariable)
	if uri == "" {
		t.Skip(conformance.URIVariable + " is not set")
	}
	conformance.Run(t, conformance.Server{URI: uri})
}
