package config

import (
	"cmp"
	"encoding"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
)

// loader puts values into fields, one source after the other, and gathers problems.
type loader struct {
	root     field
	problems []Problem
	sources  map[string]Source // by key: where the value in force came from
	name     string            // of the source that is being read
	lines    map[string]int    // by key, if that source is the file
	env      bool              // whether that source is the environment
}

// fail reports a problem of the source that is being read.
func (l *loader) fail(key, text, remedy string) {
	l.problems = append(l.problems, Problem{File: l.name, Line: l.line(key), Key: key, Text: text, Remedy: remedy})
}

// failFinal reports a problem of the value in force, whatever source it came from.
func (l *loader) failFinal(key, text, remedy string) {
	src := l.source(key)
	l.problems = append(l.problems, Problem{File: src.Name, Line: src.Line, Key: key, Text: text, Remedy: remedy})
}

// source returns where the value of a key, or of the list or group that it is in, came from.
func (l *loader) source(key string) Source {
	for key != "" {
		if src, ok := l.sources[key]; ok {
			return src
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	return Source{Name: "default"}
}

// line returns the line of a key, or of what it is in.
func (l *loader) line(key string) int {
	for {
		if n, ok := l.lines[key]; ok || key == "" {
			return n
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
}

// table puts a TOML table into a group.
func (l *loader) table(group field, table map[string]any) {
	fields := group.fields()
	for _, name := range sortedKeys(table) {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		if i < 0 {
			l.unknown(group, join(group.key, name))
			continue
		}
		l.value(fields[i], table[name])
	}
}

func sortedKeys(table map[string]any) []string {
	keys := make([]string, 0, len(table))
	for key := range table {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// unknown reports a key that no field has, with the likeliest correction.
func (l *loader) unknown(group field, key string) {
	name := strings.TrimPrefix(key[len(group.key):], ".")
	var names []string
	for _, f := range group.fields() {
		names = append(names, f.name)
	}
	elsewhere := ""
	for _, f := range l.root.leaves() {
		if f.name == name && elsewhere == "" || strings.ReplaceAll(f.key, ".", "_") == name {
			elsewhere = f.key
		}
	}
	near := nearest(name, names)
	switch {
	case elsewhere != "":
		near = elsewhere
	case near != "":
		near = join(group.key, near)
	default:
		l.fail(key, "unknown key", "remove it; known here: "+strings.Join(names, ", "))
		return
	}
	if l.env {
		near = envPrefix + strings.ToUpper(strings.ReplaceAll(near, ".", "__"))
	}
	l.fail(key, "unknown key", fmt.Sprintf("did you mean %q?", near))
}

// text puts a value from the environment or the command line into the field of a dotted key.
func (l *loader) text(key, text string) {
	f, ok := l.root.find(key)
	switch {
	case !ok:
		group := l.root
		for rest := key; ; {
			name, tail, nested := strings.Cut(rest, ".")
			inner, found := group.find(name)
			if !nested || !found || !inner.group() {
				break
			}
			group, rest = inner, tail
		}
		l.unknown(group, key)
		return
	case f.group():
		l.fail(key, "is a table and has no value itself", fmt.Sprintf("set one of its keys, such as %q", f.leaves()[0].key))
		return
	case !utf8.ValidString(text):
		l.fail(key, "the value is not UTF-8", "write it in UTF-8")
		return
	}
	if value, ok := fromText(f.value.Type(), text); ok {
		l.value(f, value)
		return
	}
	l.wrongType(f, "something else")
}

// fromText gives a text the form that it would have in the file.
func fromText(t reflect.Type, text string) (any, bool) {
	if t.Kind() == reflect.String || isDuration(t) || isSize(t) || isText(t) {
		return text, true
	}
	if t.Kind() == reflect.Slice && !strings.HasPrefix(text, "[") {
		return text, true
	}
	table := make(map[string]any)
	err := toml.Unmarshal([]byte("value = "+text), &table)
	return table["value"], err == nil && len(table) == 1
}

// value puts a value of TOML into a field and notes where it came from.
func (l *loader) value(f field, v any) {
	if f.group() {
		if table, ok := v.(map[string]any); ok {
			if strings.HasSuffix(f.key, "]") {
				l.sources[f.key] = Source{Name: l.name, Line: l.line(f.key)}
			}
			l.table(f, table)
			return
		}
		l.fail(f.key, "expected a table, found "+tomlType(v), fmt.Sprintf("write [%s] and its keys below", f.key))
		return
	}
	before := len(l.problems)
	if f.value.Kind() == reflect.Slice && !isText(f.value.Type()) {
		l.list(f, v)
	} else {
		l.scalar(f, v)
	}
	if len(l.problems) == before {
		l.bounds(f)
	}
	l.sources[f.key] = Source{Name: l.name, Line: l.line(f.key)}
}

// list puts a list into a field. A text counts as a list of its parts between commas; an empty text is the empty list.
func (l *loader) list(f field, v any) {
	var items []any
	elem := f.value.Type().Elem()
	switch v := v.(type) {
	case []any:
		items = v
	case string:
		for part := range strings.SplitSeq(v, ",") {
			if part = strings.TrimSpace(part); part == "" {
				continue
			}
			item, ok := fromText(elem, part)
			if !ok || elem.Kind() == reflect.Struct && !isText(elem) {
				l.wrongType(f, "text")
				return
			}
			items = append(items, item)
		}
	default:
		l.wrongType(f, tomlType(v))
		return
	}
	f.value.Set(reflect.MakeSlice(f.value.Type(), len(items), len(items)))
	for i, item := range items {
		l.value(f.element(i), item)
	}
}

// scalar puts a single value into a field.
func (l *loader) scalar(f field, v any) {
	t, kind := f.value.Type(), f.value.Kind()
	text, isString := v.(string)
	number, isNumber := v.(int64)
	truth, isBool := v.(bool)
	switch {
	case isDuration(t) && isString:
		l.duration(f, text)
	case isDuration(t) && isNumber && number == 0:
		f.value.SetInt(0)
	case isSize(t) && isString:
		l.size(f, text)
	case isSize(t) && isNumber:
		l.size(f, strconv.FormatInt(number, 10))
	case isDuration(t) || isSize(t):
		l.wrongType(f, tomlType(v))
	case isText(t) && isString:
		if err := f.value.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil {
			l.fail(f.key, fmt.Sprintf("%q is not possible: %v", text, err), l.example(f))
		}
	case kind == reflect.String && isString:
		f.value.SetString(text)
	case kind == reflect.Bool && isBool:
		f.value.SetBool(truth)
	case isInteger(kind) && isNumber:
		l.integer(f, number)
	case kind == reflect.Float64 || kind == reflect.Float32:
		x, isFloat := v.(float64)
		if isNumber {
			x, isFloat = float64(number), true
		}
		if !isFloat || math.IsNaN(x) || math.IsInf(x, 0) {
			l.wrongType(f, tomlType(v))
			return
		}
		f.value.SetFloat(x)
	default:
		l.wrongType(f, tomlType(v))
	}
}

func (l *loader) duration(f field, text string) {
	d, err := parseDuration(text)
	if err != nil {
		l.fail(f.key, fmt.Sprintf("%q is not a duration", text), `write a number and a unit: ms, s, m, h or d, as in "30s"`)
		return
	}
	f.value.SetInt(int64(d))
}

func (l *loader) size(f field, text string) {
	size, err := ParseSize(text)
	if err != nil {
		l.fail(f.key, fmt.Sprintf("%q is not a size", text), `write bytes, or a number and a unit, as in "256 KiB"`)
		return
	}
	f.value.SetInt(int64(size))
}

func (l *loader) integer(f field, n int64) {
	switch signed := isSigned(f.value.Kind()); {
	case signed && !f.value.OverflowInt(n):
		f.value.SetInt(n)
	case !signed && n >= 0 && !f.value.OverflowUint(uint64(n)):
		f.value.SetUint(uint64(n))
	default:
		l.fail(f.key, fmt.Sprintf("%d does not fit", n), l.example(f))
	}
}

// wrongType reports a value of another type than the field's. The value itself may be secret and is not shown.
func (l *loader) wrongType(f field, found string) {
	l.fail(f.key, fmt.Sprintf("expected %s, found %s", withArticle(f.typeName()), found), l.example(f))
}

func withArticle(s string) string {
	if s == "text" || s == "true or false" {
		return s
	}
	return "a " + s
}

// example shows how a field is written, with the value that it has by default or by a weaker source.
func (l *loader) example(f field) string {
	text := render(f.value, false)
	switch {
	case text == `""`:
		text = `"text"`
	case text == "[]":
		item := field{value: reflect.New(f.value.Type().Elem()).Elem()}
		if !item.group() {
			text = "[" + render(item.value, false) + "]"
			break
		}
		var parts []string
		for _, part := range item.fields() {
			parts = append(parts, part.name+" = …")
		}
		text = "[{" + strings.Join(parts, ", ") + "}]"
	}
	return fmt.Sprintf("write for example %s = %s", f.name, text)
}

// tomlType says, for people, what type a value of TOML has.
func tomlType(v any) string {
	switch v.(type) {
	case string:
		return "text"
	case bool:
		return "true or false"
	case int64:
		return "a whole number"
	case float64:
		return "a number with a fraction"
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	}
	return "a date or time"
}

// bounds checks what the tags oneof, min and max demand.
func (l *loader) bounds(f field) {
	if f.value.Kind() == reflect.Slice {
		return // each value has been checked
	}
	if len(f.oneof) > 0 && !slices.Contains(f.oneof, f.value.String()) {
		remedy := "choose one of " + strings.Join(f.oneof, ", ")
		if near := nearest(f.value.String(), f.oneof); near != "" {
			remedy = fmt.Sprintf("did you mean %q?", near)
		}
		l.fail(f.key, fmt.Sprintf("%q is not possible", f.value.String()), remedy)
	}
	if f.min != "" && compare(f.value, f.min) < 0 {
		l.fail(f.key, render(f.value, false)+" is too little", "write at least "+f.min)
	}
	if f.max != "" && compare(f.value, f.max) > 0 {
		l.fail(f.key, render(f.value, false)+" is too much", "write at most "+f.max)
	}
}

// compare compares a field's value with a bound from its tag.
func compare(v reflect.Value, bound string) int {
	var limit int64
	var err error
	switch t := v.Type(); {
	case isDuration(t):
		var d time.Duration
		d, err = parseDuration(bound)
		limit = int64(d)
	case isSize(t):
		var s Size
		s, err = ParseSize(bound)
		limit = int64(s)
	case v.CanFloat():
		x, ferr := strconv.ParseFloat(bound, 64)
		if ferr == nil {
			return cmp.Compare(v.Float(), x)
		}
		err = ferr
	default:
		limit, err = strconv.ParseInt(bound, 10, 64)
	}
	switch {
	case err != nil:
		panic(fmt.Sprintf("config: bad bound %q", bound))
	case v.CanUint():
		return cmp.Compare(min(v.Uint(), math.MaxInt64), uint64(max(0, limit)))
	}
	return cmp.Compare(v.Int(), limit)
}

// validate calls the Validate methods of a group and of all that is in it, inner ones first. It leaves out features
// that are off, and whatever has a problem already.
func (l *loader) validate(f field, on map[string]bool) {
	if enabled, ok := on[f.key]; ok && !enabled {
		return
	}
	before := len(l.problems)
	switch {
	case f.group():
		for _, child := range f.fields() {
			l.validate(child, on)
		}
	case f.value.Kind() == reflect.Slice:
		for i := range f.value.Len() {
			l.validate(f.element(i), on)
		}
	}
	v, ok := f.value.Addr().Interface().(interface{ Validate() error })
	if !ok || len(l.problems) > before || l.troubled(f.key) {
		return
	}
	if err := v.Validate(); err != nil {
		for _, c := range complaints(err) {
			key := f.key
			if c.key != "" {
				key = join(f.key, c.key)
			}
			l.failFinal(key, c.text, c.remedy)
		}
	}
}

// troubled reports whether a problem is known of a key or of something inside it.
func (l *loader) troubled(key string) bool {
	return slices.ContainsFunc(l.problems, func(p Problem) bool {
		rest, ok := strings.CutPrefix(p.Key, key)
		return ok && (key == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}
