package sshconn_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"capfleet/internal/device/sshconn"
	"capfleet/internal/device/sshconn/sshdtest"
	"capfleet/internal/fault"
)

func TestFilesOnRealSSHD(t *testing.T) {
	srv := sshdtest.Start(t, sshdtest.Options{})
	conn := dial(t, newDialer(t, sshconn.Options{}), srv.Device("probe"))
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hotfix.end"), make([]byte, 12345), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "a b"), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := conn.Files(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	st, err := f.Stat(filepath.Join(dir, "hotfix.end"))
	if err != nil || st.Size() != 12345 || st.Mode().Perm() != 0o640 || st.IsDir() {
		t.Errorf("stat: %v, %v", st, err)
	}
	entries, err := f.ReadDir(dir)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	if err != nil || !slices.Equal(names, []string{"a b", "hotfix.end"}) {
		t.Errorf("list: %q, %v", names, err)
	}
	// OpenSSH's sftp sees the same names.
	batch := fileOf(t, "batch", "ls -1 \""+dir+"\"\n")
	out, err := exec.Command("sftp", "-q", "-F", "none", "-b", batch, "-o", "UserKnownHostsFile="+srv.KnownHosts,
		"-i", srv.ClientKey, "-P", strconv.Itoa(srv.Port), srv.User+"@"+srv.Host).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !strings.Contains(string(out), "/"+name+"\n") {
			t.Errorf("sftp does not list %q:\n%s", name, out)
		}
	}
	home, err := f.RealPath(".")
	if err != nil || !filepath.IsAbs(home) {
		t.Errorf("home %q, %v", home, err)
	}
	_, err = f.Stat(filepath.Join(dir, "none"))
	wantFault(t, err, fault.NotFound, "sftp", "stat "+dir)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
	_, err = f.ReadDir(filepath.Join(dir, "hotfix.end"))
	if !fault.Is(err, fault.Refused) && !fault.Is(err, fault.NotFound) {
		t.Errorf("listing a file: %v", err)
	}
	for range 2 {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	_, err = f.Stat("/")
	wantFault(t, err, fault.Disconnected, "sftp", "the SFTP session was closed")
}

func TestFilesEndWithTheirContext(t *testing.T) {
	srv := newServer(t)
	asked := make(chan struct{}, 1)
	srv.session = func(s *serverSession) {
		_, _ = io.ReadFull(s, make([]byte, 9))            // init
		_, _ = s.Write([]byte{0, 0, 0, 5, 2, 0, 0, 0, 3}) // version 3
		_, _ = io.ReadFull(s, make([]byte, 4))            // a request
		asked <- struct{}{}
		_, _ = io.Copy(io.Discard, s)
	}
	conn := dial(t, newDialer(t, sshconn.Options{}), srv.start(t).device(t, "probe"))
	ctx, cancel := context.WithCancel(t.Context())
	f, err := conn.Files(ctx)
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() {
		_, err := f.Stat("/")
		result <- err
	}()
	<-asked
	cancel()
	soon(t, 100*time.Millisecond, "cancelling", func() { wantFault(t, <-result, fault.Canceled, "sftp") })
	_, err = f.RealPath(".")
	wantFault(t, err, fault.Canceled, "sftp")
}

func TestFilesThatDoNotStart(t *testing.T) {
	t.Run("no subsystem", func(t *testing.T) {
		srv := newServer(t)
		conn := dial(t, newDialer(t, sshconn.Options{}), srv.start(t).device(t, "probe"))
		_, err := conn.Files(t.Context())
		wantFault(t, err, fault.Refused, "sftp", "enable the SFTP subsystem")
	})
	t.Run("garbage", func(t *testing.T) {
		srv := newServer(t)
		srv.session = func(s *serverSession) {
			_, _ = s.Write([]byte("This account is not available.\n"))
			_, _ = io.Copy(io.Discard, s)
		}
		conn := dial(t, newDialer(t, sshconn.Options{}), srv.start(t).device(t, "probe"))
		_, err := conn.Files(t.Context())
		wantFault(t, err, fault.Refused, "sftp", "the SFTP server did not start")
	})
	t.Run("mute", func(t *testing.T) {
		srv := newServer(t)
		srv.session = func(s *serverSession) { _, _ = io.Copy(io.Discard, s) }
		dev := srv.start(t).device(t, "probe")
		dev.SSH.ConnectTimeout = time.Second // the login must have ended by then
		conn := dial(t, newDialer(t, sshconn.Options{}), dev)
		_, err := conn.Files(t.Context())
		wantFault(t, err, fault.Timeout, "session", "no answer within 1s")
	})
}
