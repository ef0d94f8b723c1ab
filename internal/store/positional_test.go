package store

import "testing"

func TestPositional(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"none", "SELECT 1", "SELECT 1"},
		{"in order", "INSERT INTO a VALUES ($1, $2, $3)", "INSERT INTO a VALUES (?, ?, ?)"},
		{"at the end", "SELECT a FROM b WHERE c = $1 AND d > $2", "SELECT a FROM b WHERE c = ? AND d > ?"},
		{"ten", "$1$2$3$4$5$6$7$8$9$10$11", "???????????"},
		{"twice", "SELECT $1, $1", "SELECT $1, $1"},
		{"out of order", "SELECT $2, $1", "SELECT $2, $1"},
		{"not the first", "SELECT $2", "SELECT $2"},
		{"a longer number", "SELECT $1, $20", "SELECT $1, $20"},
		{"a number that begins alike", "SELECT $10", "SELECT $10"},
		{"quoted", "SELECT '$1', $1", "SELECT '$1', $1"},
		{"in a comment", "SELECT 1 -- $1\n, $2", "SELECT 1 -- $1\n, $2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := positional(c.in); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
