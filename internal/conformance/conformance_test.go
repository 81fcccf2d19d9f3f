package conformance_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/conformance"
	"github.com/battwheels/runbook/internal/dump"
	"github.com/battwheels/runbook/internal/mongotest"
)

// The server in memory holds everything: were it to refuse a case, nothing here would test it.
func TestTheServerInMemoryConforms(t *testing.T) {
	for name, opts := range map[string][]mongotest.Option{
		"standalone":  nil,
		"replica set": {mongotest.WithReplicaSet("rs0")},
		"6.0, whose capped collections have no snapshots":      {mongotest.WithReplicaSet("rs0"), mongotest.WithVersion("6.0.19")},
		"8.3, whose time series hold their buckets themselves": {mongotest.WithVersion("8.3.0")},
	} {
		t.Run(name, func(t *testing.T) {
			conformance.Run(t, conformance.Server{URI: mongotest.Start(t, opts...).URI(), Known: true})
		})
	}
}

// A backup does not say in which of two ways its server kept time series, and needs not: the buckets are the same.
func TestATimeSeriesMovesToAServerThatKeepsItInAnotherWay(t *testing.T) {
	beside, itself := []mongotest.Option{mongotest.WithVersion("8.0.12")}, []mongotest.Option{mongotest.WithVersion("8.3.0")}
	for name, way := range map[string][2][]mongotest.Option{
		"from a collection beside it": {beside, itself}, "to a collection beside it": {itself, beside},
	} {
		t.Run(name, func(t *testing.T) {
			to := conformance.Server{URI: mongotest.Start(t, way[1]...).URI()}
			moved := 0
			conformance.Each(t, conformance.Server{URI: mongotest.Start(t, way[0]...).URI(), Known: true}, func(t *testing.T, name string, db *mongo.Database) {
				if !strings.HasPrefix(name, "time series") {
					return
				}
				moved++
				empty := conformance.NewDatabase(t, to.Connect(t))
				require.NoError(t, conformance.Direct(t, conformance.Dump(t, db, dump.Options{}), empty))
				require.Equal(t, conformance.Contents(t, db), conformance.Contents(t, empty))
			})
			require.Equal(t, 2, moved)
		})
	}
}

// Servers make an index for each time series by themselves, from 6.3 on. A backup of an older one has none, and is restored all the same; one of a newer
// server brings it along to an older one.
func TestATimeSeriesMovesToAServerOfAnotherAge(t *testing.T) {
	for from, way := range map[string]struct {
		to      string
		indexes []int // of the series with a meta field, there and here
	}{"6.0.19": {"7.0.20", []int{2, 3}}, "8.0.12": {"6.0.19", []int{3, 3}}} {
		t.Run("from "+from, func(t *testing.T) {
			to := conformance.Server{URI: mongotest.Start(t, mongotest.WithVersion(way.to)).URI()}
			conformance.Each(t, conformance.Server{URI: mongotest.Start(t, mongotest.WithVersion(from)).URI(), Known: true}, func(t *testing.T, name string, db *mongo.Database) {
				if name != "time series in the first form" {
					return
				}
				empty := conformance.NewDatabase(t, to.Connect(t))
				require.NoError(t, conformance.Direct(t, conformance.Dump(t, db, dump.Options{}), empty))
				was, is := conformance.Contents(t, db)["weather"], conformance.Contents(t, empty)["weather"]
				require.Equal(t, way.indexes, []int{len(was.Indexes), len(is.Indexes)})
				require.Equal(t, was.Documents, is.Documents)
				require.Equal(t, was.Options, is.Options)
			})
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
