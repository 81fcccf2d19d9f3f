package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mongodb/mongo-tools/common/log"
	"github.com/mongodb/mongo-tools/mongodump"
	"github.com/mongodb/mongo-tools/mongorestore"
	"github.com/spf13/cobra"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"golang.org/x/sys/unix"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/dump"
	"github.com/battwheels/runbook/internal/restore"
)

// Work is what a tool is measured at.
type Work string

// The works.
const (
	DumpWork    Work = "dump"
	RestoreWork Work = "restore"
)

// The tools. A name that begins with Stock and goes on is the stock tool with settings.
const (
	Ours  = "runbook"
	Stock = "stock"
	Least = "least pipeline"
)

// tool is one way to do the work.
type tool struct {
	name string
	kind string   // Ours, Stock or Least: what the child does
	args []string // of the stock tool
}

var oursTool = tool{name: Ours, kind: Ours}

// tools lists who is measured at a work, in the order of a round.
func (s server) tools(work Work, shape Shape) []tool {
	if work == DumpWork {
		list := []tool{{name: Stock, kind: Stock}}
		if shape.many {
			// Its default is four already; said, so that the table does.
			list[0].args = []string{"-j4"}
		}
		return append(list, oursTool, tool{name: Least, kind: Least})
	}
	stock := func(name string, args ...string) tool { return tool{name, Stock, append(args, s.more...)} }
	list := []tool{stock(Stock)}
	if !shape.plain {
		list = append(list,
			stock(Stock+" 4 workers", "--numInsertionWorkersPerCollection", "4"),
			stock(Stock+" 8 workers", "--numInsertionWorkersPerCollection", "8"),
			stock(Stock+" 16 workers -j8", "--numInsertionWorkersPerCollection", "16", "-j", "8"))
	}
	return append(list, oursTool, tool{name: Least, kind: Least})
}

// Child is the subcommand by which the program becomes one run of one tool.
const Child = "bench-tool"

// Command is that subcommand: WORK TOOL URI DIR [ARG…]. It does the work once and prints what it took, as JSON.
func Command() *cobra.Command {
	return &cobra.Command{
		Use: Child, Short: "One run of one tool, to be measured", Hidden: true, Args: cobra.MinimumNArgs(4), DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			work, kind, uri, dir := Work(args[0]), args[1], args[2], args[3]
			idle, err := resident("VmRSS")
			if err != nil {
				return err
			}
			began := time.Now()
			if err := once(cmd.Context(), work, kind, uri, dir, args[4:]); err != nil {
				return err
			}
			got := measured{Seconds: time.Since(began).Seconds()}
			if got.CPU, err = processor(); err != nil {
				return err
			}
			peak, err := resident("VmHWM")
			if err != nil {
				return err
			}
			got.PeakMiB = peak - idle
			if work == DumpWork && kind != Least {
				if got.Size, err = sizeOf(dir); err != nil {
					return err
				}
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(got)
		},
	}
}

func once(ctx context.Context, work Work, kind, uri, dir string, args []string) error {
	switch {
	case kind == Stock && work == DumpWork:
		return stockDump(append([]string{"--uri", uri, "--db", database, "--gzip", "--out", dir}, args...))
	case kind == Stock:
		return stockRestore(append(append([]string{"--uri", uri, "--gzip"}, args...), filepath.Join(dir, source)))
	}
	return with(ctx, uri, func(db *mongo.Database) error {
		switch {
		case kind == Ours && work == DumpWork:
			_, err := dump.Run(ctx, db, dump.Options{Root: dir, Name: source})
			return err
		case kind == Ours:
			return stage(ctx, db, filepath.Join(dir, source))
		case kind == Least && work == DumpWork:
			return leastDump(ctx, db)
		case kind == Least:
			return leastRestore(ctx, db, filepath.Join(dir, source))
		}
		return fmt.Errorf("no tool %q", kind)
	})
}

// source is the name of the backup of ours that every tool restores.
const source = "source"

// stage is our restore without its renames, which cost nothing that grows with the data.
func stage(ctx context.Context, db *mongo.Database, dir string) error {
	m, err := backup.ReadManifest(dir)
	if err != nil {
		return err
	}
	lease, err := restore.Acquire(ctx, db, restore.Holder{Owner: "bench", Run: "one", Purpose: "bench"}, true)
	if err != nil {
		return err
	}
	journal, err := os.MkdirTemp("", "runbook-bench-journal-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(journal) }()
	_, err = restore.Stage(ctx, restore.StageOptions{DB: db, Source: backup.Source{Dir: dir, Manifest: m}, Lease: lease, Dir: journal})
	return errors.Join(err, lease.Release(ctx))
}

func stockDump(args []string) error {
	log.SetWriter(io.Discard)
	o, err := mongodump.ParseOptions(args, "bench", "")
	if err != nil {
		return err
	}
	d := mongodump.MongoDump{ToolOptions: o.ToolOptions, InputOptions: o.InputOptions, OutputOptions: o.OutputOptions}
	if err := d.Init(); err != nil {
		return err
	}
	return d.Dump()
}

func stockRestore(args []string) error {
	log.SetWriter(io.Discard)
	o, err := mongorestore.ParseOptions(args, "bench", "")
	if err != nil {
		return err
	}
	r, err := mongorestore.New(o)
	if err != nil {
		return err
	}
	defer r.Close()
	result := r.Restore()
	if result.Err == nil && result.Failures > 0 {
		return fmt.Errorf("%d documents were not restored", result.Failures)
	}
	return result.Err
}

// processor is how many seconds of processor time this process has used, the system's work for it included.
func processor() (float64, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("getrusage: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds(), nil
}

// resident reads a size of this process's memory, in MiB: VmRSS is what it has now, VmHWM the most that it ever had. 0 where the
// system does not tell.
func resident(field string) (float64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(status), field+":")
	if !ok {
		return 0, fmt.Errorf("/proc/self/status has no %s", field)
	}
	var kib float64
	if _, err := fmt.Sscanf(rest, "%f kB", &kib); err != nil {
		return 0, fmt.Errorf("read %s: %w", field, err)
	}
	return kib / 1024, nil
}

func sizeOf(dir string) (size int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}
