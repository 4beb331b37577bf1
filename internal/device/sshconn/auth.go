package sshconn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"

	"capfleet/internal/fault"
	"capfleet/internal/secret"
)

// login takes one connection through authentication: keys first, then the
// agent's, then the password. It is driven by what the server still accepts, so
// that a server that wants a key and a password gets both, and it remembers
// that the password went out: whether it was refused by `password` or by
// `keyboard-interactive`, the other method does not try it again.
type login struct {
	ep       endpoint
	signers  []ssh.Signer
	password secret.String
	wire     *meter

	mu        sync.Mutex // the library calls back from its own goroutines
	keys      bool       // keys were offered
	asked     bool       // keyboard-interactive was begun
	sent      bool       // the password was sent
	signErr   error      // a key could not sign
	promptErr error      // a prompt was not answered
	refusal   *fault.Error
	accepted  []string // methods the server last said it accepts
	proven    bool     // the host key is
	hostKey   ssh.PublicKey
	keyErr    *hostKeyError
}

// next is the library's AuthCallback: the method to try now.
func (l *login) next(state *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accepted = slices.Clone(state.AllowedMethods)
	allowed := func(method string) bool { return slices.Contains(state.AllowedMethods, method) }
	switch {
	case l.wire.failure() != nil:
		// The library takes a cut line for one more refusal.
		l.refusal = l.hungUp(l.wire.failure())
		return nil, l.refusal
	case allowed("publickey") && len(l.signers) > 0 && !l.keys:
		l.keys = true
		return ssh.PublicKeys(l.signers...), nil
	case allowed("password") && !l.password.Empty() && !l.sent:
		l.sent = true
		return ssh.PasswordCallback(func() (string, error) { return l.password.Reveal(), nil }), nil
	case allowed("keyboard-interactive") && !l.password.Empty() && !l.sent && !l.asked:
		l.asked = true
		return ssh.KeyboardInteractive(l.answer), nil
	}
	l.refusal = l.refuse(len(state.PartialSuccessMethods) > 0)
	return nil, l.refusal
}

// passwordPrompt is what a question for the login password looks like;
// newPassword is one that wants it changed.
var (
	passwordPrompt = regexp.MustCompile(`(?i)pass\s?word|passwort|passwd|mot de passe|contrase`)
	newPassword    = regexp.MustCompile(`(?i)\b(new|neues|retype|repeat|again|verify|confirm|change)\b`)
)

// answer gives the password to the one hidden prompt that asks for it. Anything
// else (a token's code, a change of password, a second question) is not
// answered: a guess would count as a failed login.
func (l *login) answer(_, _ string, questions []string, echos []bool) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(questions) == 0 {
		return nil, nil // a message only
	}
	hidden := len(questions) == 1 && !echos[0]
	switch q := foreign(questions[0]); {
	case !hidden || !passwordPrompt.MatchString(q) || newPassword.MatchString(q):
		l.promptErr = fmt.Errorf("it asks %q, which is not answered", q)
	case l.sent:
		l.promptErr = fmt.Errorf("it asks for the password a second time (%q)", q)
	default:
		l.sent = true
		return []string{l.password.Reveal()}, nil
	}
	return nil, l.promptErr
}

// who names the login, not its secrets.
func (l *login) who() string {
	return fmt.Sprintf("user %s (credentials %s)", l.ep.creds.Username, l.ep.creds.Name)
}

// tried names what was offered.
func (l *login) tried() string {
	var tried []string
	if l.keys {
		for _, s := range l.signers {
			if cert, ok := s.PublicKey().(*ssh.Certificate); ok {
				tried = append(tried, describe(cert))
			}
		}
		tried = append(tried, "the keys")
	}
	if l.sent {
		tried = append(tried, "the password")
	}
	return strings.Join(tried, " and ")
}

