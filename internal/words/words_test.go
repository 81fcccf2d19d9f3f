package words

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDurationsAsPeopleSayThem(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                                     "less than a second",
		time.Second:                           "1 second",
		59*time.Second + 600*time.Millisecond: "1 minute",
		73 * time.Minute:                      "1 hour 13 minutes",
		2 * time.Hour:                         "2 hours",
		24*time.Hour + time.Minute:            "1 day",
		52 * time.Hour:                        "2 days 4 hours",
		-90 * time.Second:                     "1 minute 30 seconds",
	} {
		require.Equal(t, want, Duration(d))
	}
}

func TestDurationsInBrief(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "< 1 s", 5*time.Minute + 5*time.Second: "5 min 5 s", 73 * time.Minute: "1 h 13 min", 52 * time.Hour: "2 d 4 h",
	} {
		require.Equal(t, want, Brief(d))
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567", math.MinInt64: "-9,223,372,036,854,775,808",
	} {
		require.Equal(t, want, Number(n))
	}
	require.Equal(t, "1 document", Plural(1, "document", "documents"))
	require.Equal(t, "0 documents", Plural(0, "document", "documents"))
}

func TestTitles(t *testing.T) {
	for in, want := range map[string]string{"": "", "rolled-back": "Rolled back", "Recovered": "Recovered", "über": "Über"} {
		require.Equal(t, want, Title(in))
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 bytes", 1: "1 byte", 999: "999 bytes", 1000: "1.0 kB", 11_812_000: "11.8 MB", 999_960_000: "1.0 GB", math.MaxInt64: "9.2 EB",
	} {
		require.Equal(t, want, Bytes(n))
	}
}

func TestMomentsAreUTC(t *testing.T) {
	india := time.FixedZone("IST", 5*3600+1800)
	from := time.Date(2026, 2, 24, 4, 30, 0, 0, india)
	require.Equal(t, "23 February 2026, 23:00 UTC", When(from))
	require.Equal(t, "23 February 2026, 23:00 to 23:10 UTC", Window(from, from.Add(10*time.Minute)))
	require.Equal(t, "23 February 2026, 23:00 to 24 February 2026, 00:10 UTC", Window(from, from.Add(70*time.Minute)))
}
