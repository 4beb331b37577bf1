package check

import "time"

// State is how one stage of a check ended.
type State string

// States of a stage.
const (
	OK      State = "ok"
	Failed  State = "failed"
	Skipped State = "skipped" // an earlier stage that it needs failed
	NA      State = "n/a"     // the platform has no such thing
)

// Row is what a check of one device found. A figure that is not known is null.
type Row struct {
	Device   string `json:"device"`
	Platform string `json:"platform"`

	Reach   State `json:"reach"`
	HostKey State `json:"host_key"`
	Login   State `json:"login"`
	Prompt  State `json:"prompt"`
	SFTP    State `json:"sftp"`
	Exec    State `json:"exec"`
	Clock   State `json:"clock"`

	ConnectSeconds *float64 `json:"connect_seconds"` // until the server answered
	LoginSeconds   *float64 `json:"login_seconds"`
	PromptSeconds  *float64 `json:"prompt_seconds"` // until the command line was ready

	ServerVersion *string `json:"server_version"` // SSH identification
	HostKeyType   *string `json:"host_key_type"`
	HostKeySHA256 *string `json:"host_key_sha256"`
	Version       *string `json:"version"` // of the device's software
	// ClockOffsetSeconds is the device's clock less fleetd's; positive is ahead.
	// It is as exact as what the device prints: half a second where it prints
	// seconds.
	ClockOffsetSeconds *float64  `json:"clock_offset_seconds"`
	CollectedAt        time.Time `json:"collected_at"`
}

// stage gives the field of a stage.
func (r *Row) stage(name string) *State {
	switch name {
	case stageReach:
		return &r.Reach
	case stageHostKey:
		return &r.HostKey
	case stageLogin:
		return &r.Login
	case stagePrompt:
		return &r.Prompt
	case stageSFTP:
		return &r.SFTP
	case stageExec:
		return &r.Exec
	default:
		return &r.Clock
	}
}

// The stages of a check, in their order.
const (
	stageReach   = "reach"
	stageHostKey = "host_key"
	stageLogin   = "login"
	stagePrompt  = "prompt"
	stageSFTP    = "sftp"
	stageExec    = "exec"
	stageClock   = "clock"
)

func stages() []string {
	return []string{stageReach, stageHostKey, stageLogin, stagePrompt, stageSFTP, stageExec, stageClock}
}
