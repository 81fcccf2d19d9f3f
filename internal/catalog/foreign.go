package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/config"
)

// nameParts is a time in the name of a directory: YYYYMMDD_HHMMSS, with or without separators, and Z for UTC.
const nameParts = `(\d{4})[-_.]?(\d\d)[-_.]?(\d\d)[-_.T]?(\d\d)[-_.:]?(\d\d)[-_.:]?(\d\d)(Z?)`

// longestDump is how long another tool's dump may have taken. Files that are younger were copied: their times say nothing.
const longestDump = 12 * time.Hour

// source is one configured directory of another tool, ready to be looked at.
type source struct {
	config.Foreign
	index int
	zone  *time.Location
	name  *regexp.Regexp // of a backup's directory, whole
	runs  []run
	// logErr says why the log tells nothing, where there is one configured.
	logErr error
}

func (c *Catalog) source(i int) (*source, error) {
	s := &source{Foreign: c.Foreign[i], index: i}
	var err error
	if s.zone, err = time.LoadLocation(s.Zone); err != nil {
		return nil, fmt.Errorf("time zone of %s: %w", s.Dir, err)
	}
	pattern := s.Pattern
	if pattern == "" {
		pattern = "{database}_{time}"
	}
	pattern = regexp.QuoteMeta(pattern)
	pattern = strings.ReplaceAll(pattern, `\{database\}`, regexp.QuoteMeta(c.Database))
	pattern = strings.ReplaceAll(pattern, `\{time\}`, nameParts)
	anywhere, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("pattern of %s: %w", s.Dir, err)
	}
	s.name = regexp.MustCompile("^(?:" + pattern + ")$")
	if s.Log != "" {
		s.runs, s.logErr = readLog(s.Log, s.zone, anywhere)
	}
	return s, nil
}

// others looks at the dumps in one directory of another tool. A directory that cannot be looked into becomes an entry that says
// so: at three in the morning the rest of the list must still come.
func (c *Catalog) others(ctx context.Context, s *source) ([]Entry, error) {
	dirs, err := os.ReadDir(s.Dir)
	if err != nil {
		return []Entry{{
			ID: foreignPrefix + s.Dir, Name: s.Dir, Origin: s.Dir, Kind: backup.Foreign, State: Incomplete, Data: s.Dir,
			broken: fmt.Sprintf("the directory of foreign backups cannot be looked into (%v)", plainError(err)), unreadable: true,
		}}, nil
	}
	var entries []Entry
	for _, d := range dirs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		data := filepath.Join(s.Dir, d.Name())
		parts := s.name.FindStringSubmatch(d.Name())
		if s.isArchive(data) {
			entries = append(entries, c.archive(s, data))
			continue
		}
		if parts == nil {
			continue
		}
		if info, err := os.Stat(data); err != nil || !info.IsDir() {
			continue
		}
		entries = append(entries, c.otherEntry(s, d.Name(), data, parts))
	}
	return entries, nil
}

// isArchive says whether a file is a dump in one piece that is named like the others, with whatever ending.
func (s *source) isArchive(path string) bool {
	name := filepath.Base(path)
	for {
		if s.name.MatchString(name) {
			return backup.IsArchive(path)
		}
		ext := filepath.Ext(name)
		if ext == "" {
			return false
		}
		name = strings.TrimSuffix(name, ext)
	}
}

// archive is a dump that cannot be used as it is. Whoever believes that it could is told, and it is never touched.
func (c *Catalog) archive(s *source, path string) Entry {
	name := filepath.Base(path)
	return Entry{
		ID: foreignID(s.index, name), Name: name, Origin: s.Dir, Kind: backup.Foreign, State: Incomplete,
		Home: c.foreignHome(s.index, name), Data: path,
		broken: (&backup.ArchiveError{File: path}).Error(), unreadable: true, archive: true,
	}
}

func (c *Catalog) otherEntry(s *source, name, data string, parts []string) Entry {
	e := Entry{
		ID: foreignID(s.index, name), Name: name, Origin: s.Dir, Kind: backup.Foreign, State: Complete,
		Home: c.foreignHome(s.index, name), Data: data, foreign: &s.Foreign,
	}
	if err := e.measure(); err != nil {
		e.broken = fmt.Sprintf("its directory cannot be read (%v)", plainError(err))
		e.State = Incomplete
		return e
	}
	e.Time = s.timeOf(parts)
	if e.Time.IsZero() {
		e.doubt(Misplaced, "its name holds no valid time")
	}
	e.log = tells(s.runs, name, e.Time)
	e.Finished = e.Time
	if r := e.log.run; r != nil && r.finished.After(e.Time) {
		e.Finished = r.finished
	} else if e.written.After(e.Time) && e.written.Sub(e.Time) <= longestDump {
		e.Finished = e.written
	}
	if m, ok := c.adopted(&e); ok {
		at, finished := e.Time, e.Finished
		c.describe(&e, m)
		e.Time, e.Finished = at, finished
	} else {
		e.inspect(c.Database)
	}
	c.recall(&e)
	if e.broken != "" {
		e.State = Incomplete
	}
	return e
}

// timeOf reads the time in a name, in the directory's zone. A name such as 20261399_000000 has none.
func (s *source) timeOf(parts []string) time.Time {
	zone := s.zone
	if parts[7] == "Z" {
		zone = time.UTC
	}
	at, err := time.ParseInLocation("20060102150405", strings.Join(parts[1:7], ""), zone)
	if err != nil {
		return time.Time{}
	}
	return at.UTC()
}

// adopted returns the manifest that an earlier verification kept, if it is about these files.
func (c *Catalog) adopted(e *Entry) (*backup.Manifest, bool) {
	r, err := readRecord(e.Home)
	if err != nil || r.Data != e.Data {
		return nil, false
	}
	// A damaged manifest of ours says nothing about the other tool's files: they are looked at as if for the first time.
	m, err := backup.ReadManifest(e.Home)
	// Its time is that of its name, and may have been read in another zone then.
	return m, err == nil && m.Name == e.Name && m.StartedAt.Equal(e.Time)
}

// plainError is the cause without the path, which stands beside it already.
func plainError(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%s: %w", p.Path, p.Err)
	}
	return err
}