// refuse words the end of all methods. The caller holds the lock.
func (l *login) refuse(partial bool) *fault.Error {
	methods := make([]string, 0, len(l.accepted))
	for _, m := range l.accepted {
		methods = append(methods, foreign(m))
	}
	accepts := strings.Join(methods, ", ")
	credentials := "credentials " + l.ep.creds.Name
	refused := func(next, format string, args ...any) *fault.Error {
		return l.ep.fail(fault.Auth, stageAuth, fmt.Errorf(l.who()+": "+format, args...), next)
	}
	switch {
	case l.signErr != nil:
		return refused("check the key and the agent", "a key could not sign: %w", l.signErr)
	case l.promptErr != nil:
		return refused("log in once by hand: the password may have expired, or a second factor is asked for", "%w", l.promptErr)
	case partial:
		return refused("add what is missing to "+credentials, "accepted in part, but it also wants %s", accepts)
	case l.tried() != "":
		return refused("check "+credentials+" in the inventory; it is not tried again by itself", "refused %s; it accepts %s", l.tried(), accepts)
	case len(l.signers) > 0:
		return refused("add a password to "+credentials, "it accepts %s, and there are only keys", accepts)
	default:
		return refused("add a private_key or agent: true to "+credentials, "it accepts %s, and there is only a password", accepts)
	}
}

// hungUp words a line that was cut during the login. Once something was offered
// that is a refusal: a server that locks accounts may hang up instead of
// answering, and taking it for a bad line would try the login again.
func (l *login) hungUp(err error) *fault.Error {
	if tried := l.tried(); tried != "" {
		return l.ep.fail(fault.Auth, stageAuth, fmt.Errorf("%s: it hung up after %s: %w", l.who(), tried, lostCause(err)),
			"check credentials "+l.ep.creds.Name+" in the inventory; it is not tried again by itself")
	}
	return l.ep.fail(fault.Unreachable, stageAuth, lostCause(err), l.ep.hint(stageAuth))
}

// failure words a handshake that failed.
func (l *login) failure(ctx context.Context, err error) *fault.Error {
	l.mu.Lock()
	defer l.mu.Unlock()
	stage := stageHandshake
	if l.proven {
		stage = stageAuth
	}
	algs, unmatched := errors.AsType[*ssh.AlgorithmNegotiationError](err)
	switch {
	case l.keyErr != nil:
		return l.ep.hostKeyFault(l.keyErr)
	case unmatched:
		return l.ep.negotiationFault(algs)
	case ctx.Err() != nil:
		return l.ep.ended(ctx, stage)
	case l.refusal != nil:
		return l.refusal
	case l.proven && strings.Contains(err.Error(), "disconnect, reason"):
		// The server said why it hangs up, for example too many failures.
		return l.hungUp(err)
	case l.proven:
		return l.hungUp(cmp.Or(l.wire.failure(), err))
	}
	told := lostCause(l.wire.failure())
	if f := l.wire.failure(); f == nil || errors.Is(f, net.ErrClosed) {
		told = errors.New(foreign(err.Error()))
	}
	return l.ep.fail(fault.Unreachable, stage, told, "it hung up before the login: it may limit connections, or is no SSH server")
}

// presented is the host key's type and fingerprint.
func (l *login) presented() (keyType, sha256 string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hostKey.Type(), ssh.FingerprintSHA256(l.hostKey)
}

// hostKeySeen is the library's HostKeyCallback. It also runs when keys are
// renewed later on.
func (l *login) hostKeySeen(hosts *knownHosts, key ssh.PublicKey) error {
	err := hosts.check(l.ep.host, l.ep.portOrDefault(), key)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hostKey = key
	if keyErr, ok := errors.AsType[*hostKeyError](err); ok {
		l.keyErr = keyErr
	}
	l.proven = err == nil
	return err
}

// noteSigner remembers that a key could not sign: the library goes on to the
// next method without a word.
type noteSigner struct {
	ssh.MultiAlgorithmSigner
	login *login
}

func (s *noteSigner) note(err error) {
	if err != nil {
		s.login.mu.Lock()
		s.login.signErr = errors.New(foreign(err.Error()))
		s.login.mu.Unlock()
	}
}
