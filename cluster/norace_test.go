//go:build !race

package cluster_test

// raced says that the race detector watches, under which fewer schedules have to do.
const raced = false
