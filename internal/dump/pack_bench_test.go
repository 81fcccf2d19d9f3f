package dump

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/internal/backup"
)

// BenchmarkPack compares compressions and levels on one core: the default is measured here.
func BenchmarkPack(b *testing.B) {
	var content []byte
	for _, doc := range records(b, 4000) {
		if len(content)+len(doc) > backup.MemberSize {
			break
		}
		content = append(content, doc...)
	}
	for _, compression := range []string{Gzip, Zstd} {
		for _, level := range []int{1, 3, 6, 9} {
			b.Run(fmt.Sprintf("%s-%d", compression, level), func(b *testing.B) {
				o := Options{Compression: compression, Level: level}
				p, err := o.newPacker()
				require.NoError(b, err)
				var out bytes.Buffer
				for b.Loop() {
					require.NoError(b, p.Pack(&out, content))
				}
				b.SetBytes(int64(len(content)))
				b.ReportMetric(100*float64(out.Len())/float64(len(content)), "%size")
			})
		}
	}
}
