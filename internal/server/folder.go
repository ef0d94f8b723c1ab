package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Files in the data folder.
const (
	lockFile = "starling.lock"
	runFile  = "run.json"
	sockFile = "admin.sock"
)

// ErrInUse says that another server has the data folder.
var ErrInUse = errors.New("the data folder is in use")

// lockFolder takes the data folder for this process. The lock ends with the process,
// however that ends.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock the data folder: %w", err)
		}
		pid, _ := io.ReadAll(io.LimitReader(f, 16))
		return nil, fmt.Errorf("%w: a server with process id %s runs on %s", ErrInUse, strings.TrimSpace(string(pid)), dir)
	}
	if err := f.Truncate(0); err == nil {
		fmt.Fprintln(f, os.Getpid())
	}
	return f, nil
}

// RunInfo says how a running server can be reached. It stands in DATA/run.json from
// the moment that the server is ready until it stops.
type RunInfo struct {
	PID         int               `json:"pid"`
	Addresses   map[string]string `json:"addresses"`    // the first of each door, by its name in [listen]
	AdminSocket string            `json:"admin_socket"` // for the command line
}

// ReadRunInfo reads the run.json of a data folder. os.ErrNotExist: no server runs there.
func ReadRunInfo(data string) (RunInfo, error) {
	var info RunInfo
	b, err := os.ReadFile(filepath.Join(data, runFile))
	if err != nil {
		return info, err
	}
	if err := json.Unmarshal(b, &info); err != nil {
		return info, fmt.Errorf("%s: %w", runFile, err)
	}
	return info, nil
}

// write puts the file in place whole, so that a reader never sees half of it.
func (i *RunInfo) write(data string) error {
	b, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return err
	}
	temporary := filepath.Join(data, runFile+".new")
	if err := os.WriteFile(temporary, append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, filepath.Join(data, runFile))
}

// maxSocketPath is what fits in the address of a Unix socket.
const maxSocketPath = 100

// socketPath is where the admin socket of a data folder is: in it, unless its name is
// too long for a socket.
func socketPath(data string) (string, error) {
	path, err := filepath.Abs(filepath.Join(data, sockFile))
	if err != nil || len(path) <= maxSocketPath {
		return path, err
	}
	dir, err := os.MkdirTemp("", "starling")
	return filepath.Join(dir, sockFile), err
}
