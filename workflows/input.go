package workflows

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// decodeStrict reads one JSON object that a person typed: an unknown field is refused with the list of the right ones,
// because a misspelt one would otherwise run with the default. null and {} mean all defaults.
func decodeStrict(b []byte, into any) error {
	b = bytes.TrimSpace(b)
	if bytes.Equal(b, []byte("null")) {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		return nil
	}
	valid := strings.Join(fieldsOf(reflect.TypeOf(into).Elem()), ", ")
	if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return fmt.Errorf("input has no field %s; the fields are: %s", field, valid)
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if wrong.Field == "" {
			return fmt.Errorf("input must be one JSON object, not a %s; the fields are: %s", wrong.Value, valid)
		}
		return fmt.Errorf("input field %q must be a %s, not a %s", wrong.Field, kindName(wrong.Type), wrong.Value)
	}
	return fmt.Errorf("input: %w; the fields are: %s", err, valid)
}

func fieldsOf(t reflect.Type) []string {
	var names []string
	for f := range t.Fields() {
		if f.Anonymous && f.Tag.Get("json") == "" {
			names = append(names, fieldsOf(f.Type)...)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}

func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "string"
	default:
		return t.Kind().String()
	}
}

// Since is a moment that a person types, as RFC 3339; empty means unknown.
type Since string

// Check returns what is wrong with it, where it is no moment.
func (s Since) Check(field string) error {
	_, err := s.named(field)
	return err
}

// time returns the moment, zero where none is given.
func (s Since) time() (time.Time, error) { return s.named("since") }

// named is time, of the field of that name.
func (s Since) named(field string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, string(s))
	if err != nil {
		return time.Time{}, fmt.Errorf("input field %q must be a moment like 2026-02-24T03:12:00Z, not %q", field, string(s))
	}
	return t.UTC(), nil
}
