package incident

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// SumsName is the list of SHA-256 sums that Sum writes.
const SumsName = "SHA256SUMS"

// Sums sums up what Sum listed.
type Sums struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
	// SHA256 is that of the list itself: kept elsewhere (the workflow's history), it seals the whole folder.
	SHA256 string `json:"sha256"`
}

// Sum writes SHA256SUMS: every file of the folder but itself, in the format that `sha256sum -c` checks from inside the
// folder. Call it last: what is written afterwards makes the check fail, as it should.
func (f Folder) Sum(ctx context.Context) (Sums, error) {
	var sums Sums
	var lines []string
	err := filepath.WalkDir(f.Dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		name, err := filepath.Rel(f.Dir, path)
		if err != nil {
			return err
		}
		if !entry.Type().IsRegular() || name == SumsName {
			return nil
		}
		size, sum, err := sumFile(path)
		if err != nil {
			return err
		}
		sums.Files++
		sums.Bytes += size
		lines = append(lines, sumLine(sum, filepath.ToSlash(name)))
		return nil
	})
	if err != nil {
		return Sums{}, fmt.Errorf("list the sums of the incident's folder: %w", err)
	}
	slices.Sort(lines)
	list := []byte(strings.Join(lines, ""))
	if err := f.WriteFile(SumsName, list); err != nil {
		return Sums{}, err
	}
	whole := sha256.Sum256(list)
	sums.SHA256 = hex.EncodeToString(whole[:])
	return sums, nil
}

func sumFile(path string) (size int64, sum string, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, "", err
	}
	defer file.Close()
	h := sha256.New()
	if size, err = io.Copy(h, file); err != nil {
		return 0, "", err
	}
	return size, hex.EncodeToString(h.Sum(nil)), nil
}

// sumLine escapes like sha256sum does: a line that begins with a backslash has \\, \n and \r spelled out in its name.
func sumLine(sum, name string) string {
	escaped := strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`).Replace(name)
	if escaped != name {
		sum = `\` + sum
	}
	return sum + "  " + escaped + "\n"
}
