package backup

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path/filepath"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Documents streams a collection's documents in the file's order. Each is valid until the next one is asked for, and
// aliases a buffer: copy what must live longer. After the last document the file is compared with the manifest: any
// damage ends the sequence with a *CorruptError, so whoever has acted on the documents must be able to take that back.
// A view has no documents.
func (s Source) Documents(ctx context.Context, c *Collection) iter.Seq2[bson.Raw, error] {
	return s.DocumentsAhead(ctx, c, NewReadAhead(readAhead))
}

// DocumentsAhead is Documents for one of several readers that share what they hold in memory.
func (s Source) DocumentsAhead(ctx context.Context, c *Collection, ahead *ReadAhead) iter.Seq2[bson.Raw, error] {
	return func(yield func(bson.Raw, error) bool) {
		if c.Data.Path == "" {
			return
		}
		r, err := openDocumentsAhead(ctx, filepath.Join(s.Dir, filepath.FromSlash(c.Data.Path)), ahead)
		if err != nil {
			yield(nil, err)
			return
		}
		defer r.close()
		for {
			doc, err := r.next()
			if errors.Is(err, io.EOF) {
				err = r.matches(c)
				if err == nil {
					return
				}
			}
			if !yield(doc, err) || err != nil {
				return
			}
		}
	}
}

// documents cuts a data file's content into documents.
type documents struct {
	ctx    context.Context //nolint:containedctx // a documents lives as long as the call that opened it
	path   string
	source *chunks
	rest   []byte // of the current stretch
	carry  []byte // a document that crosses the end of a stretch
	digest Digest
}

func openDocuments(ctx context.Context, path string) (*documents, error) {
	return openDocumentsAhead(ctx, path, NewReadAhead(readAhead))
}

func openDocumentsAhead(ctx context.Context, path string, ahead *ReadAhead) (*documents, error) {
	source, err := openChunks(ctx, path, ahead)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &CorruptError{File: path, Reason: "it is missing"}
	}
	if err != nil {
		return nil, fmt.Errorf("read backup file: %w", err)
	}
	return &documents{ctx: ctx, path: path, source: source}, nil
}

func (r *documents) close() { r.source.close() }

// next returns the next document, valid until the following call, or io.EOF once the whole file was read well.
func (r *documents) next() (bson.Raw, error) {
	head, err := r.take(4)
	if err != nil {
		return nil, err
	}
	n := int(int32(binary.LittleEndian.Uint32(head)))
	if n < 5 || n > MaxDocument {
		return nil, r.corrupt("a document claims %d bytes", n)
	}
	doc, err := r.take(n)
	if err != nil {
		return nil, err
	}
	if doc[n-1] != 0 {
		return nil, r.corrupt("a document does not end where it says")
	}
	if len(r.carry) > 0 {
		r.carry = r.carry[:0]
	} else {
		r.rest = r.rest[n:]
	}
	r.digest.Add(doc)
	return bson.Raw(doc), nil
}

// take returns the next n bytes without consuming them. It gathers them in carry where they cross a stretch's end;
// carry then holds exactly these bytes.
func (r *documents) take(n int) ([]byte, error) {
	if len(r.carry) == 0 && len(r.rest) >= n {
		return r.rest[:n], nil
	}
	for len(r.carry) < n {
		if len(r.rest) == 0 {
			var err error
			if r.rest, err = r.source.next(r.ctx); err != nil {
				if errors.Is(err, io.EOF) && len(r.carry) > 0 {
					return nil, r.corrupt("it ends inside a document")
				}
				return nil, err
			}
			if len(r.carry) == 0 && len(r.rest) >= n {
				return r.rest[:n], nil
			}
		}
		more := min(n-len(r.carry), len(r.rest))
		r.carry = append(r.carry, r.rest[:more]...)
		r.rest = r.rest[more:]
	}
	return r.carry[:n], nil
}

// matches compares what was read, to the end, with what the manifest says of the collection.
func (r *documents) matches(c *Collection) error {
	switch {
	case r.source.file.Size != c.Data.Size:
		return r.corrupt("it has %d bytes, the manifest says %d", r.source.file.Size, c.Data.Size)
	case r.source.file.SHA256 != c.Data.SHA256:
		return r.corrupt("its SHA-256 is %s, the manifest says %s", r.source.file.SHA256, c.Data.SHA256)
	case r.digest != c.Digest:
		return r.corrupt("its %d documents are not the %d that the manifest describes", r.digest.Documents, c.Digest.Documents)
	default:
		return nil
	}
}

func (r *documents) corrupt(reason string, args ...any) error {
	return &CorruptError{File: r.path, Reason: fmt.Sprintf(reason, args...) + fmt.Sprintf(" (after %d whole documents)", r.digest.Documents)}
}
