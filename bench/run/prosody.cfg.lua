-- Prosody for a comparison: clients only, registration open, no rate limits, passwords not hashed, no log.
run_as_root = true
daemonize = false
pidfile = "{{.Dir}}/prosody.pid"
data_path = "{{.Dir}}/data"
log = {}
interfaces = { "127.0.0.1" }
c2s_ports = { {{.Port}} }
modules_enabled = { "disco", "ping", "register", "roster", "saslauth", "tls"{{if .Archive}}, "mam"{{end}}{{if .Managed}}, "smacks"{{end}} }
modules_disabled = { "s2s" }
allow_registration = true
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_plain"
{{- if not .Archive}}
storage = "internal"
{{- else}}
storage = { archive = "{{.Archive}}" }
sql = { driver = "SQLite3", database = "{{.Dir}}/prosody.db" }
archive_expires_after = "never"
storage_archive_item_limit = 10000000
storage_archive_item_limit_cache_size = 10000
{{- end}}
network_backend = "epoll"
ssl = { key = "{{.Key}}", certificate = "{{.Cert}}" }
VirtualHost "localhost"
