package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"capfleet/internal/cli/output"
	"capfleet/internal/demo"
	"capfleet/internal/fault"
)

const envFile = "fleetctl.env"

// keepDemo leaves a demo running until ctx ends and tells a second terminal how
// to use it.
func (a *app) keepDemo(ctx context.Context, env *demo.Env, dir string, seen tour) error {
	file := filepath.Join(dir, envFile)
	bin, err := linkSelf(dir)
	if err != nil {
		return err
	}
	if err := output.WriteFile(file, envText(env.Socket(), bin)); err != nil {
		return fault.Wrap(fault.Storage, "write "+envFile, err)
	}
	a.remark(`
Fleet and fleetd go on until Ctrl-C. In a second terminal:
  . %s
  fleetctl device list
  fleetctl report software -o json
  fleetctl command run lon-probe-01 -- show version
  ssh -F %s lon-probe-01`,
		shellQuote(file), shellQuote(filepath.Join(dir, "ssh_config")))
	if seen.off != "" {
		a.remark(`To switch %s on and take it up again:
  fleetctl sim --dir %s --fault %s:none
  fleetctl job retry %s`, seen.off, shellQuote(dir), seen.off, seen.job)
	}
	if r := seen.rollout; r.faulty != "" {
		a.remark(`To see what became of %s, mend it by a reload and take the rollout up again:
  fleetctl job show %s --device %s
  fleetctl sim --dir %s --fault %s:none --fault %s:reboot
  fleetctl job retry %s`, r.faulty, r.job, r.faulty, shellQuote(dir), r.faulty, r.faulty, r.job)
	}
	select {
	case <-ctx.Done():
		a.remark("stopping")
		return nil
	case <-env.Stopped():
		return fault.New(fault.Internal, "fleetd stopped by itself; its log is in %s", dir)
	}
}

// linkSelf makes dir/bin/fleetctl this very program, so that a second terminal
// has it in its path even when `go run` built it somewhere. Where links cannot be
// made it gives the program's own directory.
func linkSelf(dir string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fault.Wrap(fault.Internal, "find fleetctl itself", err)
	}
	if runtime.GOOS == "windows" {
		return filepath.Dir(self), nil
	}
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(bin, 0o700); err != nil {
		return "", fault.Wrap(fault.Storage, "link fleetctl", err)
	}
	link := filepath.Join(bin, "fleetctl")
	if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
		return "", fault.Wrap(fault.Storage, "link fleetctl", err)
	}
	return bin, fault.Wrap(fault.Storage, "link fleetctl", os.Symlink(self, link))
}

// envText is fleetctl.env, for any POSIX shell.
func envText(socket, bin string) []byte {
	return fmt.Appendf(nil, `# Makes fleetctl work with the demo that wrote this file. Source it: . %s
FLEET_SERVER=%s
PATH=%s:$PATH
export FLEET_SERVER PATH
`, envFile, shellQuote(socket), shellQuote(bin))
}
