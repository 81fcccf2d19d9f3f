package undelete

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
)

// lookup returns the value at a dotted path. Paths through arrays have none.
func lookup(doc bson.Raw, path string) (bson.RawValue, bool) {
	v, err := doc.LookupErr(strings.Split(path, ".")...)
	return v, err == nil
}

// text is a value as audit logs and people write it. Only values that can name something have one.
func text(v bson.RawValue) (string, bool) {
	switch v.Type {
	case bson.TypeString:
		s, ok := v.StringValueOK()
		return strings.Clone(s), ok && s != ""
	case bson.TypeObjectID:
		id, ok := v.ObjectIDOK()
		return id.Hex(), ok
	case bson.TypeInt32, bson.TypeInt64, bson.TypeDouble:
		if n, ok := whole(v); ok {
			return strconv.FormatInt(n, 10), true
		}
		return v.String(), true
	case bson.TypeBinary, bson.TypeDateTime, bson.TypeDecimal128, bson.TypeBoolean, bson.TypeTimestamp:
		return v.String(), true
	default:
		return "", false
	}
}

func textAt(doc bson.Raw, path string) (string, bool) {
	v, ok := lookup(doc, path)
	if !ok {
		return "", false
	}
	return text(v)
}

// valuesOf are the values that a text may stand for.
func valuesOf(t string) []any {
	all := []any{t}
	if id, err := bson.ObjectIDFromHex(t); err == nil {
		all = append(all, id)
	}
	if n, err := strconv.ParseInt(t, 10, 64); err == nil {
		all = append(all, n)
	}
	return all
}

func whole(v bson.RawValue) (int64, bool) {
	switch v.Type {
	case bson.TypeInt32:
		return int64(v.Int32()), true
	case bson.TypeInt64:
		return v.Int64(), true
	case bson.TypeDouble:
		f := v.Double()
		return int64(f), f == math.Trunc(f) && math.Abs(f) < 1<<53
	default:
		return 0, false
	}
}

// hashOf identifies a value as servers do: 1 and 1.0 are the same _id.
func hashOf(v bson.RawValue) backup.Hash {
	var b [64]byte
	if n, ok := whole(v); ok {
		return backup.HashOf(binary.LittleEndian.AppendUint64(append(b[:0], byte(bson.TypeInt64)), uint64(n)))
	}
	return backup.HashOf(append(append(b[:0], byte(v.Type)), v.Value...))
}

// contentOf is the hash of a document's bytes, in hex.
func contentOf(doc bson.Raw) string {
	h := backup.HashOf(doc)
	return fmt.Sprintf("%016x%016x", h.Hi, h.Lo)
}

// encodeID writes an _id as {"_id": …} in canonical extended JSON, or as a string of base64 where that would lose
// something.
func encodeID(v bson.RawValue) (json.RawMessage, error) {
	raw, err := bson.Marshal(bson.D{{Key: "_id", Value: v}})
	if err != nil {
		return nil, fmt.Errorf("an _id: %w", err)
	}
	if j, err := backup.ToJSON(raw); err == nil {
		return j, nil
	}
	return json.Marshal(base64.StdEncoding.EncodeToString(raw))
}

func decodeID(j json.RawMessage) (bson.RawValue, error) {
	var raw bson.Raw
	if len(j) > 0 && j[0] == '"' {
		var text string
		if err := json.Unmarshal(j, &text); err != nil {
			return bson.RawValue{}, err
		}
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return bson.RawValue{}, err
		}
		raw = b
	} else {
		var err error
		if raw, err = backup.ToBSON(j); err != nil {
			return bson.RawValue{}, err
		}
	}
	v, err := raw.LookupErr("_id")
	if err != nil {
		return bson.RawValue{}, errors.New("it has no _id")
	}
	return v, nil
}
