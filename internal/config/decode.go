package config

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// defaulter is a type of the configuration that knows its own defaults. They are set before the file is read into it.
type defaulter interface{ defaults() }

// decoder turns the tree of a YAML document into the configuration, by the types' own fields. The library's decoder would
// do it, but names Go's types in its errors and stops at the first; a person mends a configuration faster with every
// mistake told at once, in the file's own words.
type decoder struct {
	file    string
	dir     string // where relative paths of secrets start
	lenient bool   // a secret without a value is no error yet
	lines   map[string]int
	meant   []string // fields that a misspelt one probably meant: they are not missing
	errs    Errors
}

func (d *decoder) fail(line int, path, reason string, args ...any) {
	d.errs = append(d.errs, &FieldError{File: d.file, Line: line, Field: path, Reason: fmt.Sprintf(reason, args...)})
}

// line is where a field stands, or where the nearest thing around it does.
func (d *decoder) line(path string) int {
	for path != "" {
		if n, ok := d.lines[path]; ok {
			return n
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return d.lines[""]
}

func lineOf(n ast.Node) int {
	if n == nil || n.GetToken() == nil {
		return 0
	}
	return n.GetToken().Position.Line
}

// setDefaults sets the defaults of a value and of everything that stands in it by value.
func setDefaults(v reflect.Value) {
	if v.Kind() != reflect.Struct || !v.CanAddr() {
		return
	}
	for i := range v.NumField() {
		if f := v.Field(i); f.CanSet() {
			setDefaults(f)
		}
	}
	if t, ok := v.Addr().Interface().(defaulter); ok {
		t.defaults()
	}
}

// decode reads a node into v. What is wrong is noted, and reading goes on behind it.
func (d *decoder) decode(n ast.Node, v reflect.Value, path string) {
	d.lines[path] = lineOf(n)
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		d.fail(lineOf(n), path, "anchors, aliases and tags are not read here; write the value out")
		return
	case *ast.NullNode:
		d.fail(lineOf(n), path, "is empty; expected %s. Remove the line where it is not wanted", kindOf(v.Type()))
		return
	}
	switch p := v.Addr().Interface().(type) {
	case *Secret:
		d.secret(n, p, path)
		return
	case *Duration:
		d.duration(n, p, path)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		setDefaults(v.Elem())
		d.decode(n, v.Elem(), path)
	case reflect.Struct:
		d.object(n, v, path)
	case reflect.Map:
		d.names(n, v, path)
	case reflect.Slice:
		d.list(n, v, path)
	default:
		d.scalar(n, v, path)
	}
}

// object reads a mapping whose keys are the fields of a struct.
func (d *decoder) object(n ast.Node, v reflect.Value, path string) {
	fields := map[string]int{}
	var valid []string
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("yaml")
		fields[name] = i
		valid = append(valid, name)
	}
	slices.Sort(valid)
	d.mapping(n, v.Type(), path, func(key ast.MapKeyNode, name string, value ast.Node) {
		i, known := fields[name]
		if !known {
			hint := ""
			if near := nearest(name, valid); near != "" {
				hint = " did you mean " + near + "?"
				d.meant = append(d.meant, join(path, near))
			}
			d.fail(lineOf(key), join(path, name), "there is no such field;%s valid here: %s", hint, strings.Join(valid, ", "))
			return
		}
		d.decode(value, v.Field(i), join(path, name))
	})
}

// names reads a mapping whose keys are free: the names of targets, the paths of expected words.
func (d *decoder) names(n ast.Node, v reflect.Value, path string) {
	v.Set(reflect.MakeMap(v.Type()))
	d.mapping(n, v.Type(), path, func(_ ast.MapKeyNode, name string, value ast.Node) {
		e := reflect.New(v.Type().Elem()).Elem()
		setDefaults(e)
		if text, ok := plain(value); ok && e.Kind() == reflect.String {
			// true and 5 are words to compare with here, as good as any other.
			d.lines[join(path, name)] = lineOf(value)
			e.SetString(text)
		} else {
			d.decode(value, e, join(path, name))
		}
		v.SetMapIndex(reflect.ValueOf(name), e)
	})
}

