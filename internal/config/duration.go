package config

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

var errDuration = errors.New("expected a duration such as 90s, 15m, 4h or 7d")

// ParseDuration reads a duration such as 90s, 4h, 7d or 1d12h. A day has 24 hours. None is negative.
func ParseDuration(s string) (Duration, error) {
	var days time.Duration
	rest := s
	if whole, after, found := strings.Cut(s, "d"); found {
		n, err := strconv.ParseUint(whole, 10, 16)
		if err != nil {
			return 0, errDuration
		}
		days, rest = time.Duration(n)*day, after
		if rest == "" {
			return Duration(days), nil
		}
	}
	d, err := time.ParseDuration(rest)
	// A bare 0, or a sign after the days, is what time.ParseDuration takes and a person would not write.
	if err != nil || d < 0 || rest[0] == '+' || rest[0] == '-' || strings.TrimLeft(rest, "0") == "" {
		return 0, errDuration
	}
	return Duration(days + d), nil
}

// String writes a duration as a person would: 7d, 24h, 1h30m.
func (d Duration) String() string {
	t := time.Duration(d)
	if t >= 2*day && t%day == 0 {
		return strconv.FormatInt(int64(t/day), 10) + "d"
	}
	s := t.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText writes a duration as String does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := ParseDuration(string(text))
	if err == nil {
		*d = v
	}
	return err
}
