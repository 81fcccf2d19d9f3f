package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/battwheels/runbook/internal/words"
	"github.com/battwheels/runbook/sandbox/bench"
)

func (a *app) bench() *cobra.Command {
	var asJSON bool
	var o bench.Options
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure the data engine beside mongodump and mongorestore",
		Long: `Measure the data engine beside the stock mongodump and mongorestore: the same data,
the same server, in turn, each run a process of its own. The server is in memory and
throws restored documents away, so that the tools are measured and not a disk; a
second one takes 30 µs for each document, a third is FerretDB. Beside them runs the
least that the work can be: cursors and gzip, or gunzip and raw inserts, with no
proof, no index, and no care for errors.

The numbers that count are the ratios, medians of the rounds. It takes minutes, and
needs 3 GB of memory and 4 GB of disk.`,
		Example: `  go run ./sandbox bench
  go run ./sandbox bench --shape "220 collections" --server "in memory" --rounds 5
  go run ./sandbox bench --json 2>/dev/null | jq '.measured[] | {shape, work, dumpRatio}'`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Tell = func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), text) }
			o.Scale = a.world.Scale
			var printed error
			if !asJSON {
				o.Finished = func(s bench.Series) { printed = errors.Join(printed, benchTable(cmd.OutOrStdout(), s)) }
			}
			r, err := bench.Run(cmd.Context(), o)
			if err != nil || !asJSON {
				return stoppedByHand(cmd.Context(), errors.Join(err, printed))
			}
			e := json.NewEncoder(cmd.OutOrStdout())
			e.SetIndent("", "  ")
			return e.Encode(r)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object; progress goes to standard error")
	c.Flags().StringArrayVar(&o.Shapes, "shape", nil, "only this shape; may be repeated")
	c.Flags().StringArrayVar(&o.Servers, "server", nil, `only this server ("in memory", "30 µs a document", "FerretDB"); may be repeated`)
	c.Flags().StringArrayVar(&o.Tools, "tool", nil, "only this tool; may be repeated")
	c.Flags().IntVar(&o.Rounds, "rounds", 3, "how often each tool runs")
	return c
}

// benchTable prints one series as Markdown that fits a terminal of 80 columns: docs/benchmarks.md has it as it is printed.
func benchTable(out io.Writer, m bench.Series) error {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s: %s, %s\n\n%s documents in %s, %.0f MB\n\n", strings.ToUpper(string(m.Work[:1]))+string(m.Work[1:]), m.Shape, m.Server,
		words.Number(m.Documents), collections(m.Collections), float64(m.Bytes)/1e6)
	fmt.Fprintf(&b, "| %-22s | %7s | %5s | %5s | %8s | %8s |\n|%s|%s:|%s:|%s:|%s:|%s:|\n", "", "seconds", "CPU s", "MB/s", "peak MiB", "files MB",
		strings.Repeat("-", 24), strings.Repeat("-", 8), strings.Repeat("-", 6), strings.Repeat("-", 6), strings.Repeat("-", 9), strings.Repeat("-", 9))
	for _, t := range m.Tools {
		size := ""
		if t.Size > 0 {
			size = fmt.Sprintf("%.1f", float64(t.Size)/1e6)
		}
		fmt.Fprintf(&b, "| %-22s | %7.2f | %5.1f | %5.0f | %8.0f | %8s |\n", t.Name, t.Seconds, t.CPU, t.Megabytes, t.PeakMiB, size)
	}
	var ratios []string
	for _, x := range []struct {
		ratio  float64
		format string
	}{
		{cmp.Or(m.DumpRatio, m.RestoreRatio), "%.1f× as fast as stock"}, {m.TunedRatio, "%.1f× as its best settings"},
		{100 * m.LimitRatio, "%.0f %% of the limit"}, {m.SizeRatio, "%.2f× its size"},
	} {
		if x.ratio > 0 {
			ratios = append(ratios, fmt.Sprintf(x.format, x.ratio))
		}
	}
	if len(ratios) > 0 {
		fmt.Fprintf(&b, "\n**%s**\n\n", strings.Join(ratios, ", "))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func collections(n int) string {
	if n == 1 {
		return "one collection"
	}
	return words.Number(int64(n)) + " collections"
}
