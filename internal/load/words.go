package load

import "sync"

const (
	vocabulary = 4096
	spoken     = 1 << 20 // bytes of speech
	maxWords   = spoken / 4
)

// speech is made-up words with spaces between, few of them often and most seldom, as people write them: a server that
// compresses what it keeps gains as much as from letters of that kind, and no more.
var speech = sync.OnceValue(func() []byte {
	seed := uint64(1)
	below := func(n int) int { // a linear congruential generator, so that all processes say the same
		seed = seed*6364136223846793005 + 1442695040888963407
		return int(seed >> 33 % uint64(n))
	}
	const letters = "etaoinshrdlcumwfgypbvkjxqz" // the frequent ones first
	all := make([]string, vocabulary)
	for i := range all {
		word := make([]byte, 1+below(4)+below(4)+below(4))
		for k := range word {
			word[k] = letters[min(below(26), below(26))]
		}
		all[i] = string(word)
	}
	var b []byte
	for len(b) < spoken {
		b = append(append(b, all[below(1+below(1+below(vocabulary)))]...), ' ')
	}
	return b[:spoken]
})

// Words is the text that goes with a stanza of a sender, of so many bytes, at most 256 KiB.
func Words(sender, number uint32, size int) []byte {
	all := speech()
	room := uint64(len(all) - size)
	at := (uint64(sender)*40_503 + uint64(number)*7_919) % room
	return all[at:][:size]
}
