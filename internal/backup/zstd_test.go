package backup

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
)

func TestZstdFilesAreReadByUsAndByEveryReader(t *testing.T) {
	p, err := NewZstdPacker(3)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "c.bson.zst")
	var file, content []byte
	for _, part := range [][]byte{nil, bytes.Repeat([]byte("invoice "), 100_000), []byte("x"), bytes.Repeat([]byte{7}, MemberSize+12<<20)} {
		var out bytes.Buffer
		require.NoError(t, p.Pack(&out, part))
		file, content = append(file, out.Bytes()...), append(content, part...)
	}
	require.NoError(t, os.WriteFile(path, file, 0o600))
	got, err := unpackAll(t, path)
	require.NoError(t, err)
	require.Equal(t, content, got)

	d, err := zstd.NewReader(bytes.NewReader(file))
	require.NoError(t, err)
	defer d.Close()
	var other bytes.Buffer
	_, err = d.WriteTo(&other)
	require.NoError(t, err)
	require.Equal(t, content, other.Bytes())

	// No flipped bit gives other content: it is an error, or lies where no reader looks.
	for i := 0; i < len(file); i += 1 + len(file)/500 {
		bad := bytes.Clone(file)
		bad[i] ^= 1 << (i % 8)
		require.NoError(t, os.WriteFile(path, bad, 0o600))
		if got, err := unpackAll(t, path); err == nil {
			require.Equal(t, content, got)
		} else {
			require.ErrorAs(t, err, new(*CorruptError), "byte %d", i)
		}
	}
	for _, n := range []int{0, 3, zstdHeader, len(file) / 2, len(file) - 1} {
		require.NoError(t, os.WriteFile(path, file[:n], 0o600))
		_, err := unpackAll(t, path)
		require.ErrorAs(t, err, new(*CorruptError), "cut to %d bytes", n)
	}
}

func unpackAll(t *testing.T, path string) ([]byte, error) {
	t.Helper()
	s, err := openChunks(t.Context(), path, NewReadAhead(readAhead))
	require.NoError(t, err)
	defer s.close()
	var all []byte
	for {
		b, err := s.next(t.Context())
		if err != nil {
			if err.Error() == "EOF" {
				return all, nil
			}
			return nil, err
		}
		all = append(all, b...)
	}
}
