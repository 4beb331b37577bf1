package command

import (
	"time"

	"capfleet/internal/device"
	"capfleet/internal/transcript"
)

// Recording is what one device answered, as a sample for a template: with the
// prompt and the command, and cleaned.
type Recording struct {
	Device      string             `json:"device"`
	Platform    string             `json:"platform"`
	Command     string             `json:"command"`
	Mode        string             `json:"mode"` // "" is the platform's working mode
	Transcript  string             `json:"transcript"`
	Blanked     []transcript.Blank `json:"blanked"`
	CollectedAt time.Time          `json:"collected_at"`
}

func recording(dev *device.Device, s Spec, out device.Output, now time.Time) Recording {
	text, blanked := transcript.Clean(out.Transcript(), transcript.Known{
		Hosts: []string{dev.Name, dev.Host, dev.HAPeer}, Users: []string{dev.Credentials.Username}, Words: s.Blank, Prompt: out.Prompt,
	})
	if blanked == nil {
		blanked = []transcript.Blank{}
	}
	return Recording{Device: dev.Name, Platform: dev.Platform, Command: s.Command, Mode: s.Mode, Transcript: text, Blanked: blanked,
		CollectedAt: now.UTC().Truncate(time.Second)}
}
