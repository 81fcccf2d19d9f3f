package restore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/battwheels/runbook/internal/backup"
)

// Proof is what was read back from the staged copy, all of it equal to the backup.
type Proof struct {
	Collections int   `json:"collections"`
	Documents   int64 `json:"documents"`
	Bytes       int64 `json:"bytes"`
	Indexes     int   `json:"indexes"`
}

// Prove reads every staged collection back, as a majority of the servers has it, and compares its documents, indexes and
// options with the backup's. Then it builds the indexes by which documents expire. What differs is a *ProofError. Run
// again, it does not read again what it has proven.
func Prove(ctx context.Context, o StageOptions) (Proof, error) {
	s, err := LoadStaging(o.Dir)
	if err != nil {
		return Proof{}, fmt.Errorf("prove: the backup was not staged whole: %w", err)
	}
	if s.Token != o.Lease.Token || s.Manifest != o.Source.Manifest.Checksum {
		return Proof{}, fmt.Errorf("prove: %s holds the staging of backup %s by attempt %d, not of %s by %d", o.Dir, s.Backup, s.Token, o.Source.Manifest.Name, o.Lease.Token)
	}
	if err := o.Lease.Check(ctx); err != nil {
		return Proof{}, err
	}
	if moved, err := onTheMove(o); err != nil {
		return Proof{}, err
	} else if moved && s.Proof != nil {
		return *s.Proof, nil
	}
	h, err := ask(ctx, o.DB)
	if err != nil {
		return Proof{}, err
	}
	there, err := collections(ctx, o.DB)
	if err != nil {
		return Proof{}, err
	}
	j, done, err := openJournal[milestone](o.Dir, provenJournal)
	if err != nil {
		return Proof{}, err
	}
	p := prover{o: o, there: there, journal: j, replicaSet: h.SetName != "", done: map[string]string{}}
	for _, d := range done {
		if d.Token == s.Token && d.Manifest == s.Manifest {
			p.done[d.Collection] = d.UUID
		}
	}
	p.tracker = backup.NewTracker(backup.Progress{
		Step: "proving", CollectionsTotal: len(s.Collections), DocumentsTotal: s.Documents, BytesTotal: s.Bytes,
	}, o.Progress)
	err = o.each(ctx, s, func(ctx context.Context, i int) error { return p.collection(ctx, &s.Collections[i]) })
	if err = errors.Join(err, j.close()); err != nil {
		return Proof{}, err
	}
	if len(p.wrong) > 0 {
		return Proof{}, &ProofError{Differences: p.wrong}
	}
	p.tracker.Finish()
	s.Proof = &p.proof
	return p.proof, save(o.Dir, stagingFile, s)
}

// prover compares staged collections with the backup, several at a time.
type prover struct {
	o          StageOptions
	there      map[string]info
	done       map[string]string // collection → UUID of what was proven earlier
	journal    *journal[milestone]
	replicaSet bool
	tracker    *backup.Tracker

	mu    sync.Mutex
	proof Proof
	wrong []Difference
}

func (p *prover) collection(ctx context.Context, sc *StagedCollection) error {
	defer p.tracker.Done()
	if sc.Skipped != "" {
		return nil
	}
	c, err := p.o.collectionOf(*sc)
	if err != nil {
		return err
	}
	at, ok := p.there[sc.Stage]
	if !ok {
		p.differs(Difference{Collection: sc.Name, What: "its staged copy is gone"})
		return nil
	}
	uuid, before := p.done[sc.Name]
	before = before && uuid == at.uuid
	found, err := compareCollection(ctx, p.o.DB, sc.Stage, at, p.o.Source, c, comparison{withoutTTL: true, withoutDocuments: before, dir: p.o.Dir, tracker: p.tracker})
	if err != nil {
		return err
	}
	if len(found.wrong) > 0 {
		p.differs(found.wrong...)
		return nil
	}
	if !before {
		record := p.journal.note
		if len(sc.TTL) > 0 {
			record = p.journal.add // its documents begin to expire: it will never equal the backup again
		}
		if err := record(milestone{p.o.Lease.Token, p.o.Source.Manifest.Checksum, sc.Name, at.uuid}); err != nil {
			return err
		}
	}
	if err := buildIndexes(ctx, p.o.DB, sc.Stage, c, p.replicaSet, indexSpec.ttl); err != nil {
		return err
	}
	wrong, err := checkIndexes(ctx, p.o.DB, sc.Stage, c, false)
	if err != nil {
		return err
	}
	p.differs(wrong...)
	sc.UUID = at.uuid
	p.mu.Lock()
	defer p.mu.Unlock()
	p.proof.Collections++
	p.proof.Documents += c.Digest.Documents
	p.proof.Bytes += c.Digest.Bytes
	p.proof.Indexes += len(c.Indexes)
	return nil
}

func (p *prover) differs(wrong ...Difference) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrong = append(p.wrong, wrong...)
}
