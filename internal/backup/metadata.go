package backup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Metadata is the content of a collection's metadata.json.
type Metadata struct {
	Collection string
	Type       Type
	UUID       string          // hex, without dashes; empty where the server has none
	Options    json.RawMessage // canonical extended JSON; nil where there are none
	Indexes    []Index
}

// metadataJSON has the fields in the order in which mongodump writes them.
type metadataJSON struct {
	Options    json.RawMessage   `json:"options,omitempty"`
	Indexes    []json.RawMessage `json:"indexes"`
	UUID       string            `json:"uuid,omitempty"`
	Collection string            `json:"collectionName"`
	Type       Type              `json:"type,omitempty"`
}

// Encode returns the bytes of metadata.json, uncompressed, as mongodump writes them.
func (m Metadata) Encode() ([]byte, error) {
	j := metadataJSON{Options: m.Options, Indexes: []json.RawMessage{}, UUID: m.UUID, Collection: m.Collection, Type: m.Type}
	for _, i := range m.Indexes {
		j.Indexes = append(j.Indexes, i.Spec)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(j); err != nil {
		return nil, fmt.Errorf("metadata of %s: %w", m.Collection, err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// DecodeMetadata reads a metadata.json, of mongodump's old and new versions alike. Options and indexes come back as
// compact canonical extended JSON, whatever form they had.
func DecodeMetadata(b []byte) (Metadata, error) {
	var raw bson.Raw
	if err := bson.UnmarshalExtJSON(b, true, &raw); err != nil {
		return Metadata{}, fmt.Errorf("it is not extended JSON: %w", err)
	}
	// What the driver does not notice.
	switch {
	case !utf8.Valid(b):
		return Metadata{}, errors.New("it is not UTF-8")
	case !json.Valid(b):
		return Metadata{}, errors.New("it goes on after its JSON object")
	}
	var m Metadata
	elements, err := raw.Elements()
	if err != nil {
		return Metadata{}, err
	}
	for _, e := range elements {
		v := e.Value()
		var ok bool
		switch e.Key() {
		case "options":
			var options bson.Raw
			if options, ok = v.DocumentOK(); ok {
				m.Options, err = ToJSON(options)
			}
		case "indexes":
			var list bson.RawArray
			if list, ok = v.ArrayOK(); ok {
				m.Indexes, err = indexesOf(list)
			}
		case "uuid":
			m.UUID, ok = v.StringValueOK()
		case "collectionName":
			m.Collection, ok = v.StringValueOK()
		case "type":
			var t string
			t, ok = v.StringValueOK()
			m.Type = Type(t)
		default:
			ok = true
		}
		if err != nil {
			return Metadata{}, fmt.Errorf("%s: %w", e.Key(), err)
		}
		if !ok {
			return Metadata{}, fmt.Errorf("%s has an unexpected type (%s)", e.Key(), v.Type)
		}
	}
	if bytes.Equal(m.Options, []byte("{}")) {
		m.Options = nil
	}
	if m.Type == "" {
		m.Type = TypeCollection
		if options, err := ToBSON(m.Options); err == nil {
			if _, err := options.LookupErr("viewOn"); err == nil {
				m.Type = TypeView
			}
		}
	}
	switch m.Type {
	case TypeCollection, TypeView, TypeTimeseries:
		return m, nil
	default:
		return Metadata{}, fmt.Errorf("unknown type of collection %q", m.Type)
	}
}

func indexesOf(list bson.RawArray) ([]Index, error) {
	values, err := list.Values()
	if err != nil {
		return nil, err
	}
	var indexes []Index
	for _, v := range values {
		spec, ok := v.DocumentOK()
		if !ok {
			return nil, errors.New("an index specification is not a document")
		}
		index, err := NewIndex(spec)
		if err != nil {
			return nil, err
		}
		indexes = append(indexes, index)
	}
	return indexes, nil
}

// NewIndex keeps an index specification as listIndexes gave it.
func NewIndex(spec bson.Raw) (Index, error) {
	v, err := spec.LookupErr("name")
	if err != nil {
		return Index{}, fmt.Errorf("an index specification has no name: %s", spec)
	}
	name, ok := v.StringValueOK()
	if !ok {
		return Index{}, fmt.Errorf("an index specification's name is not a string: %s", spec)
	}
	j, err := ToJSON(spec)
	if err != nil {
		return Index{}, fmt.Errorf("index %s: %w", name, err)
	}
	return Index{Name: name, Spec: j}, nil
}

// ToJSON writes a document as compact canonical extended JSON, key order kept, and makes sure that ToBSON gives the
// same bytes back.
func ToJSON(doc bson.Raw) (json.RawMessage, error) {
	j, err := bson.MarshalExtJSON(doc, true, false)
	if err != nil {
		return nil, fmt.Errorf("as extended JSON: %w", err)
	}
	if again, err := ToBSON(j); err != nil || !bytes.Equal(again, doc) {
		return nil, fmt.Errorf("it cannot be written as extended JSON without loss: %s", j)
	}
	return j, nil
}

// ToBSON reads a document from extended JSON, key order kept. No JSON is the empty document.
func ToBSON(j json.RawMessage) (bson.Raw, error) {
	if len(j) == 0 {
		return bson.Raw{5, 0, 0, 0, 0}, nil
	}
	var doc bson.Raw
	if err := bson.UnmarshalExtJSON(j, true, &doc); err != nil {
		return nil, fmt.Errorf("from extended JSON: %w", err)
	}
	return doc, nil
}
