package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"
)

// The three commands that both sides send.
func commands() []string {
	return []string{"enable", "no cli session paging enable", "show files system"}
}

// shellLoop is the peer: what one writes in an afternoon with x/crypto/ssh. A
// shell on each device, each command typed, the answer read until it ends in a
// prompt. It checks no host key, knows no modes and believes every prompt.
func shellLoop(ctx context.Context, targets []target, workers int) (time.Duration, error) {
	begin := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	var total atomic.Int64
	for _, t := range targets {
		g.Go(func() error {
			n, err := shellOnce(ctx, t)
			total.Add(int64(n))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	if total.Load() == 0 {
		return 0, fmt.Errorf("the shell loop read nothing")
	}
	return time.Since(begin), nil
}

func shellOnce(ctx context.Context, t target) (int, error) {
	client, err := ssh.Dial("tcp", t.addr, &ssh.ClientConfig{
		User: t.user, Auth: []ssh.AuthMethod{ssh.Password(t.password), ssh.KeyboardInteractive(
			func(_, _ string, questions []string, _ []bool) ([]string, error) {
				return slices.Repeat([]string{t.password}, len(questions)), nil
			})},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 20 * time.Second,
	})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", t.name, err)
	}
	defer func() { _ = client.Close() }()
	defer context.AfterFunc(ctx, func() { _ = client.Close() })()
	session, err := client.NewSession()
	if err != nil {
		return 0, err
	}
	in, err := session.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := session.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := session.RequestPty("vt100", 100, 200, ssh.TerminalModes{}); err != nil {
		return 0, err
	}
	if err := session.Shell(); err != nil {
		return 0, err
	}
	buf := make([]byte, 0, 64<<10)
	if _, err := untilPrompt(out, buf); err != nil {
		return 0, err
	}
	got := 0
	for _, c := range commands() {
		if _, err := io.WriteString(in, c+"\n"); err != nil {
			return 0, err
		}
		answer, err := untilPrompt(out, buf)
		if err != nil {
			return 0, fmt.Errorf("%s: %s: %w", t.name, c, err)
		}
		got = len(answer)
	}
	return got, nil
}

func untilPrompt(r io.Reader, buf []byte) ([]byte, error) {
	buf = buf[:0]
	chunk := make([]byte, 32<<10)
	for {
		n, err := r.Read(chunk)
		buf = append(buf, chunk[:n]...)
		if bytes.HasSuffix(buf, []byte("# ")) || bytes.HasSuffix(buf, []byte("> ")) {
			return buf, nil
		}
		if err != nil {
			return nil, err
		}
	}
}
