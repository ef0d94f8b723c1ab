package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// versionCommand tells what was built, from what, with what.
type versionCommand struct{}

// Run is called by the parser.
func (versionCommand) Run(c *console) error {
	_, err := fmt.Fprintf(c.out, "starling %s\ncommit   %s\ngo       %s %s/%s\n", version(), commit(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// release is set by the linker when a release is built (see the Makefile).
var release = ""

// version names the release, or "devel" if the program was not built from one.
func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}

// commit names the state of the source that the program was built from.
func commit() string {
	revision, state := "unknown", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				revision = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				state = ", with changes"
			}
		}
	}
	return revision + state
}
