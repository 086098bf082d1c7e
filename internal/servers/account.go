package servers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// An Account is a user of this machine whom a process may run as.
type Account struct {
	Name     string
	uid, gid uint32
}

func (a *Account) credential() *syscall.Credential {
	if a == nil {
		return nil
	}
	return &syscall.Credential{Uid: a.uid, Gid: a.gid}
}

// accountFor says whom a server that keeps its files in dir should run as, and why when that
// is not the packages' own user. Only root can choose; everybody else runs servers as themselves.
func accountFor(name, dir string) (account *Account, why string, err error) {
	if os.Geteuid() != 0 {
		return nil, "", nil
	}
	a, err := lookUp(name)
	if err != nil {
		return nil, fmt.Sprintf("runs as root: there is no user %s", name), nil
	}
	shut, err := shutTo(a, filepath.Dir(dir))
	switch {
	case err != nil:
		return nil, "", err
	case shut != "":
		return nil, fmt.Sprintf("runs as root: %s does not let user %s through", shut, name), nil
	}
	return a, "", nil
}

func lookUp(name string) (*Account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
	gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
	return &Account{Name: name, uid: uint32(uid), gid: uint32(gid)}, errors.Join(errUID, errGID)
}

// shutTo returns the first directory on the way to dir, itself included, that a may not pass.
func shutTo(a *Account, dir string) (string, error) {
	var way []string
	for d := dir; ; d = filepath.Dir(d) {
		way = append(way, d)
		if d == filepath.Dir(d) {
			break
		}
	}
	for i := len(way) - 1; i >= 0; i-- {
		info, err := os.Stat(way[i])
		if err != nil {
			return "", err
		}
		if !mayPass(a, info) {
			return way[i], nil
		}
	}
	return "", nil
}

func mayPass(a *Account, info fs.FileInfo) bool {
	const search = 0o1 // what a directory's x bit means
	owner := info.Sys().(*syscall.Stat_t)
	switch {
	case owner.Uid == a.uid:
		return info.Mode()>>6&search != 0
	case owner.Gid == a.gid:
		return info.Mode()>>3&search != 0
	default:
		return info.Mode()&search != 0
	}
}

// homeFor makes dir, for the account alone. Where the directory was another user's, because
// the server ran under another name before, everything in it is handed over.
func homeFor(account *Account, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	uid, gid := os.Geteuid(), os.Getegid()
	if account != nil {
		uid, gid = int(account.uid), int(account.gid)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Sys().(*syscall.Stat_t).Uid == uint32(uid) {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
}

// writeSecret writes a file that only the account, or this user where it is nil, can read.
func writeSecret(account *Account, path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	if account == nil {
		return nil
	}
	return os.Lchown(path, int(account.uid), int(account.gid))
}
