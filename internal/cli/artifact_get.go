package cli

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

func (a *app) artifactGetCommand() *cobra.Command {
	var file string
	var secret bool
	cmd := &cobra.Command{
		Use:   "get DIGEST",
		Short: "write a kept file to stdout or to a file",
		Long: `Writes a kept file to stdout, or with --write to a file that is there complete
or not at all; after a cut the same command goes on where it ended. The content
is compared with its digest: where it differs, the command fails, whatever was
written to stdout before.

` + digestHelp + `

To a terminal only text is written, with control characters made visible. A file
that holds keys or passwords, such as the archive of a configuration, needs
--secret; what --write makes of it is readable by its owner alone.

` + readExits(),
		Example: `  fleetctl artifact get 52ea489b2093 > raw.txt
  fleetctl artifact get 52ea489b2093 --write raw.txt`,
		Args:              oneArg,
		ValidArgsFunction: a.completeArtifacts,
	}
	cmd.Flags().StringVarP(&file, "write", "w", "", "write to `file` instead of stdout; it is complete or not there")
	cmd.Flags().BoolVar(&secret, "secret", false, "also a file that holds keys or passwords")
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		return a.handOutArtifact(ctx, f, args[0], file, secret)
	})
	return cmd
}

// getArtifact writes an artifact that is no secret.
func (a *app) getArtifact(ctx context.Context, f fleet, digest, file string) error {
	return a.handOutArtifact(ctx, f, digest, file, false)
}

func (a *app) handOutArtifact(ctx context.Context, f fleet, digest, file string, secret bool) error {
	list, err := findArtifact(ctx, f, digest)
	if err != nil {
		return err
	}
	art := list[0]
	if art.Secret && !secret {
		return &fault.Error{Kind: fault.Denied, Act: "artifact " + shortDigest(art.SHA256) + " (" + art.Name + ") holds keys or passwords",
			Next: "say --secret, and keep what you get to yourself"}
	}
	toTerminal := file == "" && a.streams.OutTerminal
	if toTerminal && !strings.HasPrefix(art.MediaType, "text/") {
		return &fault.Error{Kind: fault.Invalid, Act: "artifact " + shortDigest(art.SHA256) + " is " + art.MediaType + ", which is not for a terminal",
			Next: "use --write FILE"}
	}
	if file != "" {
		return a.fetchArtifact(ctx, f, art, file)
	}
	content, err := f.Artifact(ctx, art.SHA256)
	if err != nil {
		return err
	}
	defer func() { _ = content.Close() }()
	if toTerminal {
		return a.showArtifact(content)
	}
	p := a.newTransfer("get "+art.Name, art.Size)
	defer p.Close()
	_, err = io.Copy(a.streams.Out, p.Reader(content))
	return transferError(ctx, "write the artifact", err)
}

// showArtifact writes text to a terminal, whole lines at a time.
func (a *app) showArtifact(content io.Reader) error {
	lines := bufio.NewReader(content)
	for {
		line, err := lines.ReadString('\n')
		if _, err := io.WriteString(a.streams.Out, output.CleanBlock(line)); err != nil {
			return fault.Wrap(fault.Internal, "print the artifact", err)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// transferError keeps the kind of an error that fleetd or the network gave; any
// other is the local file's.
func transferError(ctx context.Context, act string, err error) error {
	var have *fault.Error
	if err == nil || errors.As(err, &have) {
		return err
	}
	if ctx.Err() != nil {
		return fault.Wrap(fault.Canceled, act, ctx.Err())
	}
	return fault.Wrap(fault.Storage, act, err)
}
