package ferret_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/internal/conformance"
	"github.com/battwheels/runbook/sandbox/ferret"
)

// lacks are the cases that FerretDB v1 on SQLite refuses, or forgets in part, or breaks the connection at.
var lacks = []string{
	"arrays in arrays",
	"names of any letters", "names with dots", "names that look like files", "names like those of systems, with dots", "names like those of runbook",
	"Decimal128", "NaN with a payload", "infinities", "-0.0", "MinKey and MaxKey", "JavaScript", "JavaScript with a scope", "symbols", "DBPointer",
	"undefined", "field names with dots", "field names with a dollar", "field names of any letters", "duplicate field names",
	"arrays with keys that are not their places", "_id that few servers take",
	"views, and views on views", "views with a collation", "clustered collections", "clustered collections whose documents expire",
	"collations", "validators", "time series in the first form", "time series in the compressed form", "images before and after a change",
	"functions of the server", "storage options",
	"sparse indexes", "partial indexes", "indexes by which documents expire", "hidden indexes", "indexes with a collation", "text indexes",
	"text indexes on everything", "wildcard indexes", "2dsphere and 2d indexes", "hashed indexes", "storage options of indexes",
	"numbers of other types in keys",
}

// What FerretDB v1 holds, the engine carries over there as well; what it does not hold is told by name.
func TestFerretDBConforms(t *testing.T) {
	s, err := ferret.Start(t.Context(), ferret.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Stop(t.Context())) }()
	conformance.Run(t, conformance.Server{
		URI: s.URI(), Known: true, Lacks: lacks,
		Without: map[string]string{"documents of 16 MiB": "FerretDB on SQLite takes half a minute for them"},
	})
}
