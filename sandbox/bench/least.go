package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"golang.org/x/sync/errgroup"

	"github.com/battwheels/runbook/internal/backup"
)

const (
	// leastLevel is the gzip level that a dump of ours has by default.
	leastLevel = 3
	// leastParallel is how many collections are read, or members inserted, at a time: what a dump and a restore of ours have.
	leastParallel = 4
	// leastBatch is how many documents a cursor is asked for at a time.
	leastBatch = 2000
)

// leastDump is the least that a dump can be: cursors, gzip on every core, and what comes of it is thrown away.
func leastDump(ctx context.Context, db *mongo.Database) error {
	names, err := db.ListCollectionNames(ctx, bson.D{})
	if err != nil {
		return err
	}
	blocks := make(chan []byte, leastParallel)
	packers, readers := errgroup.Group{}, errgroup.Group{}
	for range leastParallel {
		packers.Go(func() error {
			z, err := gzip.NewWriterLevel(io.Discard, leastLevel)
			for block := range blocks {
				if err == nil {
					z.Reset(io.Discard)
					_, err = z.Write(block)
				}
				if err == nil {
					err = z.Close()
				}
			}
			return err
		})
	}
	readers.SetLimit(leastParallel)
	for _, name := range names {
		readers.Go(func() error {
			cursor, err := db.Collection(name).Find(ctx, bson.D{})
			if err != nil {
				return err
			}
			cursor.SetBatchSize(leastBatch)
			var block []byte
			for cursor.Next(ctx) {
				if block = append(block, cursor.Current...); len(block) >= backup.MemberSize {
					blocks <- block
					block = make([]byte, 0, backup.MemberSize+len(cursor.Current))
				}
			}
			blocks <- block
			return cursor.Err()
		})
	}
	err = readers.Wait()
	close(blocks)
	return errors.Join(err, packers.Wait())
}

// leastRestore is the least that a restore can be: gunzip on every core, and raw inserts. It knows nothing of types, indexes or
// errors of single documents.
func leastRestore(ctx context.Context, db *mongo.Database, dir string) error {
	m, err := backup.ReadManifest(dir)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(leastParallel)
	for i := range m.Collections {
		c := &m.Collections[i]
		f, err := os.Open(filepath.Join(dir, c.Data.Path))
		if err != nil {
			return errors.Join(err, g.Wait())
		}
		for {
			member, err := nextMember(f)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return errors.Join(err, f.Close(), g.Wait())
			}
			g.Go(func() error { return insertMember(ctx, db.Collection(c.Name), member) })
		}
		if err := f.Close(); err != nil {
			return errors.Join(err, g.Wait())
		}
	}
	return g.Wait()
}

// headOf is the length of a gzip member's header as our dumps write it: ten bytes, two for the extra field's length, and the extra
// field, whose last four bytes are the whole member's length.
const headOf = 20

func nextMember(f io.Reader) ([]byte, error) {
	head := make([]byte, headOf)
	if _, err := io.ReadFull(f, head); err != nil {
		return nil, err
	}
	member := make([]byte, binary.LittleEndian.Uint32(head[16:]))
	copy(member, head)
	_, err := io.ReadFull(f, member[headOf:])
	return member, err
}

// insertMost is how many bytes are inserted at once: the server takes 48 MB, and 100,000 documents.
const insertMost = 16 << 20

func insertMember(ctx context.Context, coll *mongo.Collection, member []byte) error {
	content := make([]byte, binary.LittleEndian.Uint32(member[len(member)-4:]))
	if _, err := io.ReadFull(flate.NewReader(bytes.NewReader(member[headOf:len(member)-8])), content); err != nil {
		return err
	}
	for len(content) > 0 {
		array := make([]byte, 4, min(len(content), insertMost)+len(content)/64+1024)
		for n := 0; len(content) > 0 && (n == 0 || len(array) < insertMost); n++ {
			size := binary.LittleEndian.Uint32(content)
			array = append(array, byte(bson.TypeEmbeddedDocument))
			array = append(strconv.AppendInt(array, int64(n), 10), 0)
			array = append(array, content[:size]...)
			content = content[size:]
		}
		array = append(array, 0)
		binary.LittleEndian.PutUint32(array, uint32(len(array)))
		err := coll.Database().RunCommand(ctx, bson.D{
			{Key: "insert", Value: coll.Name()}, {Key: "documents", Value: bson.RawValue{Type: bson.TypeArray, Value: array}}, {Key: "ordered", Value: false},
		}).Err()
		if err != nil {
			return fmt.Errorf("insert into %s: %w", coll.Name(), err)
		}
	}
	return nil
}
