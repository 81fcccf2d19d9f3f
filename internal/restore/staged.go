package restore

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// CountStaged counts the documents of a staged collection that match a filter. Of a collection that the backup does not have there are
// none. A *RefusedError says that it cannot be counted: it was not staged, or the server does not take the filter.
func CountStaged(ctx context.Context, o StageOptions, collection string, filter bson.D) (int64, error) {
	if err := o.Lease.Check(ctx); err != nil {
		return 0, err
	}
	s, err := LoadStaging(o.Dir)
	if err != nil {
		return 0, err
	}
	for _, sc := range s.Collections {
		switch {
		case sc.Name != collection:
			continue
		case sc.Skipped != "" || sc.Stage == "":
			return 0, &RefusedError{Collection: collection, What: "a query", Reason: "the collection was not staged: " + sc.Skipped}
		}
		var answer struct {
			N int64 `bson:"n"`
		}
		err := persist(ctx, func() error {
			return o.DB.RunCommand(ctx, bson.D{{Key: "count", Value: sc.Stage}, {Key: "query", Value: filter}}).Decode(&answer)
		})
		if c := code(err); c != 0 && !transient(err) {
			return 0, &RefusedError{Collection: collection, What: "a query", Code: c, Reason: err.Error()}
		}
		if err != nil {
			return 0, fmt.Errorf("count staged collection %s: %w", collection, err)
		}
		return answer.N, nil
	}
	return 0, nil
}
