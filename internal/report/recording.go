package report

import (
	"context"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
	"capfleet/internal/transcript"
)

// Recording is what one command of a report printed, as a sample for its template:
// with the prompt and the command, and cleaned.
type Recording struct {
	Device   string `json:"device"`
	Platform string `json:"platform"`
	Report   string `json:"report"`
	Command  string `json:"command"`
	Mode     string `json:"mode"`     // "" is the platform's working mode
	Template string `json:"template"` // path in the tree, such as endace_osm/filesystem
	// Refused is set where the device answered an optional command with an error,
	// which is then the transcript. A report takes no notice of it.
	Refused     bool               `json:"refused"`
	Transcript  string             `json:"transcript"`
	Blanked     []transcript.Blank `json:"blanked"`
	CollectedAt time.Time          `json:"collected_at"`
}

// record runs the commands on one device and puts out what they printed.
func (o *operationReport) record(ctx context.Context, env operation.Env, dev *device.Device, spec Spec) (int, error) {
	_, how, err := o.find(dev, spec)
	if err != nil {
		return 0, err
	}
	session, err := env.Session(ctx, dev)
	if err != nil {
		return 0, err
	}
	for i := range how.commands {
		cmd := &how.commands[i]
		env.Progress(dev, int64(i), int64(len(how.commands)), "commands")
		out, err := session.Run(ctx, device.Command{Line: cmd.line, Mode: cmd.mode, Timeout: cmd.timeout})
		refused := cmd.optional && fault.Is(err, fault.Refused)
		if err != nil && !refused {
			return 0, about("run "+cmd.line, dev, "command", err)
		}
		text, blanked := transcript.Clean(out.Transcript(), transcript.Known{
			Hosts: []string{dev.Name, dev.Host, dev.HAPeer}, Users: []string{dev.Credentials.Username}, Words: spec.Blank, Prompt: out.Prompt,
		})
		if blanked == nil {
			blanked = []transcript.Blank{}
		}
		env.Row(dev, Recording{Device: dev.Name, Platform: dev.Platform, Report: spec.Report, Command: cmd.line, Mode: cmd.mode,
			Template: cmd.path, Refused: refused, Transcript: text, Blanked: blanked, CollectedAt: env.Now().UTC().Truncate(time.Second)})
	}
	return len(how.commands), nil
}
