package mongotest

import (
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// buckets is where a time series keeps its measurements.
func (c *collection) buckets() namespace { return namespace{c.ns.db, bucketsPrefix + c.ns.coll} }

const bucketsPrefix = "system.buckets."

// logical is the namespace that a client of a version means which has no collections of buckets: with rawData, the buckets of a time series.
func (s *Server) logical(ns namespace, raw bool) (namespace, error) {
	if strings.HasPrefix(ns.coll, bucketsPrefix) {
		return ns, errorf(InvalidNamespace, "%s: there are no collections of buckets; time series show theirs with rawData", ns)
	}
	if !raw {
		return ns, nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if c := s.collection(ns); c != nil && c.kind == typeTimeseries {
		return c.buckets(), nil
	}
	return ns, nil
}

// hides tells whether a collection is none that a client knows of.
func (s *Server) hides(c *collection) bool {
	return s.version.holdsBuckets() && strings.HasPrefix(c.ns.coll, bucketsPrefix)
}

func timeseriesDefaults(options document) document {
	spec := subdocument(options, "timeseries")
	full := build(func(dst []byte) []byte {
		dst = appendElements(dst, spec)
		_, custom := lookup(spec, "bucketMaxSpanSeconds")
		if text(spec, "granularity") == "" && !custom {
			dst = bsoncore.AppendStringElement(dst, "granularity", "seconds")
		}
		if !custom {
			dst = bsoncore.AppendInt32Element(dst, "bucketMaxSpanSeconds", spanOf(text(spec, "granularity")))
		}
		return dst
	})
	out, _ := setPath(options, []string{"timeseries"}, value{Type: bsoncore.TypeEmbeddedDocument, Data: full})
	return out // a single key always fits
}

// seriesIndex is the index that servers make by themselves from 6.3 on for a time series with a meta field. Indexes of a time series are kept beside
// it as they were specified; the real server keeps them on the buckets, and shows them so.
func (s *Server) seriesIndex(options document) []*index {
	spec := subdocument(options, "timeseries")
	meta, at := text(spec, "metaField"), text(spec, "timeField")
	if meta == "" || !s.version.atLeast(6, 3, 0) {
		return nil
	}
	key := build(func(dst []byte) []byte {
		return bsoncore.AppendInt32Element(bsoncore.AppendInt32Element(dst, meta, 1), at, 1)
	})
	name := meta + "_1_" + at + "_1"
	return []*index{{name: name, key: key, spec: build(func(dst []byte) []byte {
		dst = bsoncore.AppendInt32Element(dst, "v", 2)
		dst = bsoncore.AppendDocumentElement(dst, "key", key)
		return bsoncore.AppendStringElement(dst, "name", name)
	})}}
}

func spanOf(granularity string) int32 {
	switch granularity {
	case "hours":
		return 2_592_000
	case "minutes":
		return 86_400
	default:
		return 3_600
	}
}

func bucketOptions(options document) document {
	return build(func(dst []byte) []byte {
		if v, ok := lookup(options, "expireAfterSeconds"); ok {
			dst = bsoncore.AppendValueElement(dst, "expireAfterSeconds", v)
		}
		dst = bsoncore.AppendBooleanElement(dst, "clusteredIndex", true)
		return bsoncore.AppendDocumentElement(dst, "timeseries", subdocument(options, "timeseries"))
	})
}

// bucket makes a bucket of one measurement, in the uncompressed form.
func bucket(options, measurement document) (document, error) {
	spec := subdocument(options, "timeseries")
	timeField, metaField := text(spec, "timeField"), text(spec, "metaField")
	at, _ := lookup(measurement, timeField)
	when, ok := at.TimeOK()
	if !ok {
		return nil, errorf(BadValue, "'%s' must be present and contain a valid BSON UTC datetime value", timeField)
	}
	measurement, err := normalize(measurement)
	if err != nil {
		return nil, err
	}
	columns := without(measurement, metaField)
	return build(func(dst []byte) []byte {
		dst = bsoncore.AppendObjectIDElement(dst, "_id", bson.NewObjectIDFromTimestamp(when))
		control, dst := bsoncore.AppendDocumentElementStart(dst, "control")
		dst = bsoncore.AppendInt32Element(dst, "version", 1)
		dst = bsoncore.AppendDocumentElement(dst, "min", columns)
		dst = end(bsoncore.AppendDocumentElement(dst, "max", columns), control)
		if meta, ok := lookup(measurement, metaField); ok {
			dst = bsoncore.AppendValueElement(dst, "meta", meta)
		}
		data, dst := bsoncore.AppendDocumentElementStart(dst, "data")
		for e := range elements(columns) {
			column, out := bsoncore.AppendDocumentElementStart(dst, e.Key())
			dst = end(bsoncore.AppendValueElement(out, "0", e.Value()), column)
		}
		return end(dst, data)
	}), nil
}

// unpack gives the measurements of buckets.
func unpack(options document, buckets []document) ([]document, error) {
	spec := subdocument(options, "timeseries")
	timeField, metaField := text(spec, "timeField"), text(spec, "metaField")
	var all []document
	for _, b := range buckets {
		data := subdocument(b, "data")
		times, ok := lookup(data, timeField)
		if !ok || times.Type != bsoncore.TypeEmbeddedDocument {
			return nil, unsupported("reading measurements from compressed buckets")
		}
		meta, hasMeta := lookup(b, "meta")
		for i := range countElements(document(times.Data)) {
			all = append(all, build(func(dst []byte) []byte {
				dst = appendColumn(dst, data, timeField, i)
				if hasMeta {
					dst = bsoncore.AppendValueElement(dst, metaField, meta)
				}
				for column := range elements(data) {
					if column.Key() != timeField {
						dst = appendColumn(dst, data, column.Key(), i)
					}
				}
				return dst
			}))
		}
	}
	return all, nil
}

func appendColumn(dst []byte, data document, name string, i int) []byte {
	if v, ok := lookup(subdocument(data, name), strconv.Itoa(i)); ok {
		return bsoncore.AppendValueElement(dst, name, v)
	}
	return dst
}
