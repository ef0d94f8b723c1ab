package server

import (
	"html/template"
	"net"
	"net/http"
)

// landing is what a browser gets: where clients connect. It carries no information that
// a client does not get as well.
func (s *Server) landing() http.Handler {
	data := s.landingData()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		h.Set("X-Content-Type-Options", "nosniff")
		if err := landingPage.Execute(w, data); err != nil {
			s.log.Debug("landing page not sent", "err", err)
		}
	})
	return mux
}

type landingData struct {
	Domains          []string
	StartTLS, Direct string // ports; empty when closed
}

func (s *Server) landingData() landingData {
	d := landingData{Domains: s.cfg.Domains}
	for name, into := range map[string]*string{"c2s": &d.StartTLS, "tls": &d.Direct} {
		if all := s.Addresses()[name]; len(all) > 0 {
			_, *into, _ = net.SplitHostPort(all[0])
		}
	}
	return d
}

var landingPage = template.Must(template.New("landing").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{index .Domains 0}}: instant messaging</title>
<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}</style>
<h1>{{index .Domains 0}}</h1>
<p>This is a chat server. It speaks XMPP: use any XMPP client, and log in with an address such as
<b>name@{{index .Domains 0}}</b>.</p>
<ul>{{with .StartTLS}}<li>port {{.}}, STARTTLS</li>{{end}}{{with .Direct}}<li>port {{.}}, direct TLS</li>{{end}}</ul>
</html>
`))
