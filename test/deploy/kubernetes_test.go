package deploy_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/internal/certs"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/store/storetest"
)

// object is what these tests look at of the objects of Kubernetes.
type object struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string `yaml:"data"`
	Secrets  map[string]string `yaml:"stringData"`
	Spec     struct {
		ClusterIP                string `yaml:"clusterIP"`
		PublishNotReadyAddresses bool   `yaml:"publishNotReadyAddresses"`
		ServiceName              string `yaml:"serviceName"`
		MaxUnavailable           int    `yaml:"maxUnavailable"`
		Selector                 any
		PodSelector              any `yaml:"podSelector"`
		Ports                    []port
		Template                 struct {
			Metadata struct{ Labels map[string]string }
			Spec     pod
		}
	}
}

type pod struct {
	TerminationGracePeriodSeconds int `yaml:"terminationGracePeriodSeconds"`
	Containers                    []container
	Volumes                       []volume
}

type volume struct {
	Name      string
	EmptyDir  *struct{}              `yaml:"emptyDir"`
	ConfigMap *struct{ Name string } `yaml:"configMap"`
	Secret    *struct {
		Name  string `yaml:"secretName"`
		Items []struct{ Key, Path string }
	}
}

type container struct {
	Args []string
	Env  []struct {
		Name, Value string
		ValueFrom   struct {
			FieldRef struct {
				FieldPath string `yaml:"fieldPath"`
			} `yaml:"fieldRef"`
			SecretKeyRef struct{ Name, Key string } `yaml:"secretKeyRef"`
		} `yaml:"valueFrom"`
	}
	Ports     []port
	Startup   probe `yaml:"startupProbe"`
	Liveness  probe `yaml:"livenessProbe"`
	Readiness probe `yaml:"readinessProbe"`
	Lifecycle struct {
		PreStop struct{ Exec struct{ Command []string } } `yaml:"preStop"`
	}
	Mounts []struct {
		Name string
		Path string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
}

type port struct {
	Name      string
	Port      int
	Container int `yaml:"containerPort"`
}

type probe struct {
	HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
}

// objects reads a file of the example, by kind and name.
func objects(t *testing.T, file string) map[string]object {
	t.Helper()
	f, err := os.Open("../../deploy/kubernetes/" + file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := map[string]object{}
	for d := yaml.NewDecoder(f); ; {
		var o object
		err := d.Decode(&o)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[o.Kind+" "+o.Metadata.Name] = o
	}
}

func TestKubernetesObjects(t *testing.T) {
	all := objects(t, "starling.yaml")
	set, nodes := all["StatefulSet starling"].Spec, all["Service starling-nodes"].Spec
	c := set.Template.Spec.Containers[0]
	if set.ServiceName != "starling-nodes" || nodes.ClusterIP != "None" || !nodes.PublishNotReadyAddresses {
		t.Error("nodes cannot find each other")
	}
	labels := fmt.Sprint(set.Template.Metadata.Labels)
	matching := fmt.Sprint(map[string]any{"matchLabels": map[string]any{"app": "starling"}})
	for _, selects := range []any{nodes.Selector, all["Service starling"].Spec.Selector} {
		if fmt.Sprint(selects) != labels {
			t.Errorf("a service selects %v, pods have %s", selects, labels)
		}
	}
	for what, selects := range map[string]any{
		"set": set.Selector, "budget": all["PodDisruptionBudget starling"].Spec.Selector, "policy": all["NetworkPolicy starling"].Spec.PodSelector,
	} {
		if fmt.Sprint(selects) != matching {
			t.Errorf("the %s selects %v", what, selects)
		}
	}
	if all["PodDisruptionBudget starling"].Spec.MaxUnavailable != 1 {
		t.Error("several nodes may be taken away at once")
	}
	open := map[string]int{}
	for _, p := range c.Ports {
		open[p.Name] = p.Container
	}
	for what, p := range map[string]struct {
		probe
		path string
	}{"startup": {c.Startup, "/healthz"}, "liveness": {c.Liveness, "/healthz"}, "readiness": {c.Readiness, "/readyz"}} {
		if p.HTTPGet.Path != p.path || open[p.HTTPGet.Port] != 5280 {
			t.Errorf("%s: %+v", what, p)
		}
	}
	for _, s := range []string{"Service starling", "Service starling-nodes"} {
		for _, p := range all[s].Spec.Ports {
			if open[p.Name] != p.Port {
				t.Errorf("%s leads to port %d, which no container opens", s, p.Port)
			}
		}
	}
	image, err := os.ReadFile("../../deploy/kubernetes/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	drain := c.Lifecycle.PreStop.Exec.Command
	if !strings.Contains(string(image), "COPY bin/starling "+drain[0]+"\n") || !strings.Contains(string(image), `ENTRYPOINT ["`+drain[0]+`"]`) {
		t.Errorf("the image has no %s", drain[0])
	}
	if len(drain) < 3 || drain[1] != "cluster" || drain[2] != "drain" || !slices.Equal(drain[3:], c.Args[1:]) {
		t.Errorf("before a pod stops it runs %q, it serves with %q", drain, c.Args)
	}
}

// pods makes what a pod would have: files in folders, and an environment. Files of the example lie below dir.
func pods(t *testing.T, dir string, secret map[string]string) (env, args []string) {
	t.Helper()
	all := objects(t, "starling.yaml")
	p := all["StatefulSet starling"].Spec.Template.Spec
	c := p.Containers[0]
	here := strings.NewReplacer("/etc/starling/", dir+"/etc/starling/", `"/data"`, `"`+dir+`/data"`)
	volumes := map[string]volume{}
	for _, v := range p.Volumes {
		volumes[v.Name] = v
	}
	for _, m := range c.Mounts {
		files := map[string]string{}
		switch v := volumes[m.Name]; {
		case v.ConfigMap != nil:
			for name, text := range all["ConfigMap "+v.ConfigMap.Name].Data {
				files[name] = here.Replace(text)
			}
		case v.Secret != nil && v.Secret.Name == "starling":
			for _, i := range v.Secret.Items {
				files[i.Path] = secret[i.Key]
			}
		case v.Secret != nil:
			certificate(t, filepath.Join(dir, m.Path))
		case v.EmptyDir == nil:
			t.Errorf("%s is mounted from nowhere", m.Path)
		}
		if err := os.MkdirAll(filepath.Join(dir, m.Path), 0o700); err != nil {
			t.Fatal(err)
		}
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, m.Path, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	fields := map[string]string{"status.podIP": "127.0.0.1", "metadata.name": "starling-0"}
	for _, e := range c.Env {
		value := strings.ReplaceAll(e.Value, "$(POD_IP)", "127.0.0.1") + fields[e.ValueFrom.FieldRef.FieldPath]
		if ref := e.ValueFrom.SecretKeyRef; ref.Key != "" {
			value = secret[ref.Key]
		}
		if value == "" {
			t.Errorf("%s has no value", e.Name)
		}
		env = append(env, e.Name+"="+value)
	}
	for _, a := range c.Args[1:] {
		args = append(args, here.Replace(a))
	}
	return env, args
}

// certificate makes the files that cert-manager does.
func certificate(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := certs.Open(certs.Options{Dir: dir, Domains: []string{"example.org"}, Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	for made, name := range map[string]string{"self-signed.crt": "tls.crt", "self-signed.key": "tls.key"} {
		if err := os.Rename(filepath.Join(dir, made), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKubernetesSettings: the server is content with what a pod sets.
func TestKubernetesSettings(t *testing.T) {
	secret := map[string]string{"join-token": cluster.NewToken(), "database-url": storetest.URL(t, store.Postgres)}
	for key := range objects(t, "secret.yaml")["Secret starling"].Secrets {
		if secret[key] == "" {
			t.Errorf("nobody uses %s of the secret", key)
		}
	}
	env, args := pods(t, t.TempDir(), secret)
	effective := starling(t, env, append([]string{"check", "--effective"}, args...)...)
	for key, want := range map[string]string{
		"listen.c2s": `[":5222"]`, "listen.tls": `[":5223"]`, "listen.admin": `[":5280"]`, "cluster.listen": `":5290"`,
		"cluster.advertise": `"127.0.0.1:5290"`, "cluster.node": `"starling-0"`, "cluster.dns": `"starling-nodes"`,
	} {
		if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(key) + ` +` + regexp.QuoteMeta(want) + ` `).MatchString(effective) {
			t.Errorf("%s is not %s:\n%s", key, want, effective)
		}
	}
	// Here ports may be taken, and nobody knows the name of the service.
	for _, set := range []string{"listen.c2s=:0", "listen.tls=:0", "listen.admin=:0", "cluster.listen=:0", "cluster.dns=localhost"} {
		args = append(args, "--set", set)
	}
	report := starling(t, env, append([]string{"check"}, args...)...)
	for _, want := range []string{"All is well.", "is starling-0, in the cluster main", "is a join token", "can be shared by several nodes"} {
		if !strings.Contains(report, want) {
			t.Errorf("no %q in\n%s", want, report)
		}
	}
}

// TestZone: each service leads to the doors of nodes that have addresses.
func TestZone(t *testing.T) {
	text, err := os.ReadFile("../../deploy/dns/example.org.zone")
	if err != nil {
		t.Fatal(err)
	}
	ports, targets, hosts := map[string]string{"_xmpps-client": "5223", "_xmpp-client": "5222"}, map[string]int{}, 0
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, ";")
		f := strings.Fields(line)
		switch {
		case len(f) == 8 && f[3] == "SRV":
			service, _, _ := strings.Cut(f[0], ".")
			if f[0] != service+"._tcp.example.org." || f[6] != ports[service] {
				t.Errorf("wrong: %s", line)
			}
			targets[f[7]]++
		case len(f) == 5 && f[3] == "A":
			hosts++
			if targets[f[0]] != len(ports) {
				t.Errorf("%s has %d services", f[0], targets[f[0]])
			}
		case len(f) > 0:
			t.Errorf("not understood: %s", line)
		}
	}
	if hosts != 3 || len(targets) != hosts {
		t.Errorf("%d hosts, %d targets", hosts, len(targets))
	}
}
