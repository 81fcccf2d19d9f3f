package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"

	"github.com/battwheels/runbook/internal/backup"
)

const (
	dataExt     = ".bson"
	metadataExt = ".metadata.json"
	gzipExt     = ".gz"
	// gzipFrame is the least that a gzip file has: header and trailer.
	gzipFrame = 18
	// emptyPack is the most that gzip makes of nothing, and less than it makes of one document.
	emptyPack = 24
	// deflateMost is how far deflate can pack at best.
	deflateMost = 1032
	// smallFile is unpacked whole in a look that has to be quick.
	smallFile = 32 << 10
)

// inspect looks at a foreign dump that was never verified, quickly: its files' names, and whether each one ends as a whole one
// does. It notes what proves that the dump was cut off. That it finds nothing proves nothing: Verify reads every document.
func (e *Entry) inspect(database string) {
	folder := filepath.Join(e.Data, database)
	files, err := os.ReadDir(folder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.broken = fmt.Sprintf("it has no folder of the database %s", database)
		return
	case err != nil:
		e.broken = fmt.Sprintf("it cannot be read (%v)", plainError(err))
		return
	}
	data, metadata := map[string]string{}, map[string]string{}
	for _, f := range files {
		plain := strings.TrimSuffix(f.Name(), gzipExt)
		switch base, isMetadata := strings.CutSuffix(plain, metadataExt); {
		case backup.UnusedFile(f.Name()):
		case isMetadata:
			metadata[base] = f.Name()
		case strings.HasSuffix(plain, dataExt):
			base := strings.TrimPrefix(strings.TrimSuffix(plain, dataExt), backup.BucketsPrefix)
			data[base] = f.Name()
		}
	}
	e.bases = map[string]content{}
	for base, name := range data {
		if info, err := os.Stat(filepath.Join(folder, name)); err == nil {
			size := info.Size()
			e.bases[base] = content{bytes: size, none: size == 0 || strings.HasSuffix(name, gzipExt) && size <= emptyPack}
		}
	}
	e.Collections = len(e.bases)
	switch {
	case len(data) == 0 && len(metadata) == 0:
		e.broken = "it holds no collection"
		return
	default:
		e.broken = firstOf(unpaired(folder, data, metadata), cutOff(folder, data), cutOff(folder, metadata))
	}
}

func firstOf(reasons ...string) string {
	for _, r := range reasons {
		if r != "" {
			return r
		}
	}
	return ""
}

// unpaired finds a collection that has one of its two files only. mongodump writes all metadata first, so a dump that was killed
// has some without documents.
func unpaired(folder string, data, metadata map[string]string) string {
	for _, base := range slices.Sorted(maps.Keys(data)) {
		if _, ok := metadata[base]; !ok {
			return fmt.Sprintf("%s has no metadata: the dump was interrupted, or copied in part", data[base])
		}
	}
	var lacking []string
	for _, base := range slices.Sorted(maps.Keys(metadata)) {
		if _, ok := data[base]; !ok && !isView(filepath.Join(folder, metadata[base])) {
			lacking = append(lacking, metadata[base])
		}
	}
	switch len(lacking) {
	case 0:
		return ""
	case 1:
		return lacking[0] + " has no documents beside it: the dump was interrupted, or copied in part"
	default:
		return fmt.Sprintf("%s and %d more have no documents beside them: the dump was interrupted, or copied in part", lacking[0], len(lacking)-1)
	}
}

func isView(path string) bool {
	b, err := os.ReadFile(path)
	if err == nil && strings.HasSuffix(path, gzipExt) {
		b, err = unpack(path)
	}
	if err != nil {
		return false
	}
	m, err := backup.DecodeMetadata(b)
	return err == nil && m.Type == backup.TypeView
}

// cutOff finds a file that does not end as a whole one does.
func cutOff(folder string, files map[string]string) string {
	for _, base := range slices.Sorted(maps.Keys(files)) {
		name := files[base]
		if err := wholeFile(filepath.Join(folder, name)); err != nil {
			return fmt.Sprintf("%s %v", name, err)
		}
	}
	return ""
}

var errCutOff = errors.New("is cut off: mongodump was interrupted, or the disk was full")

// wholeFile looks at the ends of a file. A small packed file is unpacked whole. Of a large one the last four bytes must be a
// length that its packed size allows, which those of a file that was cut off rarely are.
func wholeFile(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("cannot be read: %w", plainError(err))
	}
	if !info.Mode().IsRegular() {
		return errors.New("is not a file")
	}
	size := info.Size()
	if !strings.HasSuffix(path, gzipExt) {
		return wholePlain(path, size)
	}
	if size < gzipFrame {
		return errCutOff
	}
	if size <= smallFile {
		if _, err := unpack(path); err != nil {
			if errors.Is(err, fs.ErrPermission) {
				return fmt.Errorf("cannot be read: %w", plainError(err))
			}
			return errCutOff
		}
		return nil
	}
	var head [2]byte
	var length [4]byte
	if err := readAt(path, head[:], 0); err != nil {
		return fmt.Errorf("cannot be read: %w", plainError(err))
	}
	if err := readAt(path, length[:], size-4); err != nil {
		return fmt.Errorf("cannot be read: %w", plainError(err))
	}
	if head != [2]byte{0x1f, 0x8b} {
		return errors.New("is not packed with gzip, as its name says")
	}
	packed, unpacked := size-gzipFrame, int64(binary.LittleEndian.Uint32(length[:]))
	// Past 4 GiB the length has wrapped and says nothing; files of several members only tell of their last one.
	if packed*deflateMost < 1<<32 && unpacked > packed*deflateMost {
		return errCutOff
	}
	return nil
}

// wholePlain looks at an unpacked file: documents begin with their length and end with a zero byte.
func wholePlain(path string, size int64) error {
	if !strings.HasSuffix(path, dataExt) || size == 0 {
		return nil
	}
	var last [1]byte
	if err := readAt(path, last[:], size-1); err != nil {
		return fmt.Errorf("cannot be read: %w", plainError(err))
	}
	if size < 5 || last[0] != 0 {
		return errCutOff
	}
	return nil
}

func readAt(path string, b []byte, at int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = f.ReadAt(b, at)
	return errors.Join(err, f.Close())
}

func unpack(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}
