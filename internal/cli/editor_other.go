//go:build !unix

package cli

import (
	"context"
	"os"
	"os/exec"
	"strings"
)

// runEditor runs an editor on a file. Words in the editor's command are
// arguments.
func runEditor(ctx context.Context, editor, file string) error {
	words := append(strings.Fields(editor), file)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}
