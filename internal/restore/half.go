package restore

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"go.mongodb.org/mongo-driver/v2/mongo"
)

// Half is a swap that was cut off: the database is neither what it was nor what it should become.
type Half struct {
	Incident string
	Dir      string // the attempt's directory
}

// HalfSwaps lists the swaps that were cut off, the latest incident first. incidents is the directory with a folder for each
// incident of the target, in which each attempt has a directory staging-TOKEN.
func HalfSwaps(incidents string) ([]Half, error) {
	dirs, err := filepath.Glob(filepath.Join(incidents, "*", "staging-*"))
	if err != nil {
		return nil, err
	}
	var halves []Half
	for _, dir := range slices.Backward(dirs) {
		half, err := Unfinished(dir)
		if err != nil {
			return halves, err
		}
		if half {
			halves = append(halves, Half{filepath.Base(filepath.Dir(dir)), dir})
		}
	}
	return halves, nil
}

// UndoHalfSwaps rolls back every swap that was cut off, under the lease of a later attempt, and tells which incidents they
// belonged to. Whoever restores calls it before anything is staged: what is live now must not be taken for what was live
// before, and a journal that is left behind must not be rolled back when it is long out of date.
func UndoHalfSwaps(ctx context.Context, db *mongo.Database, l Lease, incidents string) ([]string, error) {
	halves, err := HalfSwaps(incidents)
	if err != nil {
		return nil, err
	}
	var undone []string
	for _, h := range halves {
		if _, err := RollBack(ctx, SwapOptions{DB: db, Lease: l, Incident: h.Incident, Dir: h.Dir}); err != nil {
			return undone, fmt.Errorf("roll back the swap of incident %s that was cut off: %w", h.Incident, err)
		}
		undone = append(undone, h.Incident)
	}
	return undone, nil
}
