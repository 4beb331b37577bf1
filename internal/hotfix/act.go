package hotfix

import (
	"context"
	"errors"
	"fmt"
	"time"

	"capfleet/internal/device"
	"capfleet/internal/fault"
	"capfleet/internal/operation"
)

// progress says how far a once-only act came. It is remembered beside the runner's
// intent, which is written before anything is sent and so cannot tell a command
// that never left from one whose answer was lost.
type progress string

const (
	// notSent: the line was not typed. The act may be begun again.
	notSent progress = "not sent"
	// sending: the line may have been typed. Only the device knows.
	sending progress = "sending"
	// answered: the device answered, and not with an error.
	answered progress = "answered"
	// refused: the device answered with an error.
	refused progress = "refused"
	// unsettled: the device did not show in time whether the act was done, and a
	// person was asked to look. It is begun again when that person says so.
	unsettled progress = "unsettled"
)

// actRecord is what is remembered of an act.
type actRecord struct {
	Progress progress  `json:"progress"`
	At       time.Time `json:"at"`
	Answer   string    `json:"answer,omitempty"` // of the device, clipped
	// Retries is how often an operator had taken the device up again by then.
	Retries int `json:"retries,omitempty"`
}

// awaitsPerson reports whether the act was left to a person who has not taken it up
// yet: fleetd was killed before it could say so.
func (r actRecord) awaitsPerson(env operation.Env) bool {
	return r.Progress == unsettled && env.Retries() <= r.Retries
}

// maxAnswer bounds what is remembered of an answer, in bytes.
const maxAnswer = 2000

func actKey(step string) string { return "act/" + step }

// came gives how far a step's act came. An intent of which nothing is remembered
// was cut short before the line was typed: "sending" is remembered, durably, before
// that.
func came(env operation.Env, step string) (actRecord, error) {
	var r actRecord
	_, err := env.Recall(actKey(step), &r)
	return r, err
}

func note(ctx context.Context, env operation.Env, step string, p progress, answer string) error {
	if len(answer) > maxAnswer {
		answer = answer[:maxAnswer]
	}
	// What is known must be kept also when the work is told to stop just now.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTimeout)
	defer cancel()
	return env.Remember(ctx, actKey(step), actRecord{Progress: p, At: env.Now().UTC(), Answer: answer, Retries: env.Retries()})
}

const noteTimeout = 5 * time.Second

// send types a line that must not be typed twice and remembers how far it came. The
// output is that of the device; a refusal is an error of kind fault.Refused.
func send(ctx context.Context, env operation.Env, step string, s device.Session, cmd device.Command) (device.Output, error) {
	if err := ctx.Err(); err != nil {
		return device.Output{}, errors.Join(err, note(ctx, env, step, notSent, ""))
	}
	if err := note(ctx, env, step, sending, ""); err != nil {
		return device.Output{}, err
	}
	out, err := s.Run(ctx, cmd)
	state := answered
	switch {
	case err == nil:
	case fault.Is(err, fault.Refused):
		state = refused
	case out.Prompt == "" && s.Definition().Transport == device.TransportShell:
		// The prompt is that at which the line was typed: there was none.
		state = notSent
	default:
		return out, err // it may have been done
	}
	return out, errors.Join(err, note(ctx, env, step, state, out.Text))
}

// command makes a command of the definition ready to be typed.
func command(k device.HotfixCommand, n Names) device.Command {
	return device.Command{Line: lineOf(k, n), Mode: k.Mode, NewMode: k.EndsIn, Answers: k.Answers, Timeout: k.Worst}
}

// enterConfig brings the session into the mode that one has at a time. Somebody
// else who is in there is named, and pushed out only where the operator said so.
func enterConfig(ctx context.Context, s device.Session, dev *device.Device, mm *device.MaintenanceMode, takeover bool) (who string, err error) {
	def := s.Definition()
	if mm.ConfigMode == "" {
		return "", nil
	}
	mode, err := def.Shell.Mode(mm.ConfigMode)
	if err != nil || mode.From == "" {
		return "", err
	}
	cmd := device.Command{Line: mode.Enter, Mode: mode.From, NewMode: mode.Name}
	question, err := def.Shell.Question(mm.Takeover)
	asks := err == nil && mm.Takeover != ""
	if asks && takeover {
		cmd.Answers = map[string]string{question.Name: question.Yes}
	}
	out, err := s.Run(ctx, cmd)
	for _, q := range out.Questions {
		if asks && q == question.Name {
			who = firstLine(out.Text)
		}
	}
	if who != "" && fault.Is(err, fault.Refused) {
		return who, &fault.Error{Kind: fault.Conflict, Act: "enter configuration mode", Device: dev.Name, Stage: "config_mode",
			Err:  fmt.Errorf("somebody else is in it: %s", quote(who)),
			Next: "ask them to leave, or push them out with --takeover"}
	}
	return who, err
}
