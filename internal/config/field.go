package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// field is one setting, or a group of them if it is a struct.
type field struct {
	key      string // with its groups: "limits.stanza_bytes"; "" for the top level
	name     string // the last part of the key
	doc      string
	oneof    []string
	min, max string
	value    reflect.Value // addressable
	extra    []field       // further fields of a group, before those of the struct
}

// group reports whether the field is a table of further fields.
func (f field) group() bool {
	return f.value.Kind() == reflect.Struct && !isText(f.value.Type())
}

// fields returns the fields of a group: of the top level, first all of the struct, then the features' sections.
func (f field) fields() []field {
	var own []field
	for i := range f.value.NumField() {
		t := f.value.Type().Field(i)
		name, doc := t.Tag.Get("toml"), t.Tag.Get("doc")
		if name == "" || doc == "" || !t.IsExported() {
			panic(fmt.Sprintf("config: field %s of %s is not exported or has no toml or doc tag", t.Name, f.value.Type()))
		}
		child := field{key: join(f.key, name), name: name, doc: doc, value: f.value.Field(i)}
		child.min, child.max = t.Tag.Get("min"), t.Tag.Get("max")
		if list := t.Tag.Get("oneof"); list != "" {
			child.oneof = strings.Split(list, ",")
		}
		own = append(own, child)
	}
	if f.key == "" {
		own = append(own, f.extra...)
	} else {
		own = append(f.extra[:len(f.extra):len(f.extra)], own...)
	}
	for i, a := range own {
		for _, b := range own[:i] {
			if a.name == b.name {
				panic(fmt.Sprintf("config: two settings are called %q", a.key))
			}
		}
	}
	return own
}

// find returns the field of a dotted key.
func (f field) find(key string) (field, bool) {
	name, rest, nested := strings.Cut(key, ".")
	for _, child := range f.fields() {
		if child.name != name {
			continue
		}
		if !nested {
			return child, true
		}
		if child.group() {
			return child.find(rest)
		}
		break
	}
	return field{}, false
}

// leaves returns all settings of a group, in order.
func (f field) leaves() []field {
	var all []field
	for _, child := range f.fields() {
		if child.group() {
			all = append(all, child.leaves()...)
		} else {
			all = append(all, child)
		}
	}
	return all
}

// element returns the i-th value of a list as a field.
func (f field) element(i int) field {
	e := field{key: fmt.Sprintf("%s[%d]", f.key, i), name: f.name, oneof: f.oneof, min: f.min, max: f.max}
	e.value = f.value.Index(i)
	return e
}

func join(group, name string) string {
	if group == "" {
		return name
	}
	return group + "." + name
}

func isDuration(t reflect.Type) bool { return t == reflect.TypeFor[time.Duration]() }
func isSize(t reflect.Type) bool     { return t == reflect.TypeFor[Size]() }

// isText reports whether values of the type are read from text by their own method.
func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// typeName says, for people, what a field holds.
func (f field) typeName() string {
	t := f.value.Type()
	switch {
	case isDuration(t):
		return "duration"
	case isSize(t):
		return "size"
	case isText(t):
		return "text"
	}
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "number"
	case reflect.Slice:
		if e := (field{value: reflect.New(t.Elem()).Elem()}); !e.group() {
			return "list of " + strings.TrimSuffix(e.typeName(), "s") + "s"
		}
		return "list of tables"
	case reflect.Struct:
		return "table"
	}
	if isInteger(t.Kind()) {
		return "whole number"
	}
	panic(fmt.Sprintf("config: %s has type %s, which has no form in TOML", f.key, t))
}

func isInteger(k reflect.Kind) bool { return isSigned(k) || reflect.Uint <= k && k <= reflect.Uint64 }
func isSigned(k reflect.Kind) bool  { return reflect.Int <= k && k <= reflect.Int64 }

// deepCopy returns v with lists of its own.
func deepCopy(v reflect.Value) reflect.Value {
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	switch {
	case v.Kind() == reflect.Slice && !v.IsNil():
		c.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			c.Index(i).Set(deepCopy(v.Index(i)))
		}
	case v.Kind() == reflect.Struct && !isText(v.Type()):
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				c.Field(i).Set(deepCopy(v.Field(i)))
			}
		}
	}
	return c
}
