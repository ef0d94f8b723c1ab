//go:build unix

package transport

import "syscall"

// readFD and writeFD are one system call each, repeated only when a signal interrupted it. The descriptors are in
// non-blocking mode: what would block returns EAGAIN.

func readFD(fd uintptr, p []byte) (int, error) {
	for {
		if n, err := syscall.Read(int(fd), p); err != syscall.EINTR {
			return n, err
		}
	}
}

func writeFD(fd uintptr, p []byte) (int, error) {
	for {
		if n, err := syscall.Write(int(fd), p); err != syscall.EINTR {
			return n, err
		}
	}
}
