package catalog

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxLog is how much of the end of a script's log is read: months of it, even where mongodump speaks much.
const maxLog = 32 << 20

// logReach is how far apart the time in a backup's name and the start of its run in the log may be.
const logReach = 2 * time.Minute

// The script's own lines. mongodump's standard error is mixed in, so one may begin in the middle of a line.
var logLine = regexp.MustCompile(`\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\] (?:(Starting MongoDB backup)|(Backup complete): (\S+) \((\d+) collection files\)|(ERROR: .*)|(Backup job finished successfully))`)

// run is one run of the other tool's script, as its log tells it.
type run struct {
	started  time.Time // zero where the log begins in the middle of it
	complete string    // the directory that it called complete, by its last name
	files    int       // how many collection files it counted there
	failed   string    // its ERROR line
	finished time.Time // zero where it never said so
	names    []string  // backups that its lines name
}

// first is the earliest time that the log knows of the run.
func (r *run) first() time.Time {
	if r.started.IsZero() {
		return r.finished
	}
	return r.started
}

// logged is what the log tells of one backup.
type logged struct {
	known bool // the log reaches back to it
	run   *run // nil where no run made it
}

// readLog reads the runs in a log, oldest first, and the one before it that a rotation may have left.
func readLog(file string, zone *time.Location, names *regexp.Regexp) ([]run, error) {
	var runs []run
	for _, p := range []string{file + ".1", file} {
		f, err := os.Open(p)
		if p != file && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the backup script's log: %w", err)
		}
		runs, err = parseLog(runs, f, zone, names)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("read the backup script's log %s: %w", p, err)
		}
	}
	return runs, nil
}

func parseLog(runs []run, f *os.File, zone *time.Location, names *regexp.Regexp) ([]run, error) {
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if info.Size() > maxLog {
		if _, err := f.Seek(-maxLog, io.SeekEnd); err != nil {
			return nil, err
		}
	}
	lines := bufio.NewReaderSize(f, 64<<10)
	for {
		line, err := lines.ReadString('\n')
		runs = readLine(runs, strings.TrimRight(line, "\r\n"), zone, names)
		if errors.Is(err, io.EOF) {
			return runs, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func readLine(runs []run, line string, zone *time.Location, names *regexp.Regexp) []run {
	said := logLine.FindAllStringSubmatch(line, -1)
	for _, m := range said {
		at, err := time.ParseInLocation("2006-01-02 15:04:05", m[1], zone)
		if err != nil {
			continue
		}
		if m[2] != "" || len(runs) == 0 {
			runs = append(runs, run{})
		}
		r := &runs[len(runs)-1]
		switch {
		case m[2] != "":
			r.started = at
		case m[3] != "":
			r.complete = path.Base(m[4])
			r.files, _ = strconv.Atoi(m[5])
		case m[6] != "":
			r.failed = m[6]
		case m[7] != "":
			r.finished = at
		}
	}
	if len(runs) > 0 {
		r := &runs[len(runs)-1]
		for _, name := range names.FindAllString(line, -1) {
			if !slices.Contains(r.names, name) {
				r.names = append(r.names, name)
			}
		}
	}
	return runs
}

// tells finds the run that made a backup: the one that called it complete, else the one that started when its name says. A run
// that only mentions it, as in a listing of all backups, need not have made it.
func tells(runs []run, name string, at time.Time) logged {
	if len(runs) == 0 {
		return logged{}
	}
	var near *run
	for i := range slices.Backward(runs) {
		r := &runs[i]
		if r.complete == name {
			return logged{known: true, run: r}
		}
		if r.complete != "" || len(r.names) > 0 && !slices.Contains(r.names, name) {
			continue
		}
		if apart := r.started.Sub(at).Abs(); apart <= logReach && (near == nil || apart < near.started.Sub(at).Abs()) {
			near = r
		}
	}
	begins := runs[0].first()
	return logged{known: near != nil || !begins.IsZero() && !begins.After(at), run: near}
}
