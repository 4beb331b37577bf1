package cli

import (
	"context"

	"github.com/spf13/cobra"

	"capfleet/internal/cli/output"
)

func (a *app) deviceCheckCommand() *cobra.Command {
	var sel selectionFlags
	var job jobFlags
	cmd := &cobra.Command{
		Use:   "check [DEVICE...]",
		Short: "try everything that work on a device needs",
		Long: `Reaches each selected device, checks its host key, logs in, waits for its
prompt, opens SFTP, runs a command and compares clocks. A device that fails is
named with the stage that failed. Nothing is changed.

` + selectionHelp + defaultAllHelp + `

` + jsonHelp("job, rows, failures and warnings", "row", checkKeysHelp) + `
` + failureKeysHelp + `

` + waitHelp + `

` + workExits(),
		ValidArgsFunction: a.completeDevices,
	}
	sel.register(a, cmd)
	job.register(cmd)
	cmd.RunE = a.with(func(ctx context.Context, f fleet, args []string) error {
		s, err := sel.selection(args, noneIsAll)
		if err != nil {
			return err
		}
		return a.submit(ctx, f, &job, "check", struct{}{}, s)
	})
	return cmd
}

const checkKeysHelp = `device, platform; reach, host_key, login, prompt, sftp, exec and clock (ok, n/a,
skipped or failed); connect_seconds, login_seconds, prompt_seconds,
server_version, host_key_type, host_key_sha256, version, clock_offset_seconds
(the device's clock less fleetd's), collected_at`

func checkView() output.View {
	return output.View{Table: []output.Column{
		{Key: "device", Head: "DEVICE", Fixed: true},
		{Key: "platform", Head: "PLATFORM", Wide: true},
		{Key: "reach", Head: "REACH", Kind: output.State},
		{Key: "host_key", Head: "HOST KEY", Kind: output.State},
		{Key: "login", Head: "LOGIN", Kind: output.State},
		{Key: "prompt", Head: "PROMPT", Kind: output.State},
		{Key: "sftp", Head: "SFTP", Kind: output.State},
		{Key: "exec", Head: "EXEC", Kind: output.State},
		{Key: "clock", Head: "CLOCK", Kind: output.State},
		{Key: "clock_offset_seconds", Head: "OFFSET (s)", Kind: output.Number, Wide: true},
		{Key: "connect_seconds", Head: "CONNECT (s)", Kind: output.Number, Wide: true},
		{Key: "login_seconds", Head: "LOGIN (s)", Kind: output.Number, Wide: true},
		{Key: "prompt_seconds", Head: "PROMPT (s)", Kind: output.Number, Wide: true},
		{Key: "version", Head: "VERSION"},
		{Key: "server_version", Head: "SERVER", Wide: true},
		{Key: "host_key_type", Head: "KEY TYPE", Wide: true},
		{Key: "host_key_sha256", Head: "FINGERPRINT", Wide: true},
	}}
}
