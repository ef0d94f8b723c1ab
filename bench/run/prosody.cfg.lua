-- Prosody for a comparison: clients only, registration open, no rate limits, passwords not hashed, no log.
run_as_root = true
daemonize = false
pidfile = "{{.Dir}}/prosody.pid"
data_path = "{{.Dir}}/data"
log = {}
interfaces = { "127.0.0.1" }
c2s_ports = { {{.Port}} }
modules_enabled = { "disco", "ping", "register", "roster", "saslauth", "tls" }
modules_disabled = { "s2s" }
allow_registration = true
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_plain"
storage = "internal"
network_backend = "epoll"
ssl = { key = "{{.Key}}", certificate = "{{.Cert}}" }
VirtualHost "localhost"
