package restore

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/mongotest"
)

func TestAScratchIsClaimedByOneAndDroppedByItsOwnerOnly(t *testing.T) {
	ctx := t.Context()
	db := mongotest.Start(t).Client(t).Database("scratch")
	first := Holder{Owner: "drill/shop", Run: "1"}
	l, err := ClaimScratch(ctx, db, first)
	require.NoError(t, err)
	again, err := ClaimScratch(ctx, db, first)
	require.NoError(t, err)
	require.Equal(t, l.Token, again.Token, "a step that runs twice gets the same lease")

	_, err = ClaimScratch(ctx, db, Holder{Owner: "drill/garage", Run: "1"})
	require.ErrorContains(t, err, "which belongs to drill/shop")
	dropped, err := DropScratch(ctx, db, "drill/garage")
	require.NoError(t, err)
	require.False(t, dropped)

	_, err = db.Collection("invoices").InsertOne(ctx, bson.D{{Key: "_id", Value: 1}})
	require.NoError(t, err)
	next, err := ClaimScratch(ctx, db, Holder{Owner: "drill/shop", Run: "2"})
	require.NoError(t, err)
	require.Greater(t, next.Token, l.Token)
	require.Error(t, l.Check(ctx), "the run before is fenced off")
	names, err := db.ListCollectionNames(ctx, bson.D{{Key: "name", Value: "invoices"}})
	require.NoError(t, err)
	require.Empty(t, names, "what the run before left is gone")

	dropped, err = DropScratch(ctx, db, "drill/shop")
	require.NoError(t, err)
	require.True(t, dropped)
	names, err = db.ListCollectionNames(ctx, bson.D{})
	require.NoError(t, err)
	require.Empty(t, names)
}

func TestADatabaseThatNobodyMarkedIsNeverAScratch(t *testing.T) {
	db := mongotest.Start(t).Client(t).Database("scratch")
	_, err := db.Collection("precious").InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}})
	require.NoError(t, err)
	_, err = ClaimScratch(t.Context(), db, Holder{Owner: "drill/shop", Run: "1"})
	require.ErrorAs(t, err, new(*ScratchTakenError))
	dropped, err := DropScratch(t.Context(), db, "drill/shop")
	require.NoError(t, err)
	require.False(t, dropped)
	n, err := db.Collection("precious").CountDocuments(t.Context(), bson.D{})
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
}
