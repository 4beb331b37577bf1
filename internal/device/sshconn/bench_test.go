package sshconn_test

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"capfleet/internal/device"
	"capfleet/internal/device/sshconn"
)

// BenchmarkConnect is one connection with one command, 64 at a time, against the
// same through the bare library (which checks no host key).
func BenchmarkConnect(b *testing.B) {
	start := func(b *testing.B) *server {
		b.Helper()
		srv := newServer(b)
		srv.session = func(s *serverSession) {
			_, _ = s.Write([]byte("ok\n"))
			s.exit(0)
		}
		return srv.start(b)
	}
	run := func(b *testing.B, once func() error) {
		b.Helper()
		b.ResetTimer()
		var wg sync.WaitGroup
		places := make(chan struct{}, 64)
		for range b.N {
			places <- struct{}{}
			wg.Go(func() {
				defer func() { <-places }()
				if err := once(); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
	}
	b.Run("bare", func(b *testing.B) {
		srv := start(b)
		run(b, func() error {
			algs := ssh.SupportedAlgorithms()
			client, err := ssh.Dial("tcp", srv.addr, &ssh.ClientConfig{
				Config: ssh.Config{KeyExchanges: algs.KeyExchanges, Ciphers: algs.Ciphers},
				User:   "fleet", Auth: []ssh.AuthMethod{ssh.Password("correct")}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
			})
			if err != nil {
				return err
			}
			defer func() { _ = client.Close() }()
			session, err := client.NewSession()
			if err != nil {
				return err
			}
			_, err = session.Output("true")
			return err
		})
	})
	b.Run("ours", func(b *testing.B) {
		srv := start(b)
		dev := srv.device(b, "probe")
		// A fleet's worth of other hosts in known_hosts.
		var file bytes.Buffer
		raw, err := os.ReadFile(dev.KnownHosts)
		if err != nil {
			b.Fatal(err)
		}
		for range 1000 {
			file.WriteString("other-" + strings.TrimPrefix(string(raw), "["))
		}
		file.Write(raw)
		dev.KnownHosts = fileOf(b, "known_hosts", file.String())
		d := sshconn.NewDialer(sshconn.Options{})
		defer func() { _ = d.Close() }()
		run(b, func() error {
			conn, err := d.Dial(b.Context(), dev)
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }()
			_, err = conn.Exec(b.Context(), device.ExecRequest{Args: []string{"true"}})
			return err
		})
	})
}
