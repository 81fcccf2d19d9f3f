package activities

import (
	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/dump"
)

// DumpOptions are the options that a target's policy sets for a dump of this kind; root and name stay to be said. In an
// incident every minute counts, and only the primary has what was written last: no limit of speed and no read preference
// holds there.
func DumpOptions(b config.Backup, kind backup.Kind) dump.Options {
	o := dump.Options{
		Kind: kind, Compression: b.Compression, Level: b.Level, Parallel: b.Parallel, Memory: int64(b.MemoryMB) << 20, Tool: Tool,
		ReadPreference: b.ReadPreference, DocumentsPerSecond: b.DocumentsPerSecond, BytesPerSecond: b.BytesPerSecond,
	}
	if kind == backup.Emergency || kind == backup.Safety {
		o.ReadPreference, o.DocumentsPerSecond, o.BytesPerSecond = "", 0, 0
	}
	return o
}
