package config

import (
	"errors"
	"strings"
	"testing"
)

func TestCluster(t *testing.T) {
	const token = "cluster.token_file=/etc/starling/join-token"
	for _, c := range []struct {
		name string
		set  []string
		want string // begins a problem; empty if there is none
	}{
		{"nothing", nil, ""},
		{"a token", []string{token}, ""},
		{"everything", []string{token, "cluster.listen=10.0.0.1:0", "cluster.advertise=a.test:5290", "cluster.peers=b.test,[2001:db8::1]:1,2001:db8::2,c.test:1",
			"cluster.dns=_cluster._tcp.a.test", "cluster.multicast=239.255.17.1:5291", "cluster.advertise_client=a.test:5222", "cluster.node=Haus-1",
			"cluster.name=main_2", "cluster.when_failed=refuse", "cluster.drain_time=0"}, ""},
		{"servers of NATS", []string{"cluster.nats=tls://u:p@a.test:4222,tls://u:p@b.test:4222"}, ""},
		{"peers without a token", []string{"cluster.peers=b.test"}, "cluster.peers: does nothing without a join token; make one with `starling cluster token"},
		{"listen without a token", []string{"cluster.listen=:1"}, "cluster.listen: does nothing without a join token"},
		{"two tokens", []string{token, "cluster.token=x"}, "cluster.token: is there beside token_file"},
		{"bad listen", []string{token, "cluster.listen=x"}, `cluster.listen: "x" is not an address`},
		{"bad port", []string{token, "cluster.listen=:99999"}, `cluster.listen: ":99999" is not an address`},
		{"nothing to dial", []string{token, "cluster.advertise=:5290"}, `cluster.advertise: ":5290" cannot be dialled`},
		{"port 0 to dial", []string{token, "cluster.advertise_client=a.test:0"}, `cluster.advertise_client: "a.test:0" cannot be dialled`},
		{"bad peer", []string{token, "cluster.peers=b.test,http://c.test"}, `cluster.peers: "http://c.test" is not the address of a node`},
		{"bad group", []string{token, "cluster.multicast=10.0.0.1:5291"}, `cluster.multicast: "10.0.0.1:5291" is not a multicast group`},
		{"bad name of the cluster", []string{"cluster.name=Main"}, `cluster.name: "Main" is not a name of a cluster`},
		{"bad name of the node", []string{"cluster.node=a b"}, `cluster.node: "a b" is not a name of a node`},
		{"long name of the node", []string{"cluster.node=" + strings.Repeat("x", 65)}, "cluster.node: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, err := Load(Sources{Set: c.set})
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if on := cfg.Cluster.Configured(); on != (len(c.set) > 0) {
					t.Errorf("configured: %v", on)
				}
				return
			}
			var bad *Error
			if !errors.As(err, &bad) || len(bad.Problems) != 1 || !strings.Contains(bad.Problems[0].String(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestClusterSecretsAreHidden(t *testing.T) {
	c, err := Load(Sources{Set: []string{"cluster.nats=tls://u:hunter2@a.test:4222", "cluster.token=hunter2"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range c.Effective() {
		if strings.Contains(v.Text, "hunter2") {
			t.Errorf("%s shows a secret: %s", v.Key, v.Text)
		}
	}
}
