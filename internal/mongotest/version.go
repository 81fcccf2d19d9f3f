package mongotest

import (
	"fmt"
	"strconv"
	"strings"
)

type version struct{ major, minor, patch int }

func parseVersion(text string) (version, error) {
	var v version
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return v, fmt.Errorf("server version %q: want three numbers, such as %s", text, DefaultVersion)
	}
	for i, p := range []*int{&v.major, &v.minor, &v.patch} {
		n, err := strconv.Atoi(parts[i])
		if err != nil || n < 0 {
			return v, fmt.Errorf("server version %q: want three numbers, such as %s", text, DefaultVersion)
		}
		*p = n
	}
	if v.atLeast(4, 4, 0) {
		return v, nil
	}
	return v, fmt.Errorf("server version %q: 4.4.0 is the oldest that is imitated", text)
}

func (v version) String() string { return fmt.Sprintf("%d.%d.%d", v.major, v.minor, v.patch) }

func (v version) atLeast(major, minor, patch int) bool {
	if v.major != major {
		return v.major > major
	}
	if v.minor != minor {
		return v.minor > minor
	}
	return v.patch >= patch
}

func (v version) wire() int32 {
	switch {
	case v.atLeast(8, 2, 0):
		return 27
	case v.major >= 8:
		return 25
	case v.major == 7:
		return 21
	case v.major == 6:
		return 17
	case v.major == 5:
		return 13
	default:
		return 9
	}
}

// holdsBuckets tells whether time series are collections that hold their buckets themselves, and show them to who asks with rawData
// (DRIVERS-3064). Before, they are views of collections of buckets.
func (v version) holdsBuckets() bool { return v.atLeast(8, 3, 0) }

// knowsEmptyTimestamps tells whether insert and update take bypassEmptyTsReplacement. It came with 8.1 and was ported
// back to these releases (SERVER-88750).
func (v version) knowsEmptyTimestamps() bool {
	switch v.major {
	case 8:
		return v.atLeast(8, 0, 1)
	case 7:
		return v.atLeast(7, 0, 15)
	case 6:
		return v.atLeast(6, 0, 19)
	case 5:
		return v.atLeast(5, 0, 30)
	default:
		return v.major > 8
	}
}
