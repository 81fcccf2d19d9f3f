package garage

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// healthTimeout keeps the check quick even where the database hangs.
const healthTimeout = 4 * time.Second

// health answers 200 whatever it finds, as the application it stands for does: only the words tell.
func (a *App) health(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
	defer cancel()
	answer := map[string]any{
		"status": "healthy", "version": Version, "service": "battwheels-os", "mongodb": "connected",
		"timestamp": time.Now().UTC().Format(pythonTime + "-07:00"),
	}
	var issues []string
	if err := a.store.db.Client().Ping(ctx, nil); err != nil {
		answer["mongodb"] = "disconnected"
		issues = append(issues, "mongodb: "+err.Error())
	} else {
		issues = a.inspect(ctx)
	}
	if len(issues) > 0 {
		answer["status"], answer["issues"] = "degraded", issues
	}
	respond(w, http.StatusOK, answer)
}

// vital are the collections without which nobody can log in, with the fields that every document of theirs has.
var vital = []struct {
	collection string
	fields     []string
}{
	{"organizations", []string{"organization_id", "name", "is_active"}},
	{"users", []string{"user_id", "organization_id", "role"}},
}

// inspect reads some of what everything else depends on.
func (a *App) inspect(ctx context.Context) []string {
	var issues []string
	for _, v := range vital {
		if err := a.sample(ctx, v.collection, v.fields); err != nil {
			issues = append(issues, v.collection+": "+err.Error())
		}
	}
	return issues
}

func (a *App) sample(ctx context.Context, collection string, fields []string) error {
	cursor, err := a.store.db.Collection(collection).Find(ctx, bson.D{}, options.Find().SetLimit(100))
	if err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	defer cursor.Close(context.WithoutCancel(ctx))
	n := 0
	for cursor.Next(ctx) {
		n++
		for _, f := range fields {
			if _, err := cursor.Current.LookupErr(f); err != nil {
				return fmt.Errorf("a document has no %s", f)
			}
		}
	}
	if err := cursor.Err(); err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	if n == 0 {
		return fmt.Errorf("is empty")
	}
	return nil
}