// mapping calls each with every key of a mapping once.
func (d *decoder) mapping(n ast.Node, t reflect.Type, path string, each func(key ast.MapKeyNode, name string, value ast.Node)) {
	var values []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		values = m.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{m}
	default:
		d.fail(lineOf(n), path, "is %s; expected %s", describe(n), kindOf(t))
		return
	}
	seen := map[string]int{}
	for _, kv := range values {
		if _, merge := kv.Key.(*ast.MergeKeyNode); merge {
			d.fail(lineOf(kv.Key), path, "anchors, aliases and tags are not read here; write the value out")
			continue
		}
		name, ok := plain(kv.Key)
		if !ok || name == "" {
			d.fail(lineOf(kv.Key), path, "has a key that is not a plain word")
			continue
		}
		if first, twice := seen[name]; twice {
			d.fail(lineOf(kv.Key), join(path, name), "stands here a second time; the first is on line %d", first)
			continue
		}
		seen[name] = lineOf(kv.Key)
		each(kv.Key, name, kv.Value)
		d.lines[join(path, name)] = lineOf(kv.Key)
	}
}

func (d *decoder) list(n ast.Node, v reflect.Value, path string) {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		d.fail(lineOf(n), path, "is %s; expected %s", describe(n), kindOf(v.Type()))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(s.Values), len(s.Values)))
	for i, e := range s.Values {
		setDefaults(v.Index(i))
		d.decode(e, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
}

func (d *decoder) scalar(n ast.Node, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.String:
		switch s := n.(type) {
		case *ast.StringNode:
			v.SetString(s.Value)
			return
		case *ast.LiteralNode:
			v.SetString(s.Value.Value)
			return
		case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
			d.fail(lineOf(n), path, "is %s; expected text: put it in quotes", describe(n))
			return
		}
	case reflect.Bool:
		if b, ok := n.(*ast.BoolNode); ok {
			v.SetBool(b.Value)
			return
		}
	case reflect.Int, reflect.Int64:
		if i, ok := n.(*ast.IntegerNode); ok {
			if whole, fits := integer(i.Value); fits {
				v.SetInt(whole)
				return
			}
		}
	}
	d.fail(lineOf(n), path, "is %s; expected %s", describe(n), kindOf(v.Type()))
}

func integer(v any) (int64, bool) {
	switch i := v.(type) {
	case int64:
		return i, true
	case uint64:
		return int64(i), i <= math.MaxInt64
	default:
		return 0, false
	}
}

func (d *decoder) duration(n ast.Node, v *Duration, path string) {
	text, ok := plain(n)
	if !ok {
		d.fail(lineOf(n), path, "is %s; %v", describe(n), errDuration)
		return
	}
	parsed, err := ParseDuration(text)
	if err != nil {
		d.fail(lineOf(n), path, "is %s; %v", describe(n), err)
		return
	}
	*v = parsed
}

// secret reads ${NAME} or {file: path}. What was written otherwise is never repeated in the error: it may be the secret.
func (d *decoder) secret(n ast.Node, v *Secret, path string) {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		var from struct {
			File string `yaml:"file"`
		}
		before := len(d.errs)
		d.object(n, reflect.ValueOf(&from).Elem(), path)
		switch {
		case len(d.errs) > before:
			return
		case from.File == "":
			d.fail(lineOf(n), path, "names no file; "+secretHint)
			return
		}
		*v = fromFile(d.dir, from.File)
	default:
		text, ok := plain(n)
		if !ok {
			d.fail(lineOf(n), path, "is a secret; "+secretHint)
			return
		}
		if *v, ok = fromEnvironment(text); !ok {
			d.fail(lineOf(n), path, "is a secret and must not stand in this file; "+secretHint)
			return
		}
	}
	if v.err != nil && !d.lenient {
		d.fail(lineOf(n), path, "has no value: %v", v.err)
	}
}

// plain returns the text of a scalar as it was written.
func plain(n ast.Node) (string, bool) {
	switch s := n.(type) {
	case *ast.StringNode:
		return s.Value, true
	case *ast.LiteralNode:
		return s.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return s.GetToken().Value, true
	default:
		return "", false
	}
}

// describe says what stands in the file, as its writer would call it.
func describe(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a group of fields"
	case *ast.SequenceNode:
		return "a list"
	}
	text, ok := plain(n)
	if !ok {
		return n.String()
	}
	if _, isText := n.(*ast.StringNode); isText || text == "" {
		return strconv.Quote(text)
	}
	return text
}

// kindOf says what a field of this type holds.
func kindOf(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Secret]():
		return "a secret's reference (${NAME} or {file: /path})"
	case reflect.TypeFor[Duration]():
		return "a duration such as 90s, 15m, 4h or 7d"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return kindOf(t.Elem())
	case reflect.Struct:
		return "a group of fields"
	case reflect.Map:
		return "a group of names, each with its value"
	case reflect.Slice:
		return "a list"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	default:
		return "text"
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
