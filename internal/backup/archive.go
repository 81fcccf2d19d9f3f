package backup

import (
	"encoding/binary"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
)

// archiveMagic begins what mongodump --archive writes, packed or not.
const archiveMagic = 0x8199e26d

// IsArchive says whether a file is a dump in one piece, as mongodump --archive writes it. It looks at the first bytes only; a
// file that cannot be read is none.
func IsArchive(path string) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	if beginsArchive(f) {
		return true
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return false
	}
	z, err := gzip.NewReader(f)
	return err == nil && beginsArchive(z)
}

func beginsArchive(r io.Reader) bool {
	var head [4]byte
	_, err := io.ReadFull(r, head[:])
	return err == nil && binary.LittleEndian.Uint32(head[:]) == archiveMagic
}
