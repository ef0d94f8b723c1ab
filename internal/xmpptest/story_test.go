package xmpptest_test

import (
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpptest"
)

// story uses every word of the language.
const story = `account nurse@a.test
client romeo romeo@b.test/orchard
client juliet juliet@a.test/balcony
client! second juliet@a.test
friends romeo juliet
juliet > <presence><show>away</show></presence>
romeo < first <presence from='$juliet'><show>$show</show></presence>
romeo < nothing
romeo > <message to='$juliet' id='1'><body>$show</body></message>
romeo > <message to='$juliet' id='2'/>
juliet < <message id='2'/>
juliet < <message id='1' from='$romeo'><body>away</body></message>
juliet < no <message/>
romeo > <message to='$second'/>
skip second
second < nothing
close romeo
juliet < exactly <presence type='unavailable' from='$romeo'/>
drop juliet
client juliet juliet@a.test/balcony
raw x
x > $open
x < <stream:features/>
x > <starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>
x < <proceed/>
x starttls
x > $open
x < <stream:stream id='$any'>
x > <\xff
x < <stream:error/>
x < </stream:stream>
x closed
raw y tls
y > $open
y < <stream:features><mechanisms/></stream:features>
`

func TestStory(t *testing.T) {
	t.Parallel()
	s := xmpptest.Start(t, xmpptest.Options{})
	xmpptest.Play(t, s, "story", story)
	xmpptest.Play(t, s, "the same on the same server", story[strings.Index(story, "raw x"):])
}

// TestCluster: the same script can be played again, since nobody of the first time is left on any node.
func TestCluster(t *testing.T) {
	t.Parallel()
	for _, d := range []store.Dialect{store.SQLite, store.Postgres} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			c := xmpptest.StartCluster(t, xmpptest.Options{Set: []string{xmpptest.On(t, d)}}, 3)
			xmpptest.Play(t, c, "story", story)
			xmpptest.Play(t, c, "the same on the same cluster", story[strings.Index(story, "raw x"):])
		})
	}
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	url := xmpptest.On(t, store.Postgres)
	xmpptest.Play(t, xmpptest.Start(t, xmpptest.Options{Set: []string{url}}), "story", story)
}
