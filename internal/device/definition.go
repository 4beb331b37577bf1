package device

import "regexp"

// Definition is what is believed about a platform. It is read from YAML
// (LoadDefinition), checked strictly, and can be replaced by an operator's own
// file of the same platform name. All patterns are Go (RE2) expressions.
//
// A Definition is immutable after loading and safe for concurrent use.
type Definition struct {
	Platform    string `yaml:"platform"`
	Description string `yaml:"description"`
	// Transport is "shell" (an interactive command line is the only way) or
	// "exec" (commands run over SSH exec, with exit status).
	Transport string `yaml:"transport"`

	Shell    ShellDefinition `yaml:"shell"`
	ReadOnly []string        `yaml:"read_only"` // globs of commands that `command run` allows without --unsafe
	Checks   Checks          `yaml:"checks"`
	Files    FilesDefinition `yaml:"files"`
	Proofs   Proofs          `yaml:"proofs"`
	Hotfix   *Hotfix         `yaml:"hotfix"` // nil where the platform has no such way
	// Dossier is what a dossier asks of a device, in the order in which one that is
	// about to die should be asked. It must only read: that is not checked.
	Dossier []DossierItem `yaml:"dossier"`
	Source  string        `yaml:"-"` // BuiltIn or the override's path

	memo *memo // set by LoadDefinition
}

// ShellDefinition describes an interactive command line.
type ShellDefinition struct {
	// Modes are the privilege levels, from least to most; their patterns must be
	// mutually exclusive (checked at load with each mode's examples).
	Modes []Mode `yaml:"modes"`
	// WorkingMode is where commands run unless they say otherwise.
	WorkingMode string `yaml:"working_mode"`
	// OnLogin are sent, in order, once the working mode is reached (paging off).
	OnLogin []string `yaml:"on_login"`
	// OnLoginOptional may be refused by the device without failing the login.
	OnLoginOptional []string `yaml:"on_login_optional"`
	// Varying is a pattern of the parts of a prompt that may change while connected
	// (a failover state, a mode). What it does not match must stay as it was at
	// login: that is how a prompt-like line inside output is told from the prompt.
	Varying string `yaml:"varying"`
	// Errors are patterns of output lines with which the device refuses a command.
	Errors []string `yaml:"errors"`
	// Questions the command line may ask instead of a prompt.
	Questions []Question `yaml:"questions"`
	// Pager is the pattern of a pager's prompt and what to type to go on.
	Pager *Pager `yaml:"pager"`
	// TerminalWidth and Height of the PTY that is asked for.
	TerminalWidth  int `yaml:"terminal_width"`
	TerminalHeight int `yaml:"terminal_height"`
	// Logout is what leaves the shell politely; the session is closed in any case.
	Logout string `yaml:"logout"`
}

// Mode is one privilege level and how it is entered and left.
type Mode struct {
	Name    string `yaml:"name"`
	Pattern string `yaml:"pattern"` // of the whole last line
	// Examples are prompts of this mode; the loader checks that this pattern, and
	// no other mode's, matches each of them.
	Examples []string `yaml:"examples"`
	// From is the mode one step below; Enter is typed there to come here and Leave
	// is typed here to go back.
	From  string `yaml:"from"`
	Enter string `yaml:"enter"`
	Leave string `yaml:"leave"`
	// Secret is "enable" (SecretEnable) where Enter may ask for the enable password,
	// with the question of the name "password" (QuestionPassword).
	Secret string `yaml:"secret"`
}

// Question is something that a device asks and waits on.
type Question struct {
	Name    string `yaml:"name"`
	Pattern string `yaml:"pattern"` // of the last line while the device waits; need not match all of it
	Safe    string `yaml:"safe"`    // the answer that changes nothing
	Yes     string `yaml:"yes"`     // the answer that agrees; only sent when a command asks for it
}

// Pager is a "--More--" prompt.
type Pager struct {
	Pattern string `yaml:"pattern"`
	Next    string `yaml:"next"`
}

// Checks are the commands of `device check`.
type Checks struct {
	// Clock is a command that prints the device's time, and the layout of it.
	Clock       string `yaml:"clock"`
	ClockLayout string `yaml:"clock_layout"` // Go layout of the matched text
	ClockMatch  string `yaml:"clock_match"`  // pattern whose first group is the time
	// Version is a command that prints the software version, and the pattern.
	Version      string `yaml:"version"`
	VersionMatch string `yaml:"version_match"`
}

// PromptExpr compiles a prompt pattern anchored to a whole line, so that no
// definition can forget it.
func PromptExpr(pattern string) (*regexp.Regexp, error) {
	return regexp.Compile(`\A(?:` + pattern + `)\z`)
}
