package restore

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
)

// viewSpec is a view's definition, kept in the journal so that it can be made anew.
type viewSpec struct {
	Name    string          `json:"name"`
	Options json.RawMessage `json:"options"` // canonical extended JSON
}

func newViewSpec(name string, options bson.Raw) (viewSpec, error) {
	j, err := backup.ToJSON(orEmpty(options))
	if err != nil {
		return viewSpec{}, fmt.Errorf("definition of view %s: %w", name, err)
	}
	return viewSpec{name, j}, nil
}

// same says whether what stands under the view's name is this view.
func (v viewSpec) same(there info) bool {
	options, err := backup.ToBSON(v.Options)
	return err == nil && there.kind == backup.TypeView && sameOptions(options, there.options)
}

// dropViews drops the views that go. One that has become one of those that come has gone before; a view that is neither
// was made by somebody else.
func (w *swapper) dropViews(ctx context.Context, leave, come []viewSpec) error {
	for _, v := range leave {
		there, ok := w.there[v.Name]
		if !ok || there.kind != backup.TypeView {
			continue
		}
		if slices.ContainsFunc(come, func(c viewSpec) bool { return c.Name == v.Name && c.same(there) }) {
			continue
		}
		if !v.same(there) {
			return &LiveReappearedError{Collection: v.Name}
		}
		if err := w.fence(ctx); err != nil {
			return err
		}
		if err := drop(ctx, w.o.DB, v.Name); err != nil {
			return err
		}
		delete(w.there, v.Name)
	}
	return nil
}

// createViews makes the views that come. Those that are there already are left as they are.
func (w *swapper) createViews(ctx context.Context, come []viewSpec) error {
	for _, v := range come {
		if there, ok := w.there[v.Name]; ok {
			if !v.same(there) {
				return &LiveReappearedError{Collection: v.Name}
			}
			continue
		}
		if err := w.fence(ctx); err != nil {
			return err
		}
		if err := create(ctx, w.o.DB, v.Name, &backup.Collection{Name: v.Name, Type: backup.TypeView, Options: v.Options}); err != nil {
			return err
		}
	}
	if err := w.look(ctx); err != nil {
		return err
	}
	for _, v := range come {
		if !v.same(w.there[v.Name]) {
			return &LiveReappearedError{Collection: v.Name}
		}
	}
	return nil
}
