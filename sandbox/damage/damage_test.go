package damage_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/mongotest"
	"github.com/battwheels/runbook/sandbox/damage"
	"github.com/battwheels/runbook/sandbox/judge"
	"github.com/battwheels/runbook/sandbox/ledger"
	"github.com/battwheels/runbook/sandbox/seed"
)

func seeded(t *testing.T) (*mongo.Database, *ledger.Ledger) {
	t.Helper()
	db := mongotest.Start(t).Client(t).Database("battwheels")
	require.NoError(t, seed.Generate(seed.Options{Seed: 4, Scale: 0.1}).Load(t.Context(), db, nil))
	book := ledger.New()
	require.NoError(t, book.Baseline(t.Context(), db))
	return db, book
}

func TestTheReportIsWhatTheDatabaseSuffered(t *testing.T) {
	db, book := seeded(t)
	before := ledger.Window{From: time.Now(), To: time.Now()}
	r, err := damage.Do(t.Context(), db, damage.Options{Seed: 1}, book)
	require.NoError(t, err)
	require.Equal(t, []string{"contacts", "inventory", "invoices", "sequences"}, r.Dropped)
	require.Positive(t, r.Documents())
	require.Contains(t, r.String(), "dropped contacts, inventory, invoices, sequences; wrote garbage over ")

	v, err := judge.Judge(t.Context(), db, book.Expect(ledger.Cut{Window: before}))
	require.NoError(t, err)
	require.Equal(t, r.Documents()+len(r.Dropped), v.Differing)
	for name, n := range r.Overwritten {
		require.Equal(t, n, v.Where[name], name)
	}
	for name, n := range r.Deleted {
		require.Equal(t, n, v.Where[name], name)
	}
	for _, spared := range []string{"audit_logs", "audit_log"} {
		require.Zero(t, v.Where[spared])
	}

	// The ledger knows the damage too: cut now, the damaged database is as it must be, but for the collections that are
	// gone.
	v, err = judge.Judge(t.Context(), db, book.Expect(ledger.Cut{Window: ledger.Window{From: time.Now(), To: time.Now()}}))
	require.NoError(t, err)
	require.Equal(t, len(r.Dropped), v.Differing, "%v", v.Differences)
}

func TestTheSameNumberBreaksTheSameThings(t *testing.T) {
	var reports []string
	for range 2 {
		db, book := seeded(t)
		r, err := damage.Do(t.Context(), db, damage.Options{Seed: 9}, book)
		require.NoError(t, err)
		reports = append(reports, r.String())
	}
	require.Equal(t, reports[0], reports[1])
}

func TestDamageToOrder(t *testing.T) {
	db, book := seeded(t)
	r, err := damage.Do(t.Context(), db, damage.Options{Delete: map[string]float64{"users": 1}, Poison: []string{"items"}}, book)
	require.NoError(t, err)
	require.Empty(t, r.Dropped)
	require.Equal(t, map[string]int{"users": 240}, r.Deleted)
	n, err := db.Collection("users").CountDocuments(t.Context(), bson.D{})
	require.NoError(t, err)
	require.Zero(t, n)
	require.Contains(t, r.String(), "made unreadable items")
}

func TestSabotageNeedsSomethingToAlter(t *testing.T) {
	db, _ := seeded(t)
	_, err := damage.Sabotage(t.Context(), db, "no_such_collection")
	require.ErrorIs(t, err, damage.ErrNothingToAlter)
}
