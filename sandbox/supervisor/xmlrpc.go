package supervisor

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// Faults of supervisor's XML-RPC.
const (
	unknownMethod       = 1
	incorrectParameters = 2
	shutdownState       = 6
	badName             = 10
	failed              = 30
	abnormalTermination = 40
	spawnError          = 50
	alreadyStarted      = 60
	notRunning          = 70
)

// fault is an error as XML-RPC tells it.
type fault struct {
	code int
	text string
}

func (f fault) Error() string { return f.text }

// call is one method call.
type call struct {
	Method string  `xml:"methodName"`
	Params []value `xml:"params>param>value"`
}

// value is a parameter. A string may come without its element.
type value struct {
	Text    string  `xml:",chardata"`
	String  *string `xml:"string"`
	Boolean *string `xml:"boolean"`
	Int     *string `xml:"int"`
	I4      *string `xml:"i4"`
}

// text returns a string parameter.
func (v value) text() (string, bool) {
	if v.Boolean != nil || v.Int != nil || v.I4 != nil {
		return "", false
	}
	if v.String != nil {
		return *v.String, true
	}
	return v.Text, true
}

// truth returns a boolean parameter.
func (v value) truth() (value, ok bool) {
	if v.Boolean == nil {
		return false, false
	}
	b, err := strconv.ParseBool(strings.TrimSpace(*v.Boolean))
	return b, err == nil
}

// member is one member of a struct, in order.
type member struct {
	name  string
	value any
}

const (
	maxCall = 1 << 20
	head    = "<?xml version='1.0'?>\n<methodResponse>\n"
	tail    = "</methodResponse>\n"
)

// ServeHTTP answers one call.
func (s *Supervisor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/RPC2" {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodPost {
		http.Error(w, "POST only", http.StatusBadRequest)
		return
	}
	var c call
	if err := xml.NewDecoder(io.LimitReader(r.Body, maxCall)).Decode(&c); err != nil {
		http.Error(w, "no method call: "+err.Error(), http.StatusBadRequest)
		return
	}
	result, err := s.answer(r, c)
	w.Header().Set("Content-Type", "text/xml")
	var b strings.Builder
	b.WriteString(head)
	if err != nil {
		f, ok := errors.AsType[fault](err)
		if !ok {
			f = fault{failed, "FAILED: " + err.Error()}
		}
		b.WriteString("<fault>")
		encode(&b, []member{{"faultCode", f.code}, {"faultString", f.text}})
		b.WriteString("</fault>\n")
	} else {
		b.WriteString("<params><param>")
		encode(&b, result)
		b.WriteString("</param></params>\n")
	}
	b.WriteString(tail)
	_, _ = io.WriteString(w, b.String())
}

// encode writes what the answers here are made of.
func encode(b *strings.Builder, v any) {
	b.WriteString("<value>")
	switch v := v.(type) {
	case string:
		b.WriteString("<string>")
		_ = xml.EscapeText(b, []byte(v)) // a strings.Builder never fails
		b.WriteString("</string>")
	case bool:
		if v {
			b.WriteString("<boolean>1</boolean>")
		} else {
			b.WriteString("<boolean>0</boolean>")
		}
	case int:
		fmt.Fprintf(b, "<int>%d</int>", v)
	case []member:
		b.WriteString("<struct>")
		for _, m := range v {
			fmt.Fprintf(b, "<member><name>%s</name>", m.name)
			encode(b, m.value)
			b.WriteString("</member>")
		}
		b.WriteString("</struct>")
	case [][]member:
		b.WriteString("<array><data>")
		for _, m := range v {
			encode(b, m)
		}
		b.WriteString("</data></array>")
	case []string:
		b.WriteString("<array><data>")
		for _, m := range v {
			encode(b, m)
		}
		b.WriteString("</data></array>")
	}
	b.WriteString("</value>")
}
