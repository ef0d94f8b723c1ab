//go:build !wirenext

package scenario_test

// newer makes what only the build for the next version has.
func (p *program) newer() {}
