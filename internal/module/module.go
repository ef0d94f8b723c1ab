// Package module is what a feature declares about itself, and all that it may touch.
// From the one declaration come the answers of service discovery, the configuration
// reference, the migrations and the list of supported specifications.
package module

import (
	"fmt"
	"io/fs"
)

// Spec is a specification that a feature implements, in the version it was written against.
type Spec struct {
	XEP     int // number of the XEP, or
	RFC     int // of the RFC
	Version string
	Note    string // what is left out, when not all of it is there
}

// Target is on whose behalf the server answers.
type Target uint8

// Whom an iq may be addressed to when the server itself answers.
const (
	Server  Target = iota + 1 // a domain that is served here
	Account                   // a bare JID at such a domain, with or without account, or no 'to' at all (RFC 6120 §10.3.3)
)

// String names the target.
func (t Target) String() string {
	return [...]string{"", "server", "account"}[t]
}

// Disco lists the features that are announced for each target (XEP-0030 §3.1).
type Disco map[Target][]string

// Def declares a feature whose configuration is a C.
type Def[C any] struct {
	Name     string
	Doc      string // one sentence for the operator
	Specs    []Spec
	Disco    Disco
	Needs    []string // names of features that must run, and are started before
	Off      bool     // true: runs only when the configuration enables it
	Defaults C
	Schema   fs.FS // schema/NNN_name.sql, nil when the feature stores nothing
	Start    func(h *Host, cfg C) error
}

// Info is a declaration without its configuration's type.
type Info struct {
	Name, Doc string
	Specs     []Spec
	Disco     Disco
	Needs     []string
	Off       bool
	Defaults  any
	Schema    fs.FS
}

// Module is any Def.
type Module interface {
	Info() Info
	start(h *Host, cfg any) error
}

// Info is the declaration.
func (d Def[C]) Info() Info {
	return Info{d.Name, d.Doc, d.Specs, d.Disco, d.Needs, d.Off, d.Defaults, d.Schema}
}

func (d Def[C]) start(h *Host, cfg any) error {
	switch c := cfg.(type) {
	case C:
		return d.Start(h, c)
	case *C:
		return d.Start(h, *c)
	}
	return fmt.Errorf("module %s: configuration is a %T", d.Name, cfg)
}
